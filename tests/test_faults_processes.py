"""`kill` and `pause` of every process at every step, over real services.

Votes are cast one after another while the fault is on; afterwards what was acknowledged is held
against the ballots.
"""

import http.client
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.armed import MAX_HITS, ArmedPage
from harness.audit.verdict import promise_voids
from harness.database.ballots import BEFORE_INSERT
from harness.errors import PlanError
from harness.fault import STEPS, Fault, amounts_to, overlap
from harness.faults import kill
from harness.faults.aim import ARMED, LOCK_HOLDER, READ_SLOT, RESET, TICKET_HOLDER
from harness.faults.fault import Reach
from harness.faults.timetable import Timetable, applicable
from harness.modes.mode import find_mode
from harness.plan import FlusherPlan, Plan, QueuePlan, Site, check
from harness.report.sentences import fault_sentence
from harness.result import FaultRecord
from harness.run_folder import TrialFacts
from harness.services.processes import Supervisor
from harness.services.stack import Stack, start_stack
from harness.services.targets import Existing
from tests.test_services_stack import ballots, cast

DOWN_S = 0.2
MEETS_WITHIN_S = 15.0
ACKNOWLEDGED = (201, 202)
PLAN = Plan(
    scenario="test",
    site=Site(workers=2, threads=4),
    queue=QueuePlan(patience_s=0.2),
    flusher=FlusherPlan(interval_s=0.1),
)


@contextmanager
def running(supervisor: Supervisor, mode: str, folder: Path) -> Iterator[Stack]:
    with start_stack(supervisor, PLAN, find_mode(mode), folder, folder, Existing()) as stack:
        yield stack


class Voters:
    """Votes one after the other, each with the next number."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.acknowledged = 0
        self.unknown = 0

    def vote(self) -> None:
        number = self.acknowledged + self.unknown
        try:
            said = cast(self.stack, number) in ACKNOWLEDGED
        except (OSError, http.client.HTTPException):  # dealt to a worker that died
            said = False
        self.acknowledged += said
        self.unknown += not said


def suffer(stack: Stack, voters: Voters, *faults: Fault) -> tuple[FaultRecord, ...]:
    """Cast votes until all faults are over; what was recorded of them."""
    reach = Reach(stack)
    timetable = Timetable(faults, reach)
    timetable.begin(time.monotonic_ns())
    until_s = time.monotonic() + MEETS_WITHIN_S
    while any(one.is_alive() for one in timetable._threads) and time.monotonic() < until_s:
        voters.vote()
        stack.require_alive()
    records = timetable.heal()
    stack.require_alive()
    return records


def fault(kind: str, target: str, step: str = "") -> Fault:
    return Fault(kind=kind, target=target, step=step, at_s=0.0, for_s=DOWN_S)


@pytest.mark.services
@pytest.mark.parametrize("mode", ["ticket", "mirrored"])
def test_a_mode_that_promises_loses_nothing_whoever_dies_or_stands_still(
    mode: str, supervisor: Supervisor, tmp_path: Path
):
    """All but the deaths of memcached, one after the other on one stack."""
    aims = [("flusher", step) for step in STEPS["flusher"]]
    aims += [("flusher", ""), ("lock-holder", ""), ("mariadb", "")]
    with running(supervisor, mode, tmp_path) as stack:
        voters = Voters(stack)
        for target, step in aims:
            for kind in ("pause", "kill"):
                (record,) = suffer(stack, voters, fault(kind, target, step))
                assert record.hit, record
                assert record.end_s - record.start_s >= DOWN_S
        (record,) = suffer(stack, voters, fault("pause", "memcached"))
        assert record.hit, record
        assert stack.drain()
        assert ballots(stack.deployment.database) >= voters.acknowledged
        assert ballots(stack.deployment.database) <= voters.acknowledged + voters.unknown
        assert voters.acknowledged > 4 * len(aims)


@pytest.mark.services
def test_direct_loses_nothing_when_its_database_or_a_worker_dies(
    supervisor: Supervisor, tmp_path: Path
):
    with running(supervisor, "direct", tmp_path) as stack:
        voters = Voters(stack)
        killed = {worker.pid for worker in stack.site.workers()}
        for target in ("mariadb", "site"):
            (record,) = suffer(stack, voters, fault("kill", target))
            assert record.hit, record
        assert len(killed & {worker.pid for worker in stack.site.workers()}) == 1
        (again,) = suffer(stack, voters, fault("kill", "site"))
        assert not again.hit
        assert "ends when such a one dies" in again.detail
        (paused,) = suffer(stack, voters, fault("pause", "site"))
        assert paused.hit
        for _ in range(5):
            voters.vote()
        stack.site.stop()
        kept = ballots(stack.deployment.database)
        assert voters.acknowledged <= kept <= voters.acknowledged + voters.unknown


@pytest.mark.services
def test_a_flusher_of_classic_takes_a_batch_with_it_that_was_reset_and_not_committed(
    supervisor: Supervisor, tmp_path: Path
):
    with running(supervisor, "classic", tmp_path) as stack:
        voters = Voters(stack)
        lost = 0
        for step in STEPS["flusher"]:
            for _ in range(10):
                voters.vote()
            (record,) = suffer(stack, voters, fault("kill", "flusher", step))
            assert record.hit, record
            assert "started again" in record.detail
            time.sleep(5 * PLAN.flusher.interval_s)  # the new one drains what is left
            lost_now = voters.acknowledged - ballots(stack.deployment.database)
            loses = step in ("between-reset-and-insert", "between-insert-and-commit")
            assert (lost_now > lost) == loses, step
            lost = lost_now
        assert stack.drain()
        assert ballots(stack.deployment.database) == voters.acknowledged - lost


@pytest.mark.services
def test_a_killed_memcached_comes_back_empty_and_takes_votes_again(
    supervisor: Supervisor, tmp_path: Path
):
    with running(supervisor, "mirrored", tmp_path) as stack:
        voters = Voters(stack)
        for target in ("memcached", "memcached-2"):
            (record,) = suffer(stack, voters, fault("kill", target))
            assert record.hit, record
            assert record.end_s - record.start_s >= DOWN_S
            time.sleep(3 * PLAN.flusher.interval_s)  # it bears one loss a drain
        assert stack.drain()
        assert ballots(stack.deployment.database) >= voters.acknowledged


@pytest.mark.services
def test_a_step_that_nobody_comes_to_was_missed(supervisor: Supervisor, tmp_path: Path):
    """Without votes no drain carries any; and what was not met stays unharmed."""
    with running(supervisor, "classic", tmp_path) as stack:
        (flusher,) = stack.flushers.children
        reach = Reach(stack)
        aims = [step for step in STEPS["flusher"] if step != "before-read"]
        timetable = Timetable(tuple(fault("kill", "flusher", step) for step in aims), reach)
        timetable.begin(time.monotonic_ns())
        time.sleep(0.5)
        records = timetable.heal()
        assert [record.hit for record in records] == [False] * len(aims)
        assert "missed" in fault_sentence(records[0])
        assert stack.armed.steps[: 3 << 8] == bytes(3 << 8)
        assert stack.flushers.children == (flusher,)
        assert flusher.poll() is None


@pytest.mark.services
def test_the_end_of_the_load_heals_what_would_last_longer(supervisor: Supervisor, tmp_path: Path):
    with running(supervisor, "ticket", tmp_path) as stack:
        long = [
            Fault(kind="kill", target="flusher", at_s=0.0, for_s=60.0),
            Fault(kind="kill", target="mariadb", at_s=0.0, for_s=60.0),
            Fault(kind="pause", target="memcached", at_s=0.0, for_s=60.0),
        ]
        timetable = Timetable(tuple(long), Reach(stack))
        timetable.begin(time.monotonic_ns())
        time.sleep(0.5)
        stack.require_alive()  # the dead are expected to be so
        records = timetable.heal()
        assert [record.hit for record in records] == [True] * 3
        assert max(record.end_s for record in records) < 30
        stack.require_alive()
        assert stack.drain()


@pytest.fixture
def page(tmp_path: Path) -> ArmedPage:
    return ArmedPage.create(tmp_path / "page")


def test_who_comes_to_one_of_several_steps_disarms_all_of_its_role(page: ArmedPage):
    page.arm(RESET, signal.SIGCONT, BEFORE_INSERT)
    page.arm(LOCK_HOLDER, signal.SIGCONT, TICKET_HOLDER)
    page.meet(BEFORE_INSERT)
    page.meet(RESET)
    page.meet(TICKET_HOLDER)
    assert [hit.step for hit in page.hits()] == [BEFORE_INSERT, TICKET_HOLDER]
    assert page.steps[: 3 << 8] == bytes(3 << 8)


def test_a_fault_after_another_step_is_for_the_process_that_passed_it(
    page: ArmedPage, monkeypatch: pytest.MonkeyPatch
):
    page.arm(RESET, signal.SIGCONT, BEFORE_INSERT, after=READ_SLOT)
    page.meet(RESET)  # of a drain that read no slot
    assert page.hits() == []
    page.meet(READ_SLOT)
    monkeypatch.setattr("os.getpid", lambda: 7)
    page.meet(RESET)  # of another flusher
    page.meet(READ_SLOT)
    assert page.hits() == []
    monkeypatch.undo()
    page.meet(RESET)
    assert [hit.step for hit in page.hits()] == [RESET]
    assert page.steps[: 3 << 8] == bytes(3 << 8)
    page.meet(READ_SLOT)
    assert len(page.hits()) == 1


def test_more_hits_than_the_page_holds_are_not_met(page: ArmedPage):
    for _ in range(MAX_HITS + 1):
        page.arm(RESET, signal.SIGCONT)
        page.meet(RESET)
    assert len(page.hits()) == MAX_HITS


def test_every_step_that_can_be_planned_can_be_armed():
    planned = {(target, step) for target, steps in STEPS.items() for step in steps}
    assert planned == set(ARMED)


def test_what_amounts_to_a_wipe_takes_the_promise_of_a_mode_that_excuses_itself_from_wipes():
    def voids(kind: str, target: str, *, hit: bool = True) -> tuple[str, ...]:
        record = FaultRecord(kind=kind, target=target, start_s=0, end_s=1, hit=hit)
        facts = TrialFacts(
            mode="ticket",
            promises=True,
            excuses=("wipe",),
            planned=None,
            load_start_ns=0,
            duration_s=1.0,
            drained=True,
            partial=False,
            faults=(record,),
        )
        return promise_voids(facts)

    assert amounts_to("kill", "memcached-2") == "wipe"
    assert voids("kill", "memcached") == ("wipe",)
    assert voids("wipe", "memcached") == ("wipe",)
    assert voids("kill", "memcached", hit=False) == ()
    assert voids("kill", "mariadb") == ()
    assert voids("pause", "memcached") == ()


def test_faults_on_one_target_must_not_overlap():
    def on(target: str, at_s: float, for_s: float, *modes: str) -> Fault:
        return Fault(kind="kill", target=target, at_s=at_s, for_s=for_s, modes=modes)

    assert overlap(on("flusher", 1, 2), on("flusher", 2.5, 1))
    assert overlap(on("flusher", 2.5, 1), on("flusher", 1, 2))
    assert not overlap(on("flusher", 1, 2), on("flusher", 3, 1))
    assert not overlap(on("flusher", 1, 2), on("mariadb", 2, 1))
    assert not overlap(on("flusher", 1, 2, "classic"), on("flusher", 2, 1, "ticket"))
    plan = Plan(scenario="s", faults=(on("mariadb", 1, 2), on("mariadb", 2, 1)))
    with pytest.raises(PlanError, match="the kill of mariadb at 2 s begins before the kill at 1 s"):
        check(plan, "here")


def test_faults_at_processes_that_a_mode_has_not_are_left_out():
    faults = tuple(fault("kill", target) for target in ("flusher", "memcached-2", "mariadb"))
    assert applicable(faults, "direct", queues=False, daemons=1) == faults[2:]
    assert applicable(faults, "classic", queues=True, daemons=1) == (faults[0], faults[2])
    assert applicable(faults, "mirrored", queues=True, daemons=2) == faults


def test_a_plan_can_name_a_step_of_its_target_only():
    for wrong in (fault("kill", "mariadb", "before-read"), fault("kill", "flusher", "before-slot")):
        with pytest.raises(PlanError):
            check(Plan(scenario="s", faults=(wrong,)), "here")
    assert kill.CRASH_LOOP_S > 5.5
