"""How long to wait for a lock: patience against stalls, as lost votes and takeovers.

A holder that stands still for longer than the others' patience is taken over, goes on as if it
still held the lock, and votes are lost. The map is simulated; a few of its cells are also
measured, and marked so. Each cell is played several times, with other seeds, as time allows.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice, product
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Any, Final, NamedTuple

from harness.capacity.outcome import PatienceCell, PatienceMap
from harness.capacity.rehearsal import Rehearsed, rehearse
from harness.capacity.search import Try
from harness.capacity.stand import Stand, at_rate
from harness.modes.mode import Mode
from harness.plan import Plan
from harness.simulation.pool import processes

MODE: Final = "classic"  # the one whose lock can be taken over
PATIENCES_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
STALLS_S: Final = (0.3, 0.6, 1.2, 2.4)  # a slow page, a pause of a virtual machine, a long one
RATES_PER_S: Final = (100.0, 400.0)
ROUNDS: Final = 10  # simulated trials of each cell: what happens in one of four is hardly missed
MEASURED: Final = ((0.25, 1.2), (2.0, 1.2))  # patience and stall, at the higher rate
MOST_MEASURED: Final = 3  # trials of each of them
STALL_AT_S: Final = 1.0
AFTER_S: Final = 3.0  # of load after the stall: what it has damaged shows within a drain
PROCESSES: Final = 2
AT_ONCE: Final = 2
LEAST_SIMULATED: Final = 0.5  # of the time, however little there is


class Cell(NamedTuple):
    """A place of the map."""

    patience_s: float
    stall_s: float
    rate_per_s: float


class Loss(NamedTuple):
    """What one trial of a cell showed."""

    cell: Cell
    lost: int
    takeovers: int
    simulated: bool


CELLS: Final = tuple(
    Cell(*each) for each in product(PATIENCES_S[::-1], STALLS_S[::-1], RATES_PER_S[::-1])
)
"""The longest patience first: from which on nothing is lost is the question."""


def patience(
    stand: Stand,
    modes: Sequence[Mode],
    folder: Path,
    ends_s: float,
    keep: Callable[[PatienceMap], None],
) -> None:
    """Simulate cell after cell, then measure a few, while there is time; `keep` gets the map.

    Nothing happens where the study has no mode whose lock is taken over.
    """
    mode = next((mode for mode in modes if mode.name == MODE), None)
    if mode is None:
        return
    losses: list[Loss] = []
    try:
        # Those that came before an interruption stay.
        losses.extend(_simulated(stand.plan, folder, _simulated_until_s(stand, ends_s)))
        for patience_s, stall_s in MEASURED * MOST_MEASURED:
            if stand.has_time(ends_s):
                losses.append(_measured(stand, mode, Cell(patience_s, stall_s, RATES_PER_S[-1])))
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # of trials that were cut short
        if losses:
            keep(mapped(losses))


def _simulated_until_s(stand: Stand, ends_s: float) -> float:
    """Time is kept back for one trial of each measured cell, but not all there is."""
    now_s = monotonic()
    least_s = now_s + LEAST_SIMULATED * (ends_s - now_s)
    return max(least_s, ends_s - len(MEASURED) * stand.longest_s)


def mapped(losses: Iterable[Loss]) -> PatienceMap:
    """The trials by cell."""
    found: dict[tuple[Cell, bool], list[Loss]] = {}
    for loss in losses:
        found.setdefault((loss.cell, loss.simulated), []).append(loss)
    cells = [
        PatienceCell(
            patience_s=cell.patience_s,
            stall_s=cell.stall_s,
            rate_per_s=cell.rate_per_s,
            lost=fmean(loss.lost for loss in trials),
            lost_most=max(loss.lost for loss in trials),
            takeovers=fmean(loss.takeovers for loss in trials),
            trials=len(trials),
            simulated=simulated,
        )
        for (cell, simulated), trials in found.items()
    ]
    return summarised(
        sorted(cells, key=lambda c: (c.rate_per_s, c.stall_s, c.patience_s, not c.simulated))
    )


def summarised(cells: Sequence[PatienceCell], wanted: Sequence[Cell] = CELLS) -> PatienceMap:
    """With the patience that is safe under every stall, and that which is the least under the
    shortest harmful one. `wanted`: the cells of the whole map."""
    recommended_s = _shortest_safe(cells, wanted)
    harmful_s = _shortest_harmful(cells, wanted)
    return PatienceMap(
        mode=MODE,
        cells=tuple(cells),
        wanted_cells=len(wanted),
        recommended_s=recommended_s,
        safe_trials=sum(
            cell.trials
            for cell in cells
            if cell.simulated and recommended_s is not None and cell.patience_s >= recommended_s
        ),
        never_below_s=_above(
            [cell.patience_s for cell in cells if cell.lost and cell.stall_s == harmful_s], wanted
        ),
        shortest_harmful_stall_s=harmful_s,
    )


def _missing(cells: Sequence[PatienceCell], wanted: Sequence[Cell]) -> list[Cell]:
    tried = {Cell(cell.patience_s, cell.stall_s, cell.rate_per_s) for cell in cells}
    return [cell for cell in wanted if cell not in tried]


def _shortest_harmful(cells: Sequence[PatienceCell], wanted: Sequence[Cell]) -> float | None:
    """The shortest stall in which a vote was lost, if each shorter one was tried in every cell."""
    harmful_s = min((cell.stall_s for cell in cells if cell.lost), default=None)
    if harmful_s is None or any(cell.stall_s < harmful_s for cell in _missing(cells, wanted)):
        return None
    return harmful_s


def _shortest_safe(cells: Sequence[PatienceCell], wanted: Sequence[Cell]) -> float | None:
    """The shortest patience from which on every cell was tried, and nothing was lost in any."""
    lossy = [cell.patience_s for cell in cells if cell.lost]
    missing = [cell.patience_s for cell in _missing(cells, wanted)]
    doubtful_s = max(lossy + missing, default=0.0)
    return min((cell.patience_s for cell in cells if cell.patience_s > doubtful_s), default=None)


def _above(lossy_s: Sequence[float], wanted: Sequence[Cell]) -> float | None:
    """The next longer patience of the map than any of these."""
    if not lossy_s:
        return None
    return min((c.patience_s for c in wanted if c.patience_s > max(lossy_s)), default=None)


def _simulated(plan: Plan, folder: Path, ends_s: float) -> Iterator[Loss]:
    """Trial after trial as they end, in rounds of all cells, until there is no time for more."""
    folder.mkdir(parents=True, exist_ok=True)
    orders = iter(enumerate(product(range(ROUNDS), CELLS)))
    with processes(AT_ONCE) as pool:
        running: dict[Future[Rehearsed], Cell] = {}
        while True:  # bounded by the orders
            for number, (turn, cell) in islice(orders, AT_ONCE - len(running)):
                running[_submit(pool, plan, folder / str(number), turn, cell)] = cell
            left_s = ends_s - monotonic()
            if not running or left_s <= 0:
                return  # the pool ends what still runs
            done, _ = wait(running, timeout=left_s, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result().result
                lost, takeovers = result.accounts.lost, result.lock.takeovers
                yield Loss(running.pop(future), lost, takeovers, simulated=True)


def _submit(
    pool: ProcessPoolExecutor, plan: Plan, folder: Path, turn: int, cell: Cell
) -> Future[Rehearsed]:
    lasts_s = STALL_AT_S + cell.stall_s + AFTER_S
    stalled = at_rate(plan, MODE, cell.rate_per_s, lasts_s, turn, _changes(cell))
    return pool.submit(rehearse, stalled, MODE, None, folder)


def _measured(stand: Stand, mode: Mode, cell: Cell) -> Loss:
    lasts_s = STALL_AT_S + cell.stall_s + AFTER_S
    step = stand.step(mode, Try(cell.rate_per_s), lasts_s, _changes(cell))
    return Loss(cell, step.lost, step.takeovers, simulated=False)


def _changes(cell: Cell) -> dict[str, Any]:
    stall = {"kind": "pause", "at_s": STALL_AT_S, "target": "lock-holder", "for_s": cell.stall_s}
    return {
        "queue.patience_s": cell.patience_s,
        "faults": [stall],
        "site.workers": PROCESSES,
        "voters.keep_alive": False,  # a crowd: each voter's connection goes to either process
    }
