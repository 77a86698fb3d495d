"""memcached short of memory: what nobody reads is pushed out, or what comes is refused."""

import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cache.meta_client import MetaClient
from harness.fault import Fault
from harness.faults import squeeze
from harness.faults.fault import Reach
from harness.plan import FlusherPlan, MemcachedPlan, Plan
from harness.protocol.commands import Status
from harness.protocol.queue import Queue
from harness.services.memcached import MemcachedServer, client_of, start_memcached
from harness.services.processes import Supervisor

pytestmark = pytest.mark.services

QUEUE = Queue.named("test-queue")
VOTE = b"%016x 1 controversial-poll v%016x" % (1 << 48, 1 << 48)
FAULT = Fault(kind="squeeze", at_s=0, for_s=1.0)


@pytest.fixture(params=[True, False], ids=["evict", "refuse"])
def daemon(supervisor: Supervisor, logs: Path, request: pytest.FixtureRequest):
    """One of its own, with a queue in it; `plan` beside it."""
    plan = Plan(
        scenario="test", memcached=MemcachedPlan(evict=request.param), flusher=FlusherPlan()
    )
    server = start_memcached(supervisor, plan.memcached, logs / "squeezed.log")
    with closing(MetaClient(server.address, 1.0)) as client:
        client.meta_set(QUEUE.pointer.name, b"100")
        for number in range(100):
            client.meta_set(QUEUE.slot(number).name, VOTE)
        yield server, plan, client
    server.stop()


def reach(server: MemcachedServer, plan: Plan) -> Reach:
    stack = SimpleNamespace(memcached=(server,), deployment=SimpleNamespace(plan=plan))
    return Reach(stack)  # type: ignore[arg-type]


def left_of(client: MetaClient) -> int:
    return sum(client.meta_get(QUEUE.slot(n).name).status is Status.OK for n in range(100))


def test_queued_votes_are_pushed_out_or_with_m_new_ones_refused(daemon):
    server, plan, client = daemon
    stored: list[Status] = []

    def vote_on() -> None:
        for number in range(100, 108):
            stored.append(client.meta_set(QUEUE.slot(number).name, VOTE).status)
            ended.wait(0.1)

    ended = threading.Event()
    voter = threading.Thread(target=vote_on)
    voter.start()
    met = squeeze.start(FAULT, reach(server, plan))
    voter.join()
    assert met is not None
    if plan.memcached.evict:
        assert "items evicted for want of memory" in met.detail
        assert set(stored) == {Status.OK}
        assert left_of(client) == 0
    else:
        assert "stores refused for want of memory" in met.detail
        assert Status.REFUSED in stored
        assert left_of(client) == 100


def test_it_is_healed_afterwards(daemon):
    server, plan, client = daemon
    squeeze.start(FAULT, reach(server, plan))
    assert client.meta_set(QUEUE.slot(1).name, VOTE).status is Status.OK
    assert left_of(client) >= 1
    with closing(client_of(server.address)) as asking:
        told = asking.stats()
    assert told[b"limit_maxbytes"] == plan.memcached.memory_mib * squeeze.MIB
    assert told[b"curr_items"] <= 110, "the ballast is gone"


def test_the_loads_end_heals_it_early(daemon):
    server, plan, _ = daemon
    trial = reach(server, plan)
    threading.Timer(0.3, trial.ended.set).start()
    squeeze.start(Fault(kind="squeeze", at_s=0, for_s=600.0), trial)
    with closing(client_of(server.address)) as asking:
        assert asking.stats()[b"limit_maxbytes"] == plan.memcached.memory_mib * squeeze.MIB


def test_a_daemon_with_room_for_everything_was_not_squeezed(daemon, monkeypatch):
    """It says so, and the run is not counted as one with that fault."""
    server, plan, _ = daemon
    monkeypatch.setattr(squeeze, "TURNS_PER_DRAIN", 0.001)
    assert squeeze.start(FAULT, reach(server, plan)) is None


@pytest.mark.parametrize(("evict", "says"), [(True, "items evicted"), (False, "stores refused")])
def test_a_daemon_that_nobody_uses_can_be_squeezed_too(
    supervisor: Supervisor, logs: Path, evict: bool, says: str
):
    """`direct` puts nothing there, so there is no size of item to go by."""
    plan = Plan(scenario="test", memcached=MemcachedPlan(evict=evict))
    server = start_memcached(supervisor, plan.memcached, logs / "unused.log")
    met = squeeze.start(FAULT, reach(server, plan))
    server.stop()
    assert met is not None
    assert says in met.detail
