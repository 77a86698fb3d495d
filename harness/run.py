"""One run: the plan's modes, each in a trial of its own, audited and reported together.

Of the twelve steps 1 and 10 to 12 are here, 2 to 9 in `trial`. A run that fails or is interrupted
half-way ends all that it started, and audits and reports what there is, marked partial.
"""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from harness.audit.examination import audit_run, is_partial
from harness.environment import describe_environment
from harness.errors import Interrupted, PlanError, PollstormError
from harness.foreign import aimed_at_target, modes_of, play, require_target
from harness.load.arrivals import expected_votes
from harness.load.meeting import require_free, within_reach
from harness.modes.mode import Mode, find_mode, require_memcached
from harness.plan import Plan
from harness.report.page import render
from harness.result import RunResult
from harness.run_folder import RunFolder, write_atomically
from harness.services.interruption import interruptible, uninterrupted
from harness.services.memcached import require_answer, require_different
from harness.services.processes import Supervisor
from harness.services.stack import require_room
from harness.services.targets import Existing
from harness.trial import Progress, Stage

BYTES_PER_VOTE: Final = 4096
"""Disk for one vote: 64 in the ledger, 64 per command with room for waits, and its ballot."""
BYTES_PER_TRIAL: Final = 200 * 2**20  # logs, and a segment of the journal for each thread
BYTES_FOR_SERVICES: Final = 300 * 2**20  # MariaDB's data folders, in the folder for temporary files


class Destination(NamedTuple):
    """Where the run folder goes: a fresh one below `parent`, or exactly `out`."""

    parent: Path = Path("reports")
    out: Path | None = None


class Noted:
    """Passes on what the run is doing, and keeps each step in `events.jsonl`."""

    def __init__(self, progress: Progress, folder: RunFolder) -> None:
        self._progress = progress
        self._folder = folder
        folder.note_event("started")

    def step(self, trial: str, number: int, text: str) -> None:
        self._folder.note_event("step", trial=trial, number=number, text=text)
        self._progress.step(trial, number, text)

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:
        self._progress.load(trial, elapsed_s, duration_s)


def run(
    plan: Plan, destination: Destination, existing: Existing, command: str, progress: Progress
) -> tuple[RunFolder, RunResult]:
    """Drive the plan's modes through its load, account for every vote, write the report.

    `command` is what repeats the run. Raises PlanError, or ServiceError for an existing memcached,
    before anything is started. Whatever ends the run later raises its PollstormError when the
    partial report has been written.
    """
    started_utc = datetime.now(UTC).isoformat(timespec="seconds")
    folder: RunFolder | None = None
    failure: PollstormError | None = None
    with interruptible():
        try:
            progress.step("", 1, "resolve the plan")
            plan = within_reach(aimed_at_target(plan))
            modes = _resolve(plan, existing)
            require_disk(plan, destination)
            with uninterrupted():
                folder = RunFolder.create(destination.parent, plan, destination.out)
            progress = Noted(progress, folder)
            write_atomically(folder.environment_file, msgspec.json.encode(describe_environment()))
            with Supervisor() as supervisor:
                stage = Stage(plan, supervisor, existing, folder.logs, progress)
                for repetition in range(1, plan.repeat + 1):
                    for mode in modes:
                        play(stage, mode, folder.trial(mode.name, repetition))
        except PollstormError as error:
            if folder is None:
                raise
            failure = error
        try:
            return folder, conclude(folder, progress, failure, command, started_utc)
        finally:
            if destination.out is None and folder.trials():
                folder.point_latest_here()


def conclude(
    folder: RunFolder,
    progress: Progress,
    failure: PollstormError | None,
    command: str,
    started_utc: str,
) -> RunResult:
    """Steps 10 to 12: audit, measure, report. Raises what ended the run early, when that is done.

    One that is interrupted here, of all places, is concluded once more, as partial: nothing can
    interrupt that again.
    """
    if failure:
        folder.note_event("ended early", error=str(failure))
    try:
        progress.step("", 10, "audit and measure")
        with uninterrupted():  # DuckDB would make an error of its own out of what a signal raises
            result = audit_run(
                folder,
                command=command,
                started_utc=started_utc,
                partial=failure is not None or is_partial(folder),
                failed_with=failure.exit_code if failure else None,
            )
        progress.step("", 12, "report")
        with uninterrupted():
            render(folder, result)
        folder.note_event("ended")
    except Interrupted as interrupted:
        return conclude(folder, progress, interrupted, command, started_utc)
    if failure:
        raise type(failure)(f"{failure}; what was collected is in {folder.path}") from failure
    return result


def _resolve(plan: Plan, existing: Existing) -> list[Mode]:
    """The plan's modes. Raises PlanError when one does not exist or cannot be driven, ServiceError
    when a memcached that they are to be driven on, or the target, does not answer, or when no
    workers can be waited for.
    """
    modes = modes_of(plan)
    if not plan.target.url:
        require_room(plan, existing)
    for mode in modes if existing.memcached else ():
        require_memcached(mode, len(existing.memcached), plan)
    for name in {name for fault in plan.faults for name in fault.modes}:
        find_mode(name)
    for address in existing.memcached:
        require_answer(address)
    require_different(existing.memcached)
    require_target(plan)
    require_free(plan)
    return modes


def require_disk(plan: Plan, destination: Destination) -> None:
    """Raises PlanError when a disk cannot hold what the run will write there."""
    reports = destination.out or destination.parent
    while not reports.exists():
        reports = reports.parent
    trials = len(plan.modes) * plan.repeat
    needed = {reports: trials * expected_votes(plan) * BYTES_PER_VOTE + BYTES_PER_TRIAL}
    temporary = Path(tempfile.gettempdir())
    if temporary.stat().st_dev == reports.stat().st_dev:
        needed[reports] += BYTES_FOR_SERVICES
    else:
        needed[temporary] = BYTES_FOR_SERVICES
    for place, needed_bytes in needed.items():
        free_bytes = shutil.disk_usage(place).free
        if free_bytes < needed_bytes:
            raise PlanError(
                f"{place.resolve()} has {free_bytes / 2**20:,.0f} MiB free and the run needs about "
                f"{needed_bytes / 2**20:,.0f}; make room, or shorten it with --duration or --peak"
            )
