"""A capacity study: every mode searched within its share of the budget, and written down."""

from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec

from harness.capacity.breakeven import break_even
from harness.capacity.outcome import (
    SCHEMA_VERSION,
    Bounds,
    CapacityResult,
    ModeCapacity,
    StepResult,
)
from harness.capacity.patience import patience
from harness.capacity.scaling import scale
from harness.capacity.search import BudgetSpent, Found, Step, Verdict, search
from harness.capacity.sizing import size
from harness.capacity.stand import CONFIRM_S, STEP_S, Stand
from harness.errors import PlanError
from harness.foreign import aimed_at_target, modes_of
from harness.modes.mode import Mode
from harness.plan import Plan
from harness.run_folder import write_atomically
from harness.services.interruption import interruptible
from harness.services.processes import Supervisor
from harness.services.targets import Existing
from harness.trial import Progress

PARTS: Final = ("search", "scaling", "break-even", "patience", "sizing")
SHARES: Final = {"search": 4, "scaling": 2, "break-even": 2, "patience": 1, "sizing": 0}
"""How the budget is dealt out among those parts that are asked for."""
START_PER_S: Final = 400.0  # a poll's spike on a small site; every mode was seen to take it
PRECISION: Final = 0.1  # between the bounds: less is within the noise of two trials
FIRST_STEP_S: Final = 15.0  # until one was timed: services, load, drain, audit
SERVICES_S: Final = 8.0  # a step's time beside its load, for a confirming one


class Order(NamedTuple):
    """What is to be found out."""

    plan: Plan  # the deployment, its modes and objectives; its arrivals and faults are left away
    budget_s: float
    folder: Path
    keep: bool  # ledgers and journals of all trials
    parts: tuple[str, ...]  # of PARTS
    forecast_per_s: float | None  # the peak to be sized for
    command: str


def study(order: Order, existing: Existing, progress: Progress) -> CapacityResult:
    """Find each mode's capacity and what else is asked, and write it down as it becomes known.

    Raises PlanError before anything is started, and passes on what ends a trial early.
    """
    modes = modes_of(aimed_at_target(order.plan))
    prepare(order.folder)
    begun_s = monotonic()
    ends_s = begun_s + order.budget_s
    started_utc = datetime.now(UTC).isoformat(timespec="seconds")
    with interruptible(), Supervisor() as supervisor:
        stand = Stand(
            order.plan, order.folder / "trials", supervisor, existing, progress, keep=order.keep
        )
        stand.measure_ceiling(modes[0])
        assert stand.ceiling_per_s is not None
        result = CapacityResult(
            schema_version=SCHEMA_VERSION,
            command=order.command,
            started_utc=started_utc,
            slo=order.plan.slo,
            ceiling_per_s=stand.ceiling_per_s,
            usable_per_s=stand.usable_per_s,
            budget_s=order.budget_s,
            forecast_per_s=order.forecast_per_s,
        )

        def known(**more: Any) -> CapacityResult:
            spent = {"spent_s": round(monotonic() - begun_s, 1)}
            now = msgspec.structs.replace(result, **spent, **more)
            write(order.folder, now)
            return now

        wanted = [part for part in PARTS if part in order.parts]
        share_s = order.budget_s * SHARES["search"] / sum(SHARES[part] for part in wanted)
        search_ends_s = begun_s + share_s
        for number, mode in enumerate(modes):
            of_mode_s = (search_ends_s - monotonic()) / (len(modes) - number)
            capacity = find(stand, mode, monotonic() + of_mode_s)
            result = known(modes=result.modes | {mode.name: capacity})
        if "scaling" in wanted:
            share_s = order.budget_s * SHARES["scaling"] / sum(SHARES[part] for part in wanted)
            result = known(scaling=scale(stand, modes, result, monotonic() + share_s))
        if "break-even" in wanted:
            result = known(break_even=break_even(stand, modes, result, ends_s))
        if "patience" in wanted:
            result = known(patience=patience(stand, modes, order.folder / "simulated", ends_s))
        if "sizing" in wanted and order.forecast_per_s is not None:
            result = known(sizing=size(order.plan, modes, result, order.forecast_per_s))
    return result


def find(stand: Stand, mode: Mode, ends_s: float) -> ModeCapacity:
    """Play the search's trials while there is time for one more and a confirming one.

    `ends_s`: when the time is over, on the monotonic clock.
    """
    searching = search(START_PER_S, stand.usable_per_s, PRECISION)
    steps: list[StepResult] = []
    step_s = FIRST_STEP_S
    try:
        wanted = next(searching)
        while True:  # bounded by the search
            needed_s = 0.0 if wanted.confirming else step_s + CONFIRM_S + SERVICES_S
            if ends_s - monotonic() < needed_s:
                wanted = searching.throw(BudgetSpent())
                continue
            begun_s = monotonic()
            judged = stand.step(mode, wanted, CONFIRM_S if wanted.confirming else STEP_S)
            steps.append(judged)
            step_s = monotonic() - begun_s - (CONFIRM_S - STEP_S) * wanted.confirming
            wanted = searching.send(Step(Verdict(judged.verdict), judged.limited_by))
    except StopIteration as ended:
        found: Found = ended.value
    return ModeCapacity(
        capacity_per_s=Bounds(lower=found.lower_per_s, upper=found.upper_per_s),
        limited_by=found.limited_by,
        confirmed=found.confirmed,
        steps=tuple(steps),
    )


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
