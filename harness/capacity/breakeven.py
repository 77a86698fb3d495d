"""`direct` against a queue: from which commit latency, and from which share of readers, it wins.

A commit is made slow by MariaDB's own group-commit wait. Both modes are driven at saturation, one
right after the other; who takes more votes wins. First each setting is tried once, those at the
ends before those between them; then the settings at which both take about as many are tried again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from math import exp, log
from statistics import fmean
from typing import Final, NamedTuple

from harness.analysis.crossing import Noise, Point, crossing, noise_of
from harness.capacity.outcome import (
    BreakEven,
    BreakEvenPoint,
    CapacityResult,
    CommitCrossing,
    ReadCrossing,
    StepResult,
    Trials,
)
from harness.capacity.saturation import READERS, Saturation
from harness.capacity.search import Try
from harness.capacity.stand import Stand
from harness.modes.mode import Mode, find_mode

COMMIT_WAITS_US: Final = (0, 50_000, 10_000, 2_000)  # as it is, a busy disk, a disk, an SSD
RESULTS_PER_VOTE: Final = (0.0, 4.0, 1.0)  # at a poll's peak most ask for some
MOST_TRIALS: Final = 5  # of one setting: more would narrow little
TRICKLE_PER_S: Final = 20.0  # at which a statement's time is its own
PROBE_S: Final = 3.0  # sixty statements: their median is good to a tenth
PREFERRED: Final = ("ticket", "mirrored", "owned", "classic")


class Setting(NamedTuple):
    """Under which both modes are compared."""

    commit_wait_us: int
    results_per_vote: float


class Pair(NamedTuple):
    """Both modes in one setting, one after the other."""

    direct: StepResult
    queue: StepResult

    @property
    def advantage(self) -> float:
        """The queue's rate over that of direct; who took nothing counts as taking one vote."""
        direct, queue = (max(step.acknowledged_per_s, 1 / step.lasts_s) for step in self)
        return queue / direct

    @property
    def decides(self) -> bool:
        """Whether the one that took fewer votes could take no more, by two sound measurements."""
        less, more = sorted(self, key=lambda step: step.acknowledged_per_s)
        return less.saturated and more.sound and more.acknowledged_per_s > 0


GRID: Final = (
    *(Setting(*each) for each in product(COMMIT_WAITS_US, RESULTS_PER_VOTE[:2])),
    *(Setting(wait_us, RESULTS_PER_VOTE[2]) for wait_us in COMMIT_WAITS_US),
)


def break_even(
    stand: Stand,
    modes: Sequence[Mode],
    found: CapacityResult,
    ends_s: float,
    keep: Callable[[BreakEven], None],
) -> None:
    """Try setting after setting while there is time; `keep` gets what is known after each.

    Nothing happens where the study has no queue.
    """
    queue = queue_of(modes)
    if queue is None:
        return
    saturation = Saturation(stand, found, ends_s)
    commits_ms: dict[int, list[float]] = {}
    pairs: dict[Setting, list[Pair]] = {}
    while (setting := next_of(pairs)) and stand.has_time(ends_s, trials=3):
        probes = commits_ms.setdefault(setting.commit_wait_us, [])
        if len(probes) <= len(pairs.get(setting, ())):
            probes.extend(_commit_ms(stand, setting.commit_wait_us))
        changes = {
            "database.commit_wait_us": setting.commit_wait_us,
            READERS: setting.results_per_vote,
        }
        pair = Pair(*(saturation.drive(find_mode(name), changes) for name in ("direct", queue)))
        pairs.setdefault(setting, []).append(pair)
        points = [_point(each, pairs[each], commits_ms) for each in GRID if each in pairs]
        keep(concluded(queue, points, stand.plan.seed))


def queue_of(modes: Iterable[Mode]) -> str | None:
    """The queue that `direct` is compared with; None where there is none."""
    names = {mode.name for mode in modes if mode.queues}
    return next((name for name in (*PREFERRED, *sorted(names)) if name in names), None)


def next_of(pairs: Mapping[Setting, Sequence[Pair]]) -> Setting | None:
    """The setting to try next: one that was not tried yet; then, of those with the fewest trials,
    the closest race. None when each was tried often enough."""
    new = next((setting for setting in GRID if setting not in pairs), None)
    if new:
        return new

    def worth(setting: Setting) -> tuple[int, float]:
        tried = pairs[setting]
        return len(tried), abs(fmean(log(pair.advantage) for pair in tried))

    again = [setting for setting in GRID if len(pairs[setting]) < MOST_TRIALS]
    return min(again, key=worth, default=None)


def concluded(queue: str, points: Sequence[BreakEvenPoint], seed: int) -> BreakEven:
    """From which commit latency, and from which share of readers, the queue wins."""
    known = [point for point in points if not point.undecided]
    noise = noise_of([Point(0.0, _logarithms(point)) for point in known])
    shares = {point.results_per_vote for point in known if point.commit_ms}
    waits_us = {point.commit_wait_us for point in known}
    return BreakEven(
        queue=queue,
        points=tuple(points),
        over_commits=tuple(
            over_commits([p for p in known if p.results_per_vote == share], noise, seed)
            for share in sorted(shares)
        ),
        over_readers=tuple(
            over_readers([p for p in known if p.commit_wait_us == wait_us], noise, seed)
            for wait_us in sorted(waits_us)
        ),
        noise=None if noise is None else exp(noise.deviation) - 1,
    )


def over_commits(
    points: Sequence[BreakEvenPoint], noise: Noise | None, seed: int
) -> CommitCrossing:
    """Points of one share of readers; commit latencies are looked at by their logarithms."""
    at = [Point(log(p.commit_ms.mean), _logarithms(p)) for p in points if p.commit_ms]
    found = crossing(at, noise, seed)
    value, low, high = (None if end is None else exp(end) for end in found[1:])
    return CommitCrossing(
        results_per_vote=points[0].results_per_vote,
        wins=found.wins,
        commit_ms=value,
        low_ms=low,
        high_ms=high,
    )


def over_readers(points: Sequence[BreakEvenPoint], noise: Noise | None, seed: int) -> ReadCrossing:
    """Points of one commit latency; readers are looked at by their share of all requests."""
    at = [Point(read_share(p.results_per_vote), _logarithms(p)) for p in points]
    found = crossing(at, noise, seed)
    value, low, high = (None if end is None else end / (1 - end) for end in found[1:])
    commit_ms = points[0].commit_ms
    return ReadCrossing(
        commit_wait_us=points[0].commit_wait_us,
        commit_ms=commit_ms.mean if commit_ms else None,
        wins=found.wins,
        results_per_vote=value,
        low_per_vote=low,
        high_per_vote=high,
    )


def read_share(results_per_vote: float) -> float:
    """Results pages among all requests."""
    return results_per_vote / (1 + results_per_vote)


def _logarithms(point: BreakEvenPoint) -> tuple[float, ...]:
    return tuple(log(each) for each in point.advantages)


def _point(
    setting: Setting, pairs: Sequence[Pair], commits_ms: Mapping[int, Sequence[float]]
) -> BreakEvenPoint:
    probes = commits_ms[setting.commit_wait_us]
    deciding = [pair for pair in pairs if pair.decides]
    shown = deciding or pairs
    return BreakEvenPoint(
        commit_wait_us=setting.commit_wait_us,
        results_per_vote=setting.results_per_vote,
        commit_ms=Trials.of(probes) if probes else None,
        direct_per_s=Trials.of([pair.direct.acknowledged_per_s for pair in shown]),
        queue_per_s=Trials.of([pair.queue.acknowledged_per_s for pair in shown]),
        advantages=tuple(pair.advantage for pair in shown),
        undecided=not deciding,
    )


def _commit_ms(stand: Stand, wait_us: int) -> list[float]:
    """The median of one more trial at a trickle; empty where no vote was answered in it."""
    changes = {"database.commit_wait_us": wait_us, READERS: 0.0}
    step = stand.step(find_mode("direct"), Try(TRICKLE_PER_S), PROBE_S, changes)
    return [] if step.p50_ms is None else [step.p50_ms]
