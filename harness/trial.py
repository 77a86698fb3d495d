"""One trial: one mode, its own services, driven once through the plan. Steps 2 to 9 of a run."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from time import monotonic_ns
from typing import Final, NamedTuple, Protocol

import msgspec
import pymysql

from harness.database.ballots import read_ballots
from harness.errors import PollstormError, RecordingError
from harness.faults.fault import Reach
from harness.faults.timetable import Timetable, applicable
from harness.history.store import collect_journal, collect_ledger, write_parquet
from harness.load.arrivals import planned_votes
from harness.load.fleet import Fleet
from harness.modes.mode import Mode
from harness.plan import Plan
from harness.run_folder import TrialFacts, TrialFolder, remove_raw
from harness.services.processes import Supervisor
from harness.services.stack import Stack, start_stack
from harness.services.targets import Existing
from harness.site.metrics import in_flight

SAMPLE_S: Final = 0.025  # 40 samples a second: enough for a mean, too few to disturb the site
READ_BALLOTS_S: Final = 60.0  # between two packets; millions of rows come as a stream


class Progress(Protocol):
    """Where a run says what it is doing."""

    def step(self, trial: str, number: int, text: str) -> None:
        """Step `number` of twelve begins; `trial` is empty for steps of the whole run."""

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:
        """The load is under way."""


class Stage(NamedTuple):
    """What all trials of a run share."""

    plan: Plan
    supervisor: Supervisor
    existing: Existing
    logs: Path
    progress: Progress


def play(stage: Stage, mode: Mode, trial: TrialFolder) -> None:
    """Drive the mode through the plan. Raises PollstormError; the folder is readable then."""
    plan, progress = stage.plan, stage.progress
    trial.create()
    logs = stage.logs / trial.name
    logs.mkdir()
    facts = TrialFacts(
        mode=mode.name,
        promises=mode.promises,
        planned=planned_votes(plan),
        load_start_ns=monotonic_ns(),
        duration_s=plan.duration_s,
        drained=False,
        partial=True,
    )
    progress.step(trial.name, 2, "start memcached and MariaDB, create tables, start the site")
    with start_stack(stage.supervisor, plan, mode, trial.raw, logs, stage.existing) as stack:
        try:
            facts = drive_load(stage, stack, mode, trial, facts)
            progress.step(trial.name, 8, "drain the queue")
            drained = stack.drain()
            facts = msgspec.structs.replace(facts, drained=drained, partial=False)
        except PollstormError as error:
            facts = msgspec.structs.replace(facts, notes=(*facts.notes, str(error)))
            raise
        finally:
            progress.step(trial.name, 9, "collect ledger, journal and ballots")
            collect(trial, facts, stack.deployment.database)


def drive_load(
    stage: Stage, stack: Stack, mode: Mode, trial: TrialFolder, facts: TrialFacts
) -> TrialFacts:
    """Steps 5 to 7: the generator's ceiling, the load with its faults, and their healing."""
    plan, progress = stage.plan, stage.progress
    logs = stage.logs / trial.name
    fleet = Fleet(plan, stage.supervisor, stack.site.host, stack.site.port, trial.raw, logs)
    progress.step(trial.name, 5, "measure the generator's own ceiling")
    ceiling_per_s = fleet.measure_ceiling()
    progress.step(trial.name, 6, f"load for {plan.duration_s:g} s")
    reach = Reach(stack.armed, stack.memcached.wipe if stack.memcached else None)
    timetable = Timetable(applicable(plan.faults, mode.name, mode.queues), reach)
    with sampled(lambda: in_flight(trial.raw)) as samples:
        try:
            report = fleet.run(
                on_start=timetable.begin,
                on_tick=lambda elapsed_s: progress.load(trial.name, elapsed_s, plan.duration_s),
            )
        finally:
            progress.step(trial.name, 7, "heal")
            faults = timetable.heal()
    require_whole_recording(trial)
    return msgspec.structs.replace(
        facts,
        load_start_ns=report.start_ns,
        faults=faults,
        missing_generators=report.missing_generators,
        ceiling_per_s=ceiling_per_s,
        in_flight_sampled=report.in_flight_mean,
        site_in_flight=fmean(samples) if samples else None,
    )


def collect(trial: TrialFolder, facts: TrialFacts, database: str) -> None:
    """Step 9. What cannot be collected is noted, and the audit then proves nothing from it."""
    collect_ledger(trial.raw, trial.ledger)
    collect_journal(trial.raw, trial.journal)
    try:
        write_parquet(read_ballots(database, READ_BALLOTS_S), trial.ballots)
    except pymysql.MySQLError as error:
        note = f"the ballots could not be read: {error}"
        facts = msgspec.structs.replace(facts, notes=(*facts.notes, note), partial=True)
    trial.write_facts(facts)
    remove_raw(trial)


def require_whole_recording(trial: TrialFolder) -> None:
    """Raises RecordingError when a site process could not write its journal."""
    marker = trial.raw / "recording-failed"
    if marker.exists():
        raise RecordingError(marker.read_text(encoding="utf-8").strip())


@contextmanager
def sampled(gauge: Callable[[], float]) -> Iterator[list[float]]:
    """Read the gauge every `SAMPLE_S` while the block runs."""
    samples: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            samples.append(gauge())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()
