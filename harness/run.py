"""One run: the plan's modes, each in a trial of its own, audited and reported together.

The design's twelve steps: 1 here, 2 to 9 in `trial`, 10 to 12 here. Whatever fails at whatever
step, no process stays behind, and what was collected is a run folder that `pollstorm report`
reads, marked partial.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from harness.audit.examination import audit_run
from harness.environment import describe_environment
from harness.errors import PlanError, PollstormError
from harness.load.arrivals import expected_votes
from harness.modes.mode import find_mode
from harness.plan import Plan
from harness.report.page import render
from harness.result import RunResult
from harness.run_folder import RunFolder, write_atomically
from harness.services.interruption import interruptible
from harness.services.processes import Supervisor
from harness.services.targets import Existing
from harness.trial import Progress, Stage, play

BYTES_PER_VOTE: Final = 4096
"""Disk for one vote: 64 in the ledger, 64 per command with room for waits, and its ballot."""
BYTES_PER_TRIAL: Final = 400 * 2**20  # MariaDB's data directory, logs, a segment per thread


class Destination(NamedTuple):
    """Where the run folder goes: a fresh one below `parent`, or exactly `out`."""

    parent: Path = Path("reports")
    out: Path | None = None


class Noted:
    """Passes on what the run is doing, and keeps each step in `events.jsonl`."""

    def __init__(self, progress: Progress, folder: RunFolder) -> None:
        self._progress = progress
        self._folder = folder

    def step(self, trial: str, number: int, text: str) -> None:
        self._folder.note_event("step", trial=trial, number=number, text=text)
        self._progress.step(trial, number, text)

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:
        self._progress.load(trial, elapsed_s, duration_s)


def run(
    plan: Plan, destination: Destination, existing: Existing, command: str, progress: Progress
) -> tuple[RunFolder, RunResult]:
    """Drive the plan's modes through its load, account for every vote, write the report.

    `command` is what repeats the run. Raises PlanError before anything is started. Whatever ends
    the run later raises its PollstormError when the partial report has been written.
    """
    started_utc = datetime.now(UTC).isoformat(timespec="seconds")
    progress.step("", 1, "resolve the plan")
    modes = [find_mode(name) for name in plan.modes]
    require_disk(plan, destination)
    folder = RunFolder.create(destination.parent, plan, destination.out)
    progress = Noted(progress, folder)
    write_atomically(folder.environment_file, msgspec.json.encode(describe_environment()))
    failure: PollstormError | None = None
    with interruptible():
        try:
            with Supervisor() as supervisor:
                stage = Stage(plan, supervisor, existing, folder.logs, progress)
                for repetition in range(1, plan.repeat + 1):
                    for mode in modes:
                        play(stage, mode, folder.trial(mode.name, repetition))
        except PollstormError as error:
            failure = error
            folder.note_event("ended early", error=str(error))
        progress.step("", 10, "audit and measure")
        result = audit_run(
            folder,
            command=command,
            started_utc=started_utc,
            partial=failure is not None,
            failed_with=failure.exit_code if failure else None,
        )
        progress.step("", 12, "report")
        render(folder, result)
        if destination.out is None and result.modes:
            folder.point_latest_here()
    if failure:
        raise type(failure)(f"{failure}; what was collected is in {folder.path}") from failure
    return folder, result


def require_disk(plan: Plan, destination: Destination) -> None:
    """Raises PlanError when the disk cannot hold what the run will write."""
    place = destination.out or destination.parent
    while not place.exists():
        place = place.parent
    votes = expected_votes(plan)
    trials = len(plan.modes) * plan.repeat
    needed = trials * round(votes) * BYTES_PER_VOTE + BYTES_PER_TRIAL
    free = shutil.disk_usage(place).free
    if free < needed:
        raise PlanError(
            f"{place.resolve()} has {free / 2**20:,.0f} MiB free and the run needs about "
            f"{needed / 2**20:,.0f}; make room, or shorten it with --duration or --peak"
        )
