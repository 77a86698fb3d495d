"""How each mode's throughput grows with the number of site processes: measured, then fitted."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final

from harness.analysis import scalability
from harness.capacity.outcome import CapacityResult, Estimate, ModeScaling, ScalingPoint
from harness.capacity.saturation import Saturation
from harness.capacity.stand import Stand
from harness.modes.mode import Mode

PROCESSES: Final = (1, 2, 4, 3, 6, 8)  # in this order, so that a short budget still spans a range
ROUNDS: Final = 3  # trials of each number, if there is time


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
    saturation = Saturation(stand, found, ends_s)
    try:
        for processes, mode in product(PROCESSES * ROUNDS, modes):
            if not stand.has_time(ends_s):
                break
            points[mode.name].append(_point(saturation, mode, processes))
    finally:
        seed = stand.plan.seed
        keep({name: fitted(several, seed) for name, several in points.items() if several})


def _point(saturation: Saturation, mode: Mode, processes: int) -> ScalingPoint:
    step = saturation.drive(mode, {"site.workers": processes})
    return ScalingPoint(
        processes=processes,
        offered_per_s=step.rate_per_s,
        acknowledged_per_s=step.acknowledged_per_s,
        p50_ms=step.p50_ms,
        saturated=step.saturated,
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
        why = str(error)
        unsaturated = sum(not point.saturated for point in points)
        if unsaturated:
            why += f"; {unsaturated} of {len(points)} trials were not saturated, or not sound"
        return ModeScaling(points=tuple(points), without_law=why)
    return ModeScaling(
        points=tuple(points),
        single_per_s=_estimate(law.single_per_s),
        contention=_estimate(law.contention),
        coherency=_estimate(law.coherency),
        best_processes=None if law.best_processes is None else _estimate(law.best_processes),
        explained=law.explained,
    )


def _estimate(interval: scalability.Interval | scalability.Best) -> Estimate:
    return Estimate(value=interval.value, low=interval.low, high=interval.high)
