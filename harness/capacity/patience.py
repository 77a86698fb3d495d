"""How long to wait for a lock: patience against stalls, as lost votes and takeovers.

A holder that stands still for longer than the others' patience is taken over, goes on as if it
still held the lock, and votes are lost. The map is simulated; a few of its cells are also
measured, and marked so.
"""

from collections.abc import Sequence
from concurrent.futures import as_completed
from itertools import product
from pathlib import Path
from time import monotonic
from typing import Any, Final

from harness.capacity.outcome import PatienceCell, PatienceMap
from harness.capacity.rehearsal import rehearse
from harness.capacity.search import Try
from harness.capacity.stand import Stand, at_rate
from harness.modes.mode import Mode
from harness.plan import Plan
from harness.simulation.pool import processes

MODE: Final = "classic"  # the one whose lock can be taken over
PATIENCES_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
STALLS_S: Final = (0.3, 0.6, 1.2, 2.4)  # a slow page, a pause of a virtual machine, a long one
RATES_PER_S: Final = (100.0, 400.0)
MEASURED: Final = ((0.25, 1.2), (2.0, 1.2))  # patience and stall, at the higher rate
STALL_AT_S: Final = 1.0
AFTER_S: Final = 3.0  # of load after the stall: what it has damaged shows within a drain
PROCESSES: Final = 2
TRIAL_S: Final = 15.0
AT_ONCE: Final = 2


def patience(
    stand: Stand, modes: Sequence[Mode], folder: Path, ends_s: float
) -> PatienceMap | None:
    """The map; None where the study has no mode whose lock is taken over."""
    mode = next((mode for mode in modes if mode.name == MODE), None)
    if mode is None:
        return None
    cells = [*_simulated(stand.plan, folder)]
    for patience_s, stall_s in MEASURED:
        if monotonic() + TRIAL_S < ends_s:
            cells.append(_measured(stand, mode, patience_s, stall_s, RATES_PER_S[-1]))
    return summarised(cells)


def summarised(cells: Sequence[PatienceCell]) -> PatienceMap:
    """With the patience that is safe under every stall, and under the shortest harmful one."""
    harmful_s = min((cell.stall_s for cell in cells if cell.lost), default=None)
    under_it = [cell for cell in cells if cell.stall_s == harmful_s]
    return PatienceMap(
        mode=MODE,
        cells=tuple(cells),
        recommended_s=_shortest_safe(cells),
        never_below_s=_shortest_safe(under_it),
        shortest_harmful_stall_s=harmful_s,
    )


def _shortest_safe(cells: Sequence[PatienceCell]) -> float | None:
    """The shortest patience from which on nothing was lost in any of these cells."""
    lossy = [cell.patience_s for cell in cells if cell.lost]
    safe = {cell.patience_s for cell in cells if not lossy or cell.patience_s > max(lossy)}
    return min(safe, default=None)


def _simulated(plan: Plan, folder: Path) -> list[PatienceCell]:
    folder.mkdir(parents=True, exist_ok=True)
    cells = []
    with processes(AT_ONCE) as pool:
        futures = {}
        for number, key in enumerate(product(PATIENCES_S, STALLS_S, RATES_PER_S)):
            stalled = _plan(plan, *key)
            futures[pool.submit(rehearse, stalled, MODE, None, folder / str(number))] = key
        for future in as_completed(futures):
            patience_s, stall_s, rate_per_s = futures[future]
            result = future.result().result
            cells.append(
                PatienceCell(
                    patience_s=patience_s,
                    stall_s=stall_s,
                    rate_per_s=rate_per_s,
                    lost=result.accounts.lost,
                    takeovers=result.lock.takeovers,
                    trials=1,
                    simulated=True,
                )
            )
    return sorted(cells, key=lambda cell: (cell.rate_per_s, cell.stall_s, cell.patience_s))


def _measured(
    stand: Stand, mode: Mode, patience_s: float, stall_s: float, rate_per_s: float
) -> PatienceCell:
    lasts_s = STALL_AT_S + stall_s + AFTER_S
    step = stand.step(mode, Try(rate_per_s), lasts_s, _changes(patience_s, stall_s))
    return PatienceCell(
        patience_s=patience_s,
        stall_s=stall_s,
        rate_per_s=rate_per_s,
        lost=step.lost,
        takeovers=step.takeovers,
        trials=1,
        simulated=False,
    )


def _plan(plan: Plan, patience_s: float, stall_s: float, rate_per_s: float) -> Plan:
    lasts_s = STALL_AT_S + stall_s + AFTER_S
    return at_rate(plan, MODE, rate_per_s, lasts_s, 0, _changes(patience_s, stall_s))


def _changes(patience_s: float, stall_s: float) -> dict[str, Any]:
    stall = {"kind": "pause", "at_s": STALL_AT_S, "target": "lock-holder", "for_s": stall_s}
    return {
        "queue.patience_s": patience_s,
        "faults": [stall],
        "site.workers": PROCESSES,
        "voters.keep_alive": False,  # a crowd: each voter's connection goes to either process
    }
