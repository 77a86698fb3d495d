"""Witnesses over real sockets: each kind of trouble, in a memcached of others, and without one."""

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from harness.exploration import search
from harness.exploration.bounds import Bounds
from harness.exploration.report import describe
from harness.exploration.witness import Witness, read_witness, save_witness
from harness.plan import MemcachedPlan
from harness.protocol import classic, mirrored, ticket
from harness.protocol.queue import Terms
from harness.replay import Replay, Replayed
from harness.services.memcached import client_of, start_memcached
from harness.services.processes import Supervisor
from tests.mutants import with_passage

pytestmark = pytest.mark.services

TOMBSTONES_DELETED = (
    ticket,
    "            messages.append(slot.value)\n            taken.append(number)\n",
    "            messages.append(slot.value)\n        taken.append(number)\n",
)
ANY_POINTER = (
    ticket,
    "stored, pointer = (yield Pipeline(filling)).parts",
    "(stored,), pointer = (yield Pipeline(filling[:1])).parts, ticket",
)
NO_CLOCK = (ticket, "if in_time and still_there", "if still_there")
ONE_COPY = (
    mirrored,
    "if receipt is not Receipt.QUEUED:",
    "if daemon == 0 and receipt is not Receipt.QUEUED:",
)
LOSSES = {
    "a tombstone deleted": (TOMBSTONES_DELETED, {"writers": 1}, ""),
    "a wipe": (ANY_POINTER, {"writers": 2, "wipe": True}, "wiped: daemon 0"),
    "a tombstone expired": (NO_CLOCK, {"writers": 1, "expire_tombstones": True}, "tombstones"),
    "a cold start": (TOMBSTONES_DELETED, {"writers": 1, "cold": True}, ""),
    "one of two daemons wiped": (
        ONE_COPY,
        {"writers": 1, "wipe": True, "lost_reply": True},
        "wiped",
    ),
}


def witness_of(folder: Path, protocol_of, **bounds) -> Witness:
    """A loss, as it comes back from its file."""
    space, finding = search.explore(protocol_of, Bounds(**bounds))
    save_witness(describe("mutant", space, finding), folder / "loss.json")
    return read_witness(folder / "loss.json")


@pytest.mark.parametrize("prefix", ["queue", "pollstorm-replay-of-a-test"])
@pytest.mark.parametrize("trouble", LOSSES)
def test_real_daemons_lose_what_a_protocol_without_one_of_its_steps_loses(
    tmp_path, memcached, mirror, trouble, prefix
):
    passage, bounds, event = LOSSES[trouble]
    protocol_of = with_passage(*passage).protocol
    witness = witness_of(tmp_path, protocol_of, **bounds)
    assert any(event in row.event for row in witness.schedule)
    addresses = [memcached.address, mirror.address]
    protocol = protocol_of(Terms(writers=witness.bounds.writers))
    replay = Replay(witness, protocol, addresses[: protocol.daemons], prefix=prefix)
    assert replay.run() == Replayed(witness.lost, witness.doubled)


def test_in_a_memcached_of_others_nothing_is_changed_and_nothing_stays(tmp_path, supervisor):
    memcached = start_memcached(supervisor, MemcachedPlan(), tmp_path / "log")  # holds nothing
    witness = witness_of(tmp_path, classic.protocol, takeovers=0, wipe=True)
    with closing(client_of(memcached.address)) as others:
        others.set("theirs", b"kept", noreply=False)
        protocol = classic.protocol(Terms())
        replayed = Replay(witness, protocol, [memcached.address], prefix="ours").run()
        assert replayed == Replayed(witness.lost, witness.doubled)
        assert others.get("theirs") == b"kept"
        assert others.stats()[b"curr_items"] == 1
    memcached.stop()


def test_a_memcached_that_stands_still_or_is_gone_is_a_disagreement_and_soon(tmp_path):
    witness = witness_of(tmp_path, classic.protocol, writers=1)
    protocol = classic.protocol(Terms())
    with Supervisor() as supervisor:
        server = start_memcached(supervisor, MemcachedPlan(), tmp_path / "memcached.log")
        os.kill(server.child.pid, signal.SIGSTOP)
        told = Replay(witness, protocol, [server.address]).run()
        os.kill(server.child.pid, signal.SIGCONT)
        assert told.disagreement == "step 1, writer 1: incr lock gave lost, not 1"
        server.stop()
        told = Replay(witness, protocol, [server.address]).run()
        assert told.disagreement == "step 1, writer 1: incr lock gave unreachable, not 1"
