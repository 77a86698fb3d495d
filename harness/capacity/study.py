"""A capacity study: every mode searched within its share of the budget, and written down."""

from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import msgspec

from harness.capacity.outcome import SCHEMA_VERSION, Bounds, CapacityResult, ModeCapacity
from harness.capacity.search import BudgetSpent, Found, search
from harness.capacity.steps import CONFIRM_S, STEP_S, Steps
from harness.errors import PlanError
from harness.modes.mode import Mode, find_mode
from harness.plan import Plan
from harness.run_folder import write_atomically
from harness.services.interruption import interruptible
from harness.services.processes import Supervisor
from harness.services.targets import Existing
from harness.trial import Progress

TRUSTED: Final = 0.7
"""Of the generator's ceiling. Above it, its own queueing begins to show in the target's latency."""
START_PER_S: Final = 400.0  # a poll's spike on a small site; every mode was seen to take it
PRECISION: Final = 0.1  # between the bounds: less is within the noise of two trials
FIRST_STEP_S: Final = 15.0  # until one was timed: services, load, drain, audit
SERVICES_S: Final = 8.0  # a step's time beside its load, for a confirming one


class Order(NamedTuple):
    """What is to be found out."""

    plan: Plan  # the deployment, its modes and objectives; its arrivals and faults are left away
    budget_s: float
    folder: Path
    keep: bool  # ledgers and journals of all steps
    command: str


def study(order: Order, existing: Existing, progress: Progress) -> CapacityResult:
    """Find each mode's capacity, and write `capacity.json` as it becomes known.

    Raises PlanError before anything is started, and passes on what ends a trial early.
    """
    modes = [find_mode(name) for name in order.plan.modes]
    prepare(order.folder)
    begun_s = monotonic()
    started_utc = datetime.now(UTC).isoformat(timespec="seconds")
    found: dict[str, ModeCapacity] = {}
    with interruptible(), Supervisor() as supervisor:

        def steps(mode: Mode, ceiling_per_s: float | None) -> Steps:
            return Steps(
                order.plan, mode, order.folder / "steps", supervisor, existing, progress,
                ceiling_per_s, keep=order.keep,
            )  # fmt: skip

        ceiling_per_s = steps(modes[0], None).measure_ceiling()
        usable_per_s = TRUSTED * ceiling_per_s / (1 + order.plan.arrivals.results_per_vote)
        for number, mode in enumerate(modes):
            left_s = order.budget_s - (monotonic() - begun_s)
            ends_s = monotonic() + left_s / (len(modes) - number)
            of_mode = steps(mode, ceiling_per_s)
            capacity = find(of_mode, usable_per_s, ends_s)
            found[mode.name] = ModeCapacity(
                capacity_per_s=Bounds(lower=capacity.lower_per_s, upper=capacity.upper_per_s),
                limited_by=capacity.limited_by,
                confirmed=capacity.confirmed,
                steps=tuple(of_mode.results),
            )
            result = CapacityResult(
                schema_version=SCHEMA_VERSION,
                command=order.command,
                started_utc=started_utc,
                slo=order.plan.slo,
                ceiling_per_s=ceiling_per_s,
                usable_per_s=usable_per_s,
                budget_s=order.budget_s,
                spent_s=monotonic() - begun_s,
                modes=dict(found),
            )
            write(order.folder, result)
    return result


def find(steps: Steps, usable_per_s: float, ends_s: float) -> Found:
    """Play the search's trials while there is time for one more and a confirming one.

    `ends_s`: when the time is over, on the monotonic clock.
    """
    searching = search(START_PER_S, usable_per_s, PRECISION)
    step_s = FIRST_STEP_S
    try:
        wanted = next(searching)
        while True:  # bounded by the search
            needed_s = 0.0 if wanted.confirming else step_s + CONFIRM_S + SERVICES_S
            if ends_s - monotonic() < needed_s:
                wanted = searching.throw(BudgetSpent())
                continue
            begun_s = monotonic()
            judged = steps.take(wanted)
            step_s = monotonic() - begun_s - (CONFIRM_S - STEP_S) * wanted.confirming
            wanted = searching.send(judged)
    except StopIteration as ended:
        found: Found = ended.value
        return found


def prepare(folder: Path) -> None:
    """Make the study's folder. Raises PlanError when it exists or cannot be made."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise PlanError(f"{folder} exists; studies are never overwritten, choose another") from None
    except OSError as error:
        raise PlanError(f"cannot make {folder}: {error.strerror}") from error


def write(folder: Path, result: CapacityResult) -> Path:
    """Write `capacity.json`; its path."""
    file = folder / "capacity.json"
    write_atomically(file, msgspec.json.format(msgspec.json.encode(result)))
    return file
