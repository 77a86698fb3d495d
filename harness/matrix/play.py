"""Makes a run of each row, a few at a time, and leaves alone what was played before.

    <folder>/plans/<row>.toml    the row's plan
    <folder>/runs/<row>/         its run folder, with a report of its own
    <folder>/matrix.json index.html

A row is played when there is no whole run of just this plan. What an interrupted run left is moved
aside, never overwritten.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import sleep
from typing import Final, NamedTuple

from harness.errors import PlanError, PollstormError
from harness.fault import describe
from harness.matrix.expectations import Row
from harness.matrix.outcome import RowResult, judge
from harness.result import RunResult
from harness.run_folder import RunFolder, write_atomically
from harness.services.interruption import interruptible, uninterrupted
from harness.services.processes import Child, Supervisor

LOOK_S: Final = 0.1
END_S: Final = 10.0  # a run that is told to end does so within 5 s, and then reports
MOST_ASIDE: Final = 1000


class Place(NamedTuple):
    """Where the matrix lies."""

    path: Path

    def plan(self, row: Row) -> Path:
        return self.path / "plans" / f"{row.name}.toml"

    def run(self, row: Row) -> RunFolder:
        return RunFolder(self.path / "runs" / row.name)

    def log(self, row: Row) -> Path:
        return self.path / "logs" / f"{row.name}.log"


def played(place: Place, row: Row) -> RowResult | None:
    """What became of the row, if there is a whole run of just this plan."""
    result = _whole(place, row)
    if result is None:
        return None
    return RowResult(
        name=row.name,
        why=row.why,
        faults=tuple(describe(fault) for fault in row.plan.faults),
        run=f"runs/{row.name}/index.html",
        cells={
            mode: judge(expected, result.modes[mode], must_hit=row.must_hit)
            for mode, expected in row.expects.items()
        },
    )


def play(
    place: Place, rows: Sequence[Row], at_once: int, told: Callable[[Row, str], None]
) -> Iterator[Row]:
    """Each row when its run has ended, well or badly. No process is left, however this ends.

    `told` hears of each row what happens to it. Raises PlanError when the folder cannot be written.
    """
    try:
        for folder in ("plans", "runs", "logs"):
            (place.path / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlanError(f"cannot write in {place.path}: {error.strerror}") from error
    waiting = list(rows)
    running: dict[str, tuple[Row, Child]] = {}
    with interruptible(), Supervisor() as supervisor:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    row = waiting.pop(0)
                    running[row.name] = row, _start(supervisor, place, row)
                    told(row, "runs")
                for name, (row, child) in list(running.items()):
                    if child.poll() is not None:
                        del running[name]
                        child.stop(grace_s=0)
                        told(row, _how_it_ended(child, place, row))
                        yield row
                sleep(LOOK_S)
        finally:
            with uninterrupted():
                for _, child in running.values():
                    child.stop(END_S)


def _start(supervisor: Supervisor, place: Place, row: Row) -> Child:
    run = place.run(row)
    if run.path.exists():
        run.path.rename(_aside(run.path))
    write_atomically(place.plan(row), row.plan.to_toml().encode())
    argv = [
        sys.executable,
        "-m",
        "harness.cli",
        "run",
        str(place.plan(row)),
        "--out",
        str(run.path),
    ]
    return supervisor.spawn(f"run {row.name}", argv, log=place.log(row))


def _whole(place: Place, row: Row) -> RunResult | None:
    """The result of a run of just this plan that was not cut short."""
    run = place.run(row)
    try:
        result, plan = run.result(), run.plan()
    except PollstormError:
        return None
    whole = not result.partial and plan == row.plan and set(result.modes) >= set(row.expects)
    return result if whole else None


def _how_it_ended(child: Child, place: Place, row: Row) -> str:
    if _whole(place, row):
        return "done"
    return f"ended early ({child.poll()}): {child.log_tail()}"


def _aside(path: Path) -> Path:
    """A free name for what is in the way."""
    for number in range(1, MOST_ASIDE):
        other = path.with_name(f"{path.name}.before-{number}")
        if not other.exists():
            return other
    raise PlanError(f"{path.parent} holds {MOST_ASIDE} earlier runs of {path.name}; remove some")
