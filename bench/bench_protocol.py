"""One `classic` vote through machine, driver and executor, against the same calls by hand.

Client and memcached share one core: to wake another takes longer than a whole command, and that
varies more than what is compared here.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Final

from pymemcache.client.base import Client

from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.history.journal import Journal, Role
from harness.plan import MemcachedPlan
from harness.protocol.classic import enqueue
from harness.protocol.drive import drive
from harness.protocol.queue import Queue
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor

VOTES: Final = 100  # some 10 ms: most rounds are then over before anything else runs
ROUNDS: Final = 501
MESSAGE: Final = b"0001000000000001 2 town-hall v0001000000000001"
TIMEOUT_S: Final = 1.0  # for both: without one, a stopped memcached would stop the site
PATIENCE_NS: Final = 10**9
QUEUE: Final = Queue.named("poll-queue")


def vote_by_hand() -> list[Figure]:
    with started_memcached() as (_, address):
        executor = MemcachedExecutor(
            [MetaClient(address, TIMEOUT_S)], Role.SITE, PATIENCE_NS, None, None
        )
        host, _, port = address.rpartition(":")
        by_hand = Client(
            (host, int(port)),
            connect_timeout=TIMEOUT_S,
            timeout=TIMEOUT_S,
            no_delay=True,
            default_noreply=False,
        )
        rounds = in_turn(lambda: through(executor), lambda: handwritten(by_hand), ROUNDS)
    other = "hand-written pymemcache calls"
    return [figure("protocol.vote", "µs/vote", other, rounds, Target("ratio", "<=", 1.05))]


def vote_with_journal() -> list[Figure]:
    with started_memcached() as (folder, address):
        client = MetaClient(address, TIMEOUT_S)
        plain = MemcachedExecutor([client], Role.SITE, PATIENCE_NS, None, None)
        journal = Journal(folder, Role.SITE)
        journaled = MemcachedExecutor([client], Role.SITE, PATIENCE_NS, journal, None)
        rounds = in_turn(lambda: through(journaled), lambda: through(plain), ROUNDS)
    return [figure("protocol.journal", "µs/vote", "without a journal", rounds)]


@contextmanager
def started_memcached() -> Iterator[tuple[Path, str]]:
    """A scratch folder, and the address of a memcached on the same core as this process."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with Supervisor() as supervisor, tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            server = start_memcached(supervisor, MemcachedPlan(), folder / "memcached.log")
            yield folder, server.address
    finally:
        os.sched_setaffinity(0, before)


def through(executor: MemcachedExecutor) -> float:
    """Microseconds per vote through the protocol."""
    begin = perf_counter()
    for _ in range(VOTES):
        drive(enqueue(QUEUE, [MESSAGE]), executor.execute)
    return (perf_counter() - begin) / VOTES * 1e6


def handwritten(client: Client) -> float:
    """Microseconds per vote by the calls that one would write without the protocol."""
    begin = perf_counter()
    for _ in range(VOTES):
        while True:
            lock = client.incr("poll-queue-lock", 1)
            if lock is None:
                client.set("poll-queue-lock", b"1")
                client.set("poll-queue-curr", b"0")
                break
            if lock == 1:
                break
            sleep(0.001)
        slot = client.incr("poll-queue-curr", 1)
        client.set(f"poll-queue-key-{slot}", MESSAGE)
        client.set("poll-queue-lock", b"0")
    return (perf_counter() - begin) / VOTES * 1e6


MEASUREMENTS: Final = (
    Measurement(("protocol.vote",), vote_by_hand),
    Measurement(("protocol.journal",), vote_with_journal),
)
