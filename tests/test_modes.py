"""Modes and the flusher on real memcached and MariaDB, without HTTP."""

import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from harness.armed import ArmedPage
from harness.cache.meta_client import MetaClient
from harness.deployment import Deployment
from harness.errors import Exit, Interrupted, PlanError, RecordingError
from harness.fault import Fault
from harness.faults.timetable import Timetable, applicable
from harness.history.journal import Journal, Role
from harness.history.recorder import RECORDING_FAILED, Recorder
from harness.modes.hands import ARMED_PAGE
from harness.modes.mode import Answer, find_mode, known_modes, require_memcached
from harness.modes.queues import terms
from harness.plan import Plan, QueuePlan, Site
from harness.protocol.queue import AfterPatience, DrainEnd, Terms
from harness.services.interruption import interruptible
from harness.services.memcached import MemcachedServer
from tests.deployed import PLAN, POLL, await_hit, counted, flush, reach, session, vote, voter


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
def test_totals_kept_before_a_poll_had_other_choices_are_not_shown(deployment: Deployment):
    with session(deployment, "classic") as site:
        assert site.totals(POLL).counts == (0, 0, 0)
        assert site.totals(POLL._replace(choices=("Yes", "No"))).counts == (0, 0)


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
    """The whole way of a fault: armed, met by a real process, healed, recorded, and deadly."""
    page = ArmedPage.create(tmp_path / ARMED_PAGE)
    fault = Fault(kind="pause", target="lock-holder", at_s=0.0, for_s=2.5)
    timetable = Timetable((fault,), reach(deployment, page, memcached))
    timetable.begin(time.monotonic_ns())
    holder = voter(deployment, "classic", tmp_path)
    await_hit(page)
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
def test_a_fault_that_meets_nothing_says_so(deployment: Deployment, tmp_path: Path):
    page = ArmedPage.create(tmp_path / "page")
    faults = (
        Fault(kind="pause", target="lock-holder", at_s=0.0, for_s=0.1),
        Fault(kind="wipe", at_s=0.0),
        Fault(kind="wipe", at_s=60.0),
    )
    timetable = Timetable(faults, reach(deployment, page))
    timetable.begin(time.monotonic_ns())
    time.sleep(0.05)
    assert [record.hit for record in timetable.heal()] == [False, False, False]
    assert page.steps[: 3 << 8] == bytes(3 << 8)  # nothing stays armed


def test_faults_without_a_target_in_the_mode_are_left_out():
    pause = Fault(kind="pause", target="lock-holder", at_s=0.0, for_s=1.0)
    wipe = Fault(kind="wipe", at_s=0.0, modes=("classic",))
    assert applicable((pause, wipe), "direct", queues=False) == ()
    assert applicable((pause, wipe), "classic", queues=True) == (pause, wipe)


def test_too_few_memcached_daemons_are_a_plan_error(tmp_path: Path):
    alone = Deployment(
        plan=PLAN, mode="mirrored", memcached=("127.0.0.1:1",), database="mysql://u@h/n",
        folder=str(tmp_path),
    )  # fmt: skip
    require_memcached(find_mode("direct"), 0)
    with pytest.raises(PlanError, match="mode cached needs one memcached, and none is given"):
        require_memcached(find_mode("cached"), 0)
    mode = find_mode("mirrored")
    with pytest.raises(PlanError, match="mode mirrored needs 2 memcached daemons, and 1 is given"):
        mode.session(alone, None)
    with pytest.raises(PlanError, match="mode mirrored needs 2"):
        mode.drain(alone, None)
    path = tmp_path / "deployment.json"
    alone.write(path)
    for module in ("harness.flusher", "harness.site"):
        started = subprocess.run(
            [sys.executable, "-m", module, str(path)], capture_output=True, text=True, check=False
        )
        assert started.returncode == Exit.USAGE, started.stderr
        assert "needs 2 memcached daemons" in started.stderr
        assert "Traceback" not in started.stderr


def test_an_address_that_is_none_is_told_when_a_deployment_is_read(tmp_path: Path):
    path = tmp_path / "deployment.toml"
    path.write_text(
        'mode = "classic"\nmemcached = ["localhost"]\ndatabase = "mysql://u@h/n"\nfolder = "x"\n'
        '[plan]\nscenario = "test"\n'
    )
    with pytest.raises(PlanError, match="memcached 'localhost': write host:port"):
        Deployment.read(path)


def test_a_folder_that_cannot_be_made_is_one_line_of_site_and_flusher(tmp_path: Path):
    (tmp_path / "file").touch()
    deployment = Deployment(
        plan=PLAN, mode="direct", memcached=("127.0.0.1:1",), database="mysql://u@h/n",
        folder=str(tmp_path / "file" / "below"),
    )  # fmt: skip
    path = tmp_path / "deployment.json"
    deployment.write(path)
    for module in ("harness.flusher", "harness.site"):
        started = subprocess.run(
            [sys.executable, "-m", module, str(path)], capture_output=True, text=True, check=False
        )
        assert started.returncode == Exit.USAGE, started.stderr
        assert started.stderr.count("\n") == 1
        assert "Not a directory; name one we may write to" in started.stderr


def install(module: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `somebody` whose mode `mine` that is."""
    imports = (
        "from harness.protocol import direct\n"
        "from harness.modes.protocol_mode import ProtocolMode\n"
    )
    (folder / "somebody.py").write_text(imports + module)
    metadata = folder / "somebody-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: somebody\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[pollstorm.modes]\nmine = somebody:Mine\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "somebody", raising=False)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("class Mine:\n    name = 'mine'\n    promises = True\n    queues = False\n"
         "    def session(self, deployment, journal): ...\n",
         "has no protocol, no drain, no excuses"),
        ("class Mine(ProtocolMode):\n    name = 'mine'\n", "cannot be loaded.*abstract"),
        ("class Mine(ProtocolMode):\n    name = 'mine'\n    excuses = ('wpie',)\n"
         "    def protocol(self, terms): return direct.protocol(terms)\n", "has no excuses"),
        ("class Mine(ProtocolMode):\n    name = 'yours'\n"
         "    def protocol(self, terms): return direct.protocol(terms)\n",
         "calls itself 'yours'"),
        ("raise RuntimeError('no such licence')", "cannot be loaded.*no such licence"),
        ("class Mine(ProtocolMode):\n    name = 'mine'\n"
         "    def protocol(self): return direct.protocol(None)\n", "cannot be loaded.*TypeError"),
        ("class Mine(ProtocolMode):\n    name = 'mine'\n    excuses = (['wipe'],)\n"
         "    def protocol(self, terms): return direct.protocol(terms)\n", "has no excuses"),
    ],
    ids=["before excuses", "abstract", "no such fault", "another name", "broken", "no terms",
         "excuses in a list"],
)  # fmt: skip
def test_a_mode_of_somebody_else_that_does_not_fit_is_one_line(
    module: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install(module, tmp_path, monkeypatch)
    with pytest.raises(PlanError, match=says) as told:
        find_mode("mine")
    assert "\n" not in str(told.value)


def test_a_signal_while_a_mode_is_loaded_is_not_the_modes_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install("import signal\nsignal.raise_signal(signal.SIGTERM)\n", tmp_path, monkeypatch)
    with interruptible(), pytest.raises(Interrupted):
        find_mode("mine")


def test_the_plans_terms_are_those_of_the_protocols():
    site = Site(workers=3, threads=10)
    queue = QueuePlan(patience_s=0.5, after_patience="refuse", slot_grace_s=0.01)
    laid_down = terms(Plan(scenario="test", site=site, queue=queue))
    assert laid_down == Terms(AfterPatience.REFUSE, 0.5, 2 * 30 + 64, 10_000_000, 60)
