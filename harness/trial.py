"""One trial: one mode, its own services, driven once through the plan. Steps 2 to 9 of a run."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from time import monotonic_ns
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import pymysql

from harness.database.ballots import read_ballots
from harness.database.voters import read_rejections
from harness.errors import PollstormError, RecordingError
from harness.fault import VOTERS, target_of
from harness.faults import voters
from harness.faults.fault import Reach
from harness.faults.timetable import Timetable, applicable
from harness.history.recorder import RECORDING_FAILED
from harness.history.store import collect_journal, collect_ledger, write_parquet
from harness.load.arrivals import planned_votes
from harness.load.fleet import Fleet, FleetReport, LoadedSite
from harness.modes.mode import Mode, daemons_of, voided_by
from harness.plan import Plan
from harness.run_folder import RunFolder, TrialFacts, TrialFolder, remove_raw
from harness.services.interruption import uninterrupted
from harness.services.processes import Supervisor
from harness.services.restarts import Restarts
from harness.services.stack import Stack, start_stack
from harness.services.targets import Existing
from harness.site.metrics import in_flight

SAMPLE_S: Final = 0.025  # 40 samples a second: enough for a mean, too few to disturb the site
NS_PER_S: Final = 1_000_000_000
READ_BALLOTS_S: Final = 60.0  # between two packets; millions of rows come as a stream


class Progress(Protocol):
    """Where a run says what it is doing."""

    def step(self, trial: str, number: int, text: str) -> None:
        """Step `number` of twelve begins; `trial` is empty for steps of the whole run."""

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:
        """The load is under way."""


class Sample(NamedTuple):
    """One reading of a gauge, at a CLOCK_MONOTONIC time."""

    at_ns: int
    value: float


class Stage(NamedTuple):
    """What all trials of a run share."""

    plan: Plan
    supervisor: Supervisor
    existing: Existing
    logs: Path
    progress: Progress
    ceiling_per_s: float | None = None
    """The generator's own, where it is known; otherwise each trial measures it."""


class Notes:
    """The trial's facts as they become known, so that a trial cut short keeps what it had."""

    def __init__(self, facts: TrialFacts) -> None:
        self.facts = facts

    def keep(self, **known: Any) -> None:
        self.facts = msgspec.structs.replace(self.facts, **known)

    def remark(self, note: str) -> None:
        self.keep(notes=(*self.facts.notes, note))


def play(stage: Stage, mode: Mode, trial: TrialFolder) -> None:
    """Drive the mode through the plan. Raises PollstormError; the folder is readable then."""
    plan, progress = stage.plan, stage.progress
    trial.create()
    logs = stage.logs / trial.name
    logs.mkdir()
    notes = Notes(
        TrialFacts(
            mode=mode.name,
            promises=mode.promises,
            excuses=mode.excuses,
            void_by=voided_by(mode, plan),
            planned=planned_votes(plan),
            recasts=voters.most_recasts(applicable(plan.faults, mode.name, mode.queues)),
            once=plan.poll.once,
            votes_each=plan.voters.votes_each,
            load_start_ns=monotonic_ns(),
            duration_s=plan.duration_s,
            drained=False,
            partial=True,
        )
    )
    trial.write_facts(notes.facts)  # all that is left of a run that is killed
    step = functools.partial(progress.step, trial.name)
    with start_stack(stage.supervisor, plan, mode, trial.raw, logs, stage.existing, step) as stack:
        restarts = Restarts(() if stack.memcached else needed(mode, stack))
        try:
            with restarts.watched():
                drive_load(stage, stack, mode, trial, notes)
                step(8, "drain the queue")
                notes.keep(drained=stack.drain(), partial=bool(notes.facts.notes))
            restarted = restarts.since(notes.facts.load_start_ns)
            notes.keep(faults=notes.facts.faults + restarted)
            require_whole_recording(trial)
        except PollstormError as error:
            notes.remark(str(error))
            notes.keep(partial=True)
            raise
        finally:
            step(9, "collect ledger, journal and ballots")
            with uninterrupted():
                database = stack.servers.database or stack.deployment.database
                collect(trial, notes, database, once=plan.poll.once)


def needed(mode: Mode, stack: Stack) -> tuple[str, ...]:
    """The memcached daemons that the mode uses, of all that were given."""
    return stack.servers.memcached[: daemons_of(mode, stack.deployment.plan)]


def drive_load(stage: Stage, stack: Stack, mode: Mode, trial: TrialFolder, notes: Notes) -> None:
    """Steps 5 to 7: the generator's ceiling, the load with its faults, and their healing."""
    plan, progress = stage.plan, stage.progress
    logs = stage.logs / trial.name
    faults = applicable(plan.faults, mode.name, mode.queues, daemons_of(mode, plan))
    plan = msgspec.structs.replace(plan, faults=faults)
    site = LoadedSite(stack.site.host, stack.site.port, trial.raw)
    fleet = Fleet(plan, stage.supervisor, logs, site)
    if stage.ceiling_per_s is None:
        progress.step(trial.name, 5, "measure the generator's own ceiling")
    notes.keep(ceiling_per_s=stage.ceiling_per_s or fleet.measure_ceiling())
    progress.step(trial.name, 6, f"load for {plan.duration_s:g} s")
    ours = tuple(fault for fault in faults if target_of(fault) != VOTERS)
    timetable = Timetable(ours, Reach(stack), functools.partial(note_fault, trial))

    before_s: dict[str, float] = {}

    def begin(start_ns: int) -> None:
        before_s.update(stack.cpu_s())
        notes.keep(load_start_ns=start_ns)
        trial.write_facts(notes.facts)
        timetable.begin(start_ns)

    def tick(elapsed_s: float) -> None:
        progress.load(trial.name, elapsed_s, plan.duration_s)
        stack.require_alive()

    with sampled(lambda: in_flight(trial.raw)) as samples:
        try:
            report = fleet.run(on_start=begin, on_tick=tick)
        finally:
            progress.step(trial.name, 7, "heal")
            notes.keep(faults=timetable.heal(), cpu_s=used_since(before_s, stack.cpu_s()))
            notes.keep(site_in_flight=mean_during_load(samples, notes.facts))
    stack.require_alive()  # also what a fault brought down
    of_voters = voters.records(faults, report.met, plan.duration_s)
    notes.keep(faults=notes.facts.faults + of_voters)
    for record in of_voters:
        note_fault(trial, "fault is over", msgspec.to_builtins(record))
    note_fleet(notes, report, plan)
    require_whole_recording(trial)


def note_fleet(notes: Notes, report: FleetReport, plan: Plan) -> None:
    """Keep what the generators tell of the load, and which of them do not."""
    notes.keep(
        in_flight_sampled=report.in_flight_mean,
        short_of_users=report.short_of_users,
        longest_block_ms=report.longest_block_ms,
        clock_within_ms=report.clock_within_ms,
    )
    before = plan.voters.first_generator - 1
    notes.keep(missing_generators=tuple(before + number for number in report.lost))
    for number in report.lost:
        notes.remark(
            f"worker {number} was lost during the load, and its ledger with it: what its voters "
            "were told is unknown"
        )
    for generator in set(report.ended_early) - set(report.lost):
        notes.remark(
            f"generator {generator} was killed during the load; its ledger up to then is used, and "
            "what it had not sent by then is unsent"
        )


def note_fault(trial: TrialFolder, event: str, told: Any) -> None:
    """Keep in the run's events that a fault begins, or is over."""
    RunFolder(trial.path.parent).note_event(event, trial=trial.name, fault=told)


def used_since(before_s: dict[str, float], now_s: dict[str, float]) -> dict[str, float]:
    """What each service has used since; nothing is known of a load that did not begin."""
    return {name: round(now_s[name] - was_s, 3) for name, was_s in before_s.items()}


def mean_during_load(samples: list[Sample], facts: TrialFacts) -> float | None:
    """The mean over the load's planned duration, the window of every other mean."""
    end_ns = facts.load_start_ns + round(facts.duration_s * NS_PER_S)
    during = [value for at_ns, value in samples if facts.load_start_ns <= at_ns < end_ns]
    return fmean(during) if during else None


def collect(trial: TrialFolder, notes: Notes, database: str, *, once: bool) -> None:
    """Step 9. What cannot be collected is noted, and the audit then proves nothing from it."""
    trial.write_facts(notes.facts)
    collect_ledger(trial.raw, trial.ledger)
    collect_journal(trial.raw, trial.journal)
    try:
        write_parquet(read_ballots(database, READ_BALLOTS_S), trial.ballots)
        if once:
            write_parquet(read_rejections(database, READ_BALLOTS_S), trial.rejections)
    except pymysql.MySQLError as error:
        notes.remark(f"the ballots could not be read: {error}")
        notes.keep(partial=True)
        trial.write_facts(notes.facts)
    remove_raw(trial)


def require_whole_recording(trial: TrialFolder) -> None:
    """Raises RecordingError when a process of site or flusher could not write its journal."""
    marker = trial.raw / RECORDING_FAILED
    if marker.exists():
        why = marker.read_text(encoding="utf-8").strip()
        raise RecordingError(why or f"cannot record in {trial.raw}: make room and run again")


@contextmanager
def sampled(gauge: Callable[[], float]) -> Iterator[list[Sample]]:
    """Read the gauge every `SAMPLE_S` while the block runs."""
    samples: list[Sample] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            samples.append(Sample(monotonic_ns(), gauge()))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()
