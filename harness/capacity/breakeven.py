"""`direct` against a queue: from which commit latency, and up to which share of readers, it wins.

A commit is made slow by MariaDB's own group-commit wait. Both modes are driven at saturation; who
takes more votes wins. Between two measured latencies the ratio's logarithm is taken to be linear in
the latency's.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log
from time import monotonic
from typing import Final

from harness.capacity.outcome import (
    BreakEven,
    BreakEvenLine,
    BreakEvenPoint,
    CapacityResult,
    StepResult,
)
from harness.capacity.search import Try
from harness.capacity.stand import STEP_S, Stand
from harness.modes.mode import Mode, find_mode

COMMIT_WAITS_US: Final = (0, 10_000, 2_000, 50_000)  # a disk with a cache, an SSD, a busy disk
READERS: Final = (0.0, 4.0)  # results pages per vote
TRICKLE_PER_S: Final = 20.0  # at which a statement's time is its own
TRIAL_S: Final = 12.0
OVERLOAD: Final = 2.0
UNKNOWN_PER_S: Final = 2000.0
PREFERRED: Final = ("ticket", "mirrored", "owned", "classic")


def break_even(
    stand: Stand, modes: Sequence[Mode], found: CapacityResult, ends_s: float
) -> BreakEven | None:
    """The points for which there is time, and the line between them.

    None where the study has no queue, or no time.
    """
    names = {mode.name for mode in modes if mode.queues}
    queue = next((name for name in (*PREFERRED, *sorted(names)) if name in names), None)
    if queue is None:
        return None
    points: list[BreakEvenPoint] = []
    for wait_us in COMMIT_WAITS_US:
        if monotonic() + (1 + 2 * len(READERS)) * TRIAL_S > ends_s:
            break
        commit_ms = _step(stand, "direct", TRICKLE_PER_S, wait_us, 0.0).p50_ms
        for readers in READERS:
            rates = [
                _step(stand, name, _offered(stand, name, readers, found), wait_us, readers)
                for name in ("direct", queue)
            ]
            points.append(
                BreakEvenPoint(
                    commit_wait_us=wait_us,
                    results_per_vote=readers,
                    commit_ms=commit_ms,
                    direct_per_s=rates[0].acknowledged_per_s,
                    queue_per_s=rates[1].acknowledged_per_s,
                )
            )
    if not points:
        return None
    lines = [line_of([p for p in points if p.results_per_vote == each], each) for each in READERS]
    return BreakEven(queue=queue, points=tuple(points), lines=tuple(lines))


def line_of(points: Sequence[BreakEvenPoint], readers: float) -> BreakEvenLine:
    """Where the queue begins to win as commits become slower."""
    known = sorted(
        (point.commit_ms, log(point.queue_per_s / point.direct_per_s))
        for point in points
        if point.commit_ms and point.queue_per_s > 0 and point.direct_per_s > 0
    )
    if not known or all(advantage <= 0 for _, advantage in known):
        return BreakEvenLine(results_per_vote=readers, wins="never", from_commit_ms=None)
    if all(advantage > 0 for _, advantage in known):
        return BreakEvenLine(results_per_vote=readers, wins="always", from_commit_ms=None)
    for (quick_ms, before), (slow_ms, after) in pairwise(known):
        if before <= 0 < after:
            way = -before / (after - before)
            crossing_ms = exp(log(quick_ms) + way * (log(slow_ms) - log(quick_ms)))
            return BreakEvenLine(results_per_vote=readers, wins="from", from_commit_ms=crossing_ms)
    return BreakEvenLine(results_per_vote=readers, wins="never", from_commit_ms=None)


def _step(stand: Stand, mode: str, rate_per_s: float, wait_us: int, readers: float) -> StepResult:
    changes = {"database.commit_wait_us": wait_us, "arrivals.results_per_vote": readers}
    return stand.step(find_mode(mode), Try(rate_per_s), STEP_S, changes)


def _offered(stand: Stand, mode: str, readers: float, found: CapacityResult) -> float:
    """Twice what it was seen to take, as far as the generator can be trusted."""
    capacity = found.modes.get(mode)
    bounds = capacity.capacity_per_s if capacity else None
    known_per_s = (bounds and (bounds.upper or bounds.lower)) or UNKNOWN_PER_S
    trusted_per_s = stand.usable_per_s * (1 + stand.plan.arrivals.results_per_vote) / (1 + readers)
    return min(OVERLOAD * known_per_s, trusted_per_s)
