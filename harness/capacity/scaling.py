"""How each mode's throughput grows with the number of site processes: measured, then fitted."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final

from harness.analysis import scalability
from harness.capacity.outcome import CapacityResult, Estimate, ModeScaling, ScalingPoint
from harness.capacity.search import Try
from harness.capacity.stand import STEP_S, Stand
from harness.modes.mode import Mode

PROCESSES: Final = (1, 2, 4, 3, 6, 8)  # in this order, so that a short budget still spans a range
ROUNDS: Final = 3  # trials of each number, if there is time
OVERLOAD: Final = 2.0  # times the capacity: all processes are busy, and the site refuses the rest
UNKNOWN_PER_S: Final = 2000.0  # offered where no capacity was found


def scale(
    stand: Stand,
    modes: Sequence[Mode],
    found: CapacityResult,
    ends_s: float,
    keep: Callable[[dict[str, ModeScaling]], None],
) -> None:
    """Each mode at saturation with more and more processes, as far as there is time.

    `keep` gets the points with their laws, also when a trial cannot be played.
    """
    points: dict[str, list[ScalingPoint]] = {mode.name: [] for mode in modes}
    try:
        for processes, mode in product(PROCESSES * ROUNDS, modes):
            if not stand.has_time(ends_s):
                break
            points[mode.name].append(_point(stand, mode, processes, found))
    finally:
        seed = stand.plan.seed
        keep({name: fitted(several, seed) for name, several in points.items() if several})


def _point(stand: Stand, mode: Mode, processes: int, found: CapacityResult) -> ScalingPoint:
    bounds = found.modes[mode.name].capacity_per_s
    known_per_s = bounds.upper or bounds.lower or UNKNOWN_PER_S
    offered_per_s = min(OVERLOAD * known_per_s, stand.usable_per_s)
    step = stand.step(mode, Try(offered_per_s), STEP_S, {"site.workers": processes})
    return ScalingPoint(
        processes=processes,
        offered_per_s=offered_per_s,
        acknowledged_per_s=step.acknowledged_per_s,
        p50_ms=step.p50_ms,
    )


def law_of(points: Sequence[ScalingPoint], seed: int) -> scalability.Scaling:
    """The law that the points follow. Raises ValueError, and says why, when there is none."""
    useful = [point for point in points if point.saturated and point.acknowledged_per_s > 0]
    return scalability.fit(
        [point.processes for point in useful],
        [point.acknowledged_per_s for point in useful],
        seed,
    )


def fitted(points: Sequence[ScalingPoint], seed: int) -> ModeScaling:
    """The points with their law, or why there is none."""
    try:
        law = law_of(points, seed)
    except ValueError as error:
        return ModeScaling(points=tuple(points), without_law=str(error))
    return ModeScaling(
        points=tuple(points),
        single_per_s=_estimate(law.single_per_s),
        contention=_estimate(law.contention),
        coherency=_estimate(law.coherency),
        best_processes=None if law.best_processes is None else _estimate(law.best_processes),
        explained=law.explained,
    )


def _estimate(interval: scalability.Interval) -> Estimate:
    return Estimate(value=interval.value, low=interval.low, high=interval.high)
