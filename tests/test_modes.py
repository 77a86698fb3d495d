"""The three modes and the flusher on real memcached and MariaDB, without HTTP."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from harness.armed import ArmedPage
from harness.cache.meta_client import MetaClient
from harness.database import schema
from harness.database.ballots import read_ballots
from harness.errors import Exit, PlanError, RecordingError
from harness.faults.fault import Reach
from harness.faults.timetable import Timetable, applicable
from harness.history.journal import Journal, Role
from harness.history.recorder import RECORDING_FAILED, Recorder
from harness.modes.hands import ARMED_PAGE
from harness.modes.mode import Answer, Session, find_mode, known_modes
from harness.plan import Deployment, Fault, Plan, QueuePlan
from harness.protocol.queue import DrainEnd
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer
from harness.vote import Vote, mint

PLAN = Plan(scenario="test", queue=QueuePlan(prefix="test-queue", patience_s=0.05))
POLL = PLAN.poll.poll()


def vote(number: int, choice: int = 1) -> Vote:
    return Vote(mint(0, number), POLL.name, choice, "v")


@pytest.fixture
def deployment(
    memcached: MemcachedServer, mariadb: MariadbServer, tmp_path: Path
) -> Iterator[Deployment]:
    memcached.wipe()
    schema.create(mariadb.url, POLL)
    yield Deployment(
        plan=PLAN,
        mode="classic",
        memcached=(memcached.address,),
        database=mariadb.url,
        folder=str(tmp_path),
    )
    schema.drop(mariadb.url)


def session(deployment: Deployment, mode: str) -> "closing[Session]":
    return closing(find_mode(mode).session(deployment, None))


def counted(deployment: Deployment) -> dict[int, int]:
    frame = read_ballots(deployment.database, 5.0)
    return dict(zip(frame["vote"].tolist(), frame["deliveries"].tolist(), strict=True))


def flush(deployment: Deployment) -> int:
    """Run a real flusher until it has seen the queue empty; its exit code."""
    path = Path(deployment.folder) / "flusher.json"
    deployment.write(path)
    ready = Path(deployment.folder) / "flusher.ready"
    ready.unlink(missing_ok=True)
    flusher = subprocess.Popen([sys.executable, "-m", "harness.flusher", str(path)])
    until_s = time.monotonic() + 10
    while not ready.exists() and time.monotonic() < until_s:
        time.sleep(0.01)
    flusher.terminate()
    return flusher.wait(20)


def test_modes_are_found_by_entry_point_and_the_nearest_is_named():
    assert known_modes() == ["cached", "classic", "direct", "mirrored", "owned", "ticket"]
    assert find_mode("cached").name == "cached"
    with pytest.raises(PlanError, match="did you mean 'classic'"):
        find_mode("clasic")


@pytest.mark.services
@pytest.mark.parametrize("mode", ["direct", "cached"])
def test_a_stored_vote_is_in_the_database_at_once(deployment: Deployment, mode: str):
    with session(deployment, mode) as site:
        assert site.accept(vote(1)) is Answer.STORED
        assert site.accept(vote(1)) is Answer.STORED
        assert site.accept(vote(1, choice=2)) is Answer.CONFLICT
    assert counted(deployment) == {vote(1).vote_id: 2}


@pytest.mark.services
def test_direct_counts_at_once_and_cached_totals_lag(deployment: Deployment):
    with session(deployment, "direct") as direct, session(deployment, "cached") as cached:
        assert cached.totals(POLL).counts == (0, 0, 0)
        direct.accept(vote(1, choice=3))
        assert direct.totals(POLL).counts == (0, 0, 1)
        assert cached.totals(POLL).counts == (0, 0, 0)


@pytest.mark.services
def test_a_queued_vote_is_counted_by_the_flusher_which_refreshes_the_totals(
    deployment: Deployment,
):
    with session(deployment, "classic") as site:
        assert site.totals(POLL).counts == (0, 0, 0)
        for number in range(5):
            assert site.accept(vote(number, choice=2)) is Answer.QUEUED
        assert counted(deployment) == {}
        assert flush(deployment) == Exit.OK
        assert counted(deployment) == {vote(n).vote_id: 1 for n in range(5)}
        assert site.totals(POLL).counts == (0, 5, 0)


@pytest.mark.services
def test_without_memcached_votes_and_totals_come_from_the_database(deployment: Deployment):
    alone = msgspec.structs.replace(deployment, memcached=("127.0.0.1:1",))
    with session(alone, "classic") as site:
        assert site.accept(vote(1)) is Answer.STORED
        assert site.totals(POLL).counts == (1, 0, 0)
    assert counted(deployment) == {vote(1).vote_id: 1}


@pytest.mark.services
def test_without_memcached_the_flusher_does_not_call_the_queue_empty(deployment: Deployment):
    limits = msgspec.structs.replace(PLAN.limits, drain_s=0.3)
    plan = msgspec.structs.replace(PLAN, limits=limits)
    alone = msgspec.structs.replace(deployment, plan=plan, memcached=("127.0.0.1:1",))
    assert flush(alone) == Exit.INCONCLUSIVE


@pytest.mark.services
@pytest.mark.parametrize(
    ("after", "answer"),
    [("takeover", Answer.QUEUED), ("fallback", Answer.STORED), ("refuse", Answer.REFUSED)],
)
def test_when_patience_ends_the_plan_decides(
    deployment: Deployment, memcached: MemcachedServer, after: str, answer: Answer
):
    queue = msgspec.structs.replace(PLAN.queue, after_patience=after)
    plan = msgspec.structs.replace(PLAN, queue=queue)
    with closing(MetaClient(memcached.address, 1.0)) as other:
        other.meta_set("test-queue-lock", b"1")
        other.meta_set("test-queue-curr", b"0")
    with session(msgspec.structs.replace(deployment, plan=plan), "classic") as site:
        assert site.accept(vote(1)) is answer


@pytest.mark.services
def test_several_queues_are_all_filled_and_all_drained(
    deployment: Deployment, memcached: MemcachedServer
):
    queue = msgspec.structs.replace(PLAN.queue, queues=3)
    many = msgspec.structs.replace(deployment, plan=msgspec.structs.replace(PLAN, queue=queue))
    with session(many, "classic") as site, closing(MetaClient(memcached.address, 1.0)) as other:
        for number in range(6):
            site.accept(vote(number))
        pointers = [other.meta_get(f"test-queue{n}-curr").number for n in ("", "-1", "-2")]
    assert pointers == [2, 2, 2]
    assert flush(many) == Exit.OK
    assert len(counted(many)) == 6


@pytest.mark.services
def test_a_message_that_is_no_vote_does_not_stop_the_drain(
    deployment: Deployment, memcached: MemcachedServer
):
    with session(deployment, "classic") as site, closing(MetaClient(memcached.address, 1.0)) as a:
        site.accept(vote(1))
        a.meta_set("test-queue-key-2", b"\xff rubbish")
        a.meta_set("test-queue-curr", b"2")
    assert flush(deployment) == Exit.OK
    assert counted(deployment) == {vote(1).vote_id: 1}


@pytest.mark.services
def test_a_disk_that_fills_during_a_drain_costs_the_journal_and_no_vote(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with session(deployment, "classic") as site:
        for number in range(3):
            site.accept(vote(number))
    records = iter(range(4))  # the disk is full after so many: in the midst of reading the slots
    reserve = Recorder.reserve

    def limited(recorder: Recorder) -> int:
        if next(records, None) is None:
            raise RecordingError("cannot record")
        return reserve(recorder)

    monkeypatch.setattr(Recorder, "reserve", limited)
    with closing(
        find_mode("classic").drain(deployment, Journal(tmp_path, Role.FLUSHER))
    ) as flusher:
        assert flusher.drain(0).end is DrainEnd.COMMITTED
    assert len(counted(deployment)) == 3
    assert (tmp_path / RECORDING_FAILED).read_text() == "cannot record\n"


@pytest.mark.services
def test_a_paused_lock_holder_is_overtaken_and_its_late_vote_is_lost(
    deployment: Deployment, memcached: MemcachedServer, tmp_path: Path
):
    """The whole way of a fault: armed, met by a real process, healed, recorded, and deadly.

    The holder is a thread beside the main one on one core, as in the site: a stop that another
    thread has to carry out comes after the holder has left the lock.
    """
    page = ArmedPage.create(tmp_path / ARMED_PAGE)
    fault = Fault(kind="pause", target="lock-holder", at_s=0.0, for_s=2.5)
    timetable = Timetable((fault,), Reach(page, memcached.wipe))
    timetable.begin(time.monotonic_ns())
    path = tmp_path / "holder.json"
    deployment.write(path)
    program = (
        "import os, sys, threading; from pathlib import Path\n"
        "from harness.plan import Deployment\n"
        "from harness.modes.mode import find_mode; from harness.vote import Vote, mint\n"
        "deployment = Deployment.read(Path(sys.argv[1]))\n"
        "vote = Vote(mint(0, 1), deployment.plan.poll.name, 1, 'v')\n"
        "session = find_mode('classic').session(deployment, None)\n"
        "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
        "voter = threading.Thread(target=lambda: print(session.accept(vote).name))\n"
        "voter.start(); voter.join()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    until_s = time.monotonic() + 10
    while not page.hits() and time.monotonic() < until_s:
        time.sleep(0.005)
    (hit,) = page.hits()
    assert (hit.pid, hit.signal) == (holder.pid, signal.SIGSTOP)
    assert flush(deployment) == Exit.OK  # it takes over, and resets the pointer
    answer, _ = holder.communicate(timeout=10)
    (record,) = timetable.heal()
    assert answer == b"QUEUED\n"
    assert record.hit
    assert 2.5 <= record.end_s - record.start_s < 5
    assert flush(deployment) == Exit.OK
    assert counted(deployment) == {}


@pytest.mark.services
def test_a_fault_that_meets_nothing_says_so(tmp_path: Path):
    page = ArmedPage.create(tmp_path / "page")
    faults = (
        Fault(kind="pause", target="lock-holder", at_s=0.0, for_s=0.1),
        Fault(kind="wipe", at_s=0.0),
        Fault(kind="wipe", at_s=60.0),
    )
    timetable = Timetable(faults, Reach(page, None))
    timetable.begin(time.monotonic_ns())
    time.sleep(0.05)
    assert [record.hit for record in timetable.heal()] == [False, False, False]
    assert page.steps[: 3 << 8] == bytes(3 << 8)  # nothing stays armed


def test_faults_without_a_target_in_the_mode_are_left_out():
    pause = Fault(kind="pause", target="lock-holder", at_s=0.0, for_s=1.0)
    wipe = Fault(kind="wipe", at_s=0.0, modes=("classic",))
    assert applicable((pause, wipe), "direct", queues=False) == ()
    assert applicable((pause, wipe), "classic", queues=True) == (pause, wipe)
