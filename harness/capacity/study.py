"""A capacity study: every mode searched within its share of the budget, and written down."""

import errno
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec

from harness.capacity.breakeven import break_even
from harness.capacity.objectives import require_answerable, sees_ballots
from harness.capacity.outcome import (
    SCHEMA_VERSION,
    Bounds,
    CapacityResult,
    ModeCapacity,
    StepResult,
)
from harness.capacity.page import write_page
from harness.capacity.patience import patience
from harness.capacity.scaling import scale
from harness.capacity.search import BudgetSpent, Found, Search, Step, Verdict, search
from harness.capacity.sizing import size
from harness.capacity.stand import CONFIRM_S, OURS, STEP_S, Stand
from harness.errors import PlanError, PollstormError
from harness.foreign import FOREIGN, aimed_at_target, modes_of, require_target
from harness.load.meeting import require_free, within_reach
from harness.modes.mode import Mode
from harness.plan import Plan, host_of, with_changes
from harness.run_folder import write_atomically
from harness.services.interruption import interruptible, uninterrupted
from harness.services.processes import Supervisor
from harness.services.stack import require_room
from harness.services.targets import Existing, is_loopback
from harness.trial import Progress

PARTS: Final = ("search", "scaling", "break-even", "patience", "sizing")
SHARES: Final = {"search": 8, "scaling": 6, "break-even": 6, "patience": 2, "sizing": 1}
"""How the budget is dealt out among those parts that are asked for. What one leaves goes to those
that come after it."""
START_PER_S: Final = 400.0  # a poll's spike on a small site; every mode was seen to take it
PRECISION: Final = 0.1  # between the bounds: less is within the noise of two trials
FIRST_STEP_S: Final = 15.0  # until one was timed: services, load, drain, audit
SERVICES_S: Final = 8.0  # a step's time beside its load, for a confirming one
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
LEAST_S: Final = FIRST_STEP_S + CONFIRM_S + SERVICES_S  # of each mode's search, or nothing is tried


class Order(NamedTuple):
    """What is to be found out."""

    plan: Plan  # the deployment, its modes and objectives; its arrivals and faults are left away
    budget_s: float
    folder: Path
    keep: bool  # ledgers and journals of all trials
    parts: tuple[str, ...]  # of PARTS
    forecast_per_s: float | None  # the peak to be sized for
    command: str


class Record:
    """What is known so far: in `capacity.json` at every moment, whatever ends the study."""

    def __init__(self, folder: Path, begun_s: float, result: CapacityResult) -> None:
        self._folder = folder
        self._begun_s = begun_s
        self.result = result

    def keep(self, **known: Any) -> None:
        """Add to it, and write it down."""
        spent_s = round(monotonic() - self._begun_s, 1)
        self.result = msgspec.structs.replace(self.result, spent_s=spent_s, **known)
        content = msgspec.json.format(msgspec.json.encode(self.result))
        write_atomically(result_file(self._folder), content)

    def keep_part(self, name: str, known: Any) -> None:
        self.keep(**{name: known})

    def keep_mode(self, name: str, capacity: ModeCapacity) -> None:
        self.keep(modes=self.result.modes | {name: capacity})


def study(order: Order, existing: Existing, progress: Progress) -> CapacityResult:
    """Find each mode's capacity and what else is asked, and write it down as it becomes known.

    Raises PlanError before anything is started, and passes on what ends a trial early; what is
    known by then is written down, and that it is not all.
    """
    modes = modes_of(within_reach(aimed_at_target(order.plan)))
    within_reach(with_changes(order.plan, OURS, "ceiling"))  # where that is measured
    require_possible(order, modes, existing)
    require_target(order.plan)
    require_free(order.plan)
    prepare(order.folder)
    begun_s = monotonic()
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
            **surroundings(order.plan, existing),
        )
        record = Record(order.folder, begun_s, result)
        try:
            record.keep()
            _play_parts(order, stand, modes, record, begun_s + order.budget_s)
        except (PollstormError, OSError) as error:
            raise _stopped(order.folder, record, error) from error
        with uninterrupted():
            write_page(order.folder, record.result)
    return record.result


def _stopped(folder: Path, record: Record, error: PollstormError | OSError) -> PollstormError:
    """What to raise for what ended the study, once what is known is written down if it can be."""
    kind = type(error) if isinstance(error, PollstormError) else PollstormError
    why = str(error) if isinstance(error, PollstormError) else told_of(error, folder)
    try:
        with uninterrupted():
            record.keep(stopped_by=why)
            write_page(folder, record.result)
    except OSError as full:
        lost = "" if why == told_of(full, folder) else f"; {told_of(full, folder)}"
        return kind(f"{why}{lost}; what {folder} holds is not all that was known")
    return kind(f"{why}; what is known so far is in {folder}")


def told_of(error: OSError, folder: Path) -> str:
    """What, where, and what to do."""
    told = f"{error.filename or folder}: {error.strerror or error}"
    return f"{told}; make room there, or give --out" if error.errno in FULL else told


def _play_parts(
    order: Order, stand: Stand, modes: Sequence[Mode], record: Record, ends_s: float
) -> None:
    def until_s(part: str) -> float:
        now_s = monotonic()
        return now_s + share_s(order.parts, part, ends_s - now_s)

    search_ends_s = until_s("search")
    for number, mode in enumerate(modes):
        of_mode_s = (search_ends_s - monotonic()) / (len(modes) - number)
        find(stand, mode, monotonic() + of_mode_s, partial(record.keep_mode, mode.name))
    if "scaling" in order.parts:
        keep = partial(record.keep_part, "scaling")
        scale(stand, modes, record.result, until_s("scaling"), keep)
    if "break-even" in order.parts:
        keep = partial(record.keep_part, "break_even")
        break_even(stand, modes, record.result, until_s("break-even"), keep)
    if "patience" in order.parts:
        keep = partial(record.keep_part, "patience")
        patience(stand, modes, order.folder / "simulated", until_s("patience"), keep)
    if "sizing" in order.parts and order.forecast_per_s is not None:
        keep = partial(record.keep_part, "sizing")
        size(order.plan, modes, record.result, order.forecast_per_s, until_s("sizing"), keep)


def share_s(parts: Sequence[str], part: str, left_s: float) -> float:
    """The part's share of the time that is left for it and those after it."""
    later = [each for each in parts if PARTS.index(each) >= PARTS.index(part)]
    return left_s * SHARES[part] / sum(SHARES[each] for each in later)


def require_possible(order: Order, modes: Sequence[Mode], existing: Existing) -> None:
    """Raises PlanError for a study that cannot find what it is asked for."""
    require_answerable(order.plan)
    needed_s = LEAST_S * len(modes)
    for_search_s = share_s(order.parts, "search", order.budget_s)
    if for_search_s < needed_s:
        whole_s = needed_s * order.budget_s / for_search_s
        raise PlanError(
            f"--budget {order.budget_s:g}s is too short to try a single rate and confirm it; "
            f"{len(modes)} modes and these parts take {math.ceil(whole_s)}s or more"
        )
    ours = [part for part in order.parts if part != "search"]
    if modes == [FOREIGN] and ours:
        asked = "--forecast" if ours == ["sizing"] else f"--parts {','.join(ours)}"
        raise PlanError(
            f"{asked}: the processes and services of a --target are its own, "
            "and cannot be varied; only its capacity can be searched for"
        )
    if existing.database is not None and "break-even" in order.parts:
        raise PlanError(
            "--parts break-even slows commits down by the database server's settings; "
            "leave --database away, and one of its own is started"
        )
    if modes != [FOREIGN]:
        require_room(order.plan, existing)


def surroundings(plan: Plan, existing: Existing) -> dict[str, Any]:
    """Against what rates are played, and where, by the names that `capacity.json` has for it."""
    master = plan.voters.master
    there = {"memcached": existing.memcached, "database": existing.database}
    return {
        "target": plan.target.url,
        "sees_ballots": sees_ballots(plan),
        "workers_at": "" if not master or is_loopback(host_of(master, "--listen")) else master,
        "given": tuple(name for name, addresses in there.items() if addresses),
    }


def find(stand: Stand, mode: Mode, ends_s: float, keep: Callable[[ModeCapacity], None]) -> None:
    """Play the search's trials while there is time for one more and a confirming one.

    `ends_s`: when the time is over, on the monotonic clock. `keep` gets what was found, also when
    a trial cannot be played, of which the error is passed on.
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
        keep(capacity_of(ended.value, steps))
    except (PollstormError, OSError):
        keep(capacity_of(given_up(searching), steps))
        raise


def given_up(searching: Search) -> Found:
    """What a search knows of which no further trial is played."""
    try:
        while True:  # twice at most: a confirming trial is wanted then, and is not played either
            searching.throw(BudgetSpent())
    except StopIteration as ended:
        found: Found = ended.value
        return found


def capacity_of(found: Found, steps: Sequence[StepResult]) -> ModeCapacity:
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


def result_file(folder: Path) -> Path:
    """What is known of the study in that folder."""
    return folder / "capacity.json"
