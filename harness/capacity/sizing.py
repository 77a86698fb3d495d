"""What each mode needs for a forecast peak. docs/capacity.md has each formula and its reason."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Final

from harness.analysis.scalability import CONFIDENCE, enough_processes
from harness.capacity.objectives import counted_within_s
from harness.capacity.outcome import (
    Bounds,
    CapacityResult,
    Estimate,
    ModeCapacity,
    ModeScaling,
    Need,
    Range,
    Sizing,
    StepResult,
)
from harness.capacity.rehearsal import rehearse
from harness.capacity.scaling import law_of
from harness.capacity.stand import at_rate, missed_by
from harness.modes.mode import Mode, daemons_of
from harness.plan import Plan
from harness.simulation.memcached import size_of
from harness.simulation.slabs import CHUNK_SIZES, MIB, class_of
from harness.vote import Vote, mint

HEADROOM: Final = 0.3  # of capacity beyond the forecast: what a forecast is usually wrong by
SPARE: Final = 2.0  # threads and memory: twice what is used on average
MOST_PROCESSES: Final = 64
FEWEST_THREADS: Final = 4
OTHER_CONNECTIONS: Final = 5  # an administrator, a backup, monitoring
LEAST_MIB: Final = 64  # memcached's own default; less saves nothing
SHARDS: Final = (1, 2, 4, 8, 16)
TOO_MANY: Final = f"more than {SHARDS[-1]}"
NO_TIME: Final = "no time was left"
REHEARSED_S: Final = 4.0
OTHER_CORES: Final = 3  # flusher, memcached, database
OUTSIDE: Final = (1 - CONFIDENCE) / 2
REHEARSED_SEEDS: Final = 3  # simulated trials of each number of queues


def size(
    plan: Plan,
    modes: Sequence[Mode],
    found: CapacityResult,
    forecast_per_s: float,
    ends_s: float,
    keep: Callable[[Mapping[str, Sizing]], None],
) -> None:
    """The sizing of each mode; `keep` gets those that there are after each.

    `ends_s`: when there is no time for the simulator any more. Raises PollstormError.
    """
    sized: dict[str, Sizing] = {}
    for number, mode in enumerate(modes):
        until_s = monotonic() + (ends_s - monotonic()) / (len(modes) - number)
        scaling = found.scaling.get(mode.name)
        capacity = found.modes[mode.name]
        sized[mode.name] = _size(plan, mode, capacity, scaling, forecast_per_s, until_s)
        keep(dict(sized))


def _size(
    plan: Plan,
    mode: Mode,
    capacity: ModeCapacity,
    scaling: ModeScaling | None,
    forecast_per_s: float,
    ends_s: float,
) -> Sizing:
    bounds = capacity.capacity_per_s
    headroom = headroom_of(bounds, forecast_per_s)
    fits = headroom.low is not None and headroom.low >= HEADROOM
    wanted_per_s = forecast_per_s * (1 + HEADROOM)
    by_law = processes_for(scaling, bounds, plan.site.workers, wanted_per_s, plan.seed)
    processes = by_law or (_just(plan.site.workers) if fits else None)
    workers = processes.value if processes else plan.site.workers
    passed = [step for step in capacity.steps if step.verdict == "passed"]
    threads = threads_for(passed, forecast_per_s, workers)
    backlog = backlog_for(passed, forecast_per_s, plan.flusher.interval_s)
    if not mode.queues:
        backlog = _just(0)
    others = (plan.flusher.processes if mode.queues else 0) + OTHER_CONNECTIONS
    keeps_votes = mode.queues and daemons_of(mode, plan) > 0
    shards, without_shards = (
        shards_for(plan, mode, forecast_per_s, workers, ends_s) if mode.queues else (_just(1), "")
    )
    return Sizing(
        fits=fits,
        headroom=headroom,
        processes=processes,
        processes_by="law" if by_law else "plan",
        threads=threads,
        database_connections=_each(threads, lambda number: workers * number + others),
        backlog_votes=backlog,
        memcached_mib=_each(backlog, partial(memory_for, plan)) if keeps_votes else _just(0),
        drain_s=drain_for(backlog, bounds) if mode.queues else None,
        flush_interval_s=flush_interval_for(plan, passed, wanted_per_s) if mode.queues else None,
        shards=shards,
        without_shards=without_shards,
    )


def _just(value: int) -> Need:
    return Need(value=value, low=value, high=value)


def _each(need: Need, convert: Callable[[int], int]) -> Need:
    """What follows from a need; it grows with it."""
    high = None if need.high is None else convert(need.high)
    return Need(value=convert(need.value), low=convert(need.low), high=high)


def headroom_of(bounds: Bounds, forecast_per_s: float) -> Range:
    """By the highest rate that passed, and by the lowest that failed."""
    low, high = (
        None if rate_per_s is None else rate_per_s / forecast_per_s - 1
        for rate_per_s in (bounds.lower, bounds.upper)
    )
    return Range(low=low, high=high)


def processes_for(
    scaling: ModeScaling | None, bounds: Bounds, tried: int, wanted_per_s: float, seed: int
) -> Need | None:
    """The fewest processes that sustain so much, if what is sustained grows by the fitted law from
    what so many as were tried do sustain. None: no number does by that law, or there is none.

    The interval holds that number by nearly all of the laws that the trials might have given, and
    for both bounds of what is sustained.
    """
    if scaling is None or not scaling.single_per_s or bounds.lower is None:
        return None
    law = law_of(scaling.points, seed)
    value, *slow = enough_processes(law, tried, wanted_per_s / bounds.lower, MOST_PROCESSES)
    if value is None:
        return None
    upper_per_s = bounds.upper or bounds.lower
    _, *quick = enough_processes(law, tried, wanted_per_s / upper_per_s, MOST_PROCESSES)
    low, high = _quantile(quick, OUTSIDE), _quantile(slow, 1 - OUTSIDE)
    return Need(
        value=value,
        low=value if low is None else min(value, low),
        high=None if high is None else max(value, high),
    )


def _quantile(numbers: Sequence[int | None], share: float) -> int | None:
    """The nearest number away from the middle; None, which is no number, is beyond all."""
    ordered = sorted(numbers, key=lambda number: math.inf if number is None else number)
    place = share * (len(ordered) - 1)
    return ordered[math.floor(place) if share < 0.5 else math.ceil(place)]


def threads_for(passed: Sequence[StepResult], forecast_per_s: float, processes: int) -> Need:
    """Little's law: as many as requests are under way, by the nearest rate's p99, and spare.

    By the mean of that rate's trials, and by the quickest and the slowest of those beside it.
    """
    answered = [step for step in passed if step.p99_ms is not None]
    if not answered:
        return _just(FEWEST_THREADS)

    def threads(p99_ms: float) -> int:
        under_way = forecast_per_s * p99_ms / 1000
        return max(FEWEST_THREADS, math.ceil(SPARE * under_way / processes))

    near = _near(answered, forecast_per_s)
    same, beside = ([step.p99_ms or 0.0 for step in steps] for steps in near)
    return Need(value=threads(fmean(same)), low=threads(min(beside)), high=threads(max(beside)))


def _near(
    steps: Sequence[StepResult], rate_per_s: float
) -> tuple[list[StepResult], list[StepResult]]:
    """Those of the nearest rate; and with them one of the next nearest."""
    by_distance = sorted(steps, key=lambda step: abs(step.rate_per_s - rate_per_s))
    same = [step for step in by_distance if step.rate_per_s == by_distance[0].rate_per_s]
    others = [step for step in by_distance if step.rate_per_s != by_distance[0].rate_per_s]
    return same, same + others[:1]


def backlog_for(passed: Sequence[StepResult], forecast_per_s: float, interval_s: float) -> Need:
    """What waits between two drains, in proportion to the deepest that was measured, and to the
    shallowest; at least what comes in an interval."""
    seen = [(step.deepest_backlog, step.rate_per_s) for step in passed]
    waits_s = [deep / rate for deep, rate in seen if deep is not None] or [interval_s]
    deepest, shallowest = (
        math.ceil(forecast_per_s * max(each(waits_s), interval_s)) for each in (max, min)
    )
    return Need(value=deepest, low=shallowest, high=deepest)


def drain_for(backlog: Need, bounds: Bounds) -> Range:
    """Until the backlog is gone when nobody votes any more: votes leave at least as quickly as
    they came at the highest rate at which the backlog did not grow."""
    slow_per_s, quick_per_s = bounds.lower, bounds.upper or bounds.lower
    return Range(
        low=backlog.low / quick_per_s if quick_per_s else None,
        high=backlog.value / slow_per_s if slow_per_s else None,
    )


def memory_for(plan: Plan, backlog_votes: int) -> int:
    """MiB of each daemon: each vote's slot in the chunk that it takes, and as much to spare."""
    vote = mint(1, 0)
    message = Vote(vote, plan.poll.name, len(plan.poll.choices), f"v{vote:016x}").to_message()
    key = f"{plan.queue.prefix}-key-{1 << 40}"
    chunk = CHUNK_SIZES[class_of(size_of(key, message))]
    return max(LEAST_MIB, math.ceil(SPARE * backlog_votes * chunk / MIB))


def flush_interval_for(
    plan: Plan, passed: Sequence[StepResult], wanted_per_s: float
) -> Estimate | None:
    """The longest at which nearly all votes are counted within the objective on that.

    A vote waits for a drain, one interval at most, and then until all that came in an interval is
    drained. What it was seen to wait beyond an interval is the time for those; each takes so long
    at any rate and interval. Several flushers take turns within an interval. By the mean of the
    nearest rate's trials, and by the slowest and the quickest of those beside it.
    """
    within_s = counted_within_s(plan.slos())
    counted = [step for step in passed if step.counted_p99_s is not None]
    if within_s is None or not counted:
        return None
    turn_s = plan.flusher.interval_s / plan.flusher.processes

    def each_takes_s(step: StepResult) -> float:
        beyond_s = max(0.0, (step.counted_p99_s or 0.0) - turn_s)
        return beyond_s / (turn_s * step.rate_per_s)

    def longest_s(vote_s: float) -> float:
        busy = wanted_per_s * vote_s  # share of an interval
        return 0.0 if busy > 1 else plan.flusher.processes * within_s / (1 + busy)

    near = _near(counted, wanted_per_s)
    same, beside = ([each_takes_s(step) for step in steps] for steps in near)
    value_s = longest_s(fmean(same))
    if not value_s:
        return None
    return Estimate(value=value_s, low=longest_s(max(beside)), high=longest_s(min(beside)))


def shards_for(
    plan: Plan, mode: Mode, forecast_per_s: float, workers: int, ends_s: float
) -> tuple[Need | None, str]:
    """The fewest queues with which the simulator takes the forecast within the objectives: the
    most that any of several seeds took, and the fewest. None, and why, if there is no such number.

    The simulated machine has a core for each process of the site, and one each for flusher,
    memcached and database. `ends_s`: when there is no time for another trial.
    """
    found: list[int | None] = []
    trial_s = 0.0  # the longest so far
    for seed in range(REHEARSED_SEEDS):
        found.append(None)
        for shards in SHARDS:
            begun_s = monotonic()
            if begun_s + trial_s > ends_s:
                return None, NO_TIME
            changes = {"queue.queues": shards, "site.workers": workers}
            rehearsed = at_rate(plan, mode.name, forecast_per_s, REHEARSED_S, seed, changes)
            suffices = _suffices(rehearsed)
            trial_s = max(trial_s, monotonic() - begun_s)
            if suffices:
                found[-1] = shards
                break
    enough = [each for each in found if each is not None]
    if not enough:
        return None, TOO_MANY
    high = max(enough) if len(enough) == len(found) else None
    return Need(value=max(enough), low=min(enough), high=high), ""


def _suffices(plan: Plan) -> bool:
    """Whether the only mode of the plan meets the objectives in virtual time."""
    (mode,) = plan.modes
    with tempfile.TemporaryDirectory(prefix="pollstorm-") as folder:
        played = rehearse(plan, mode, plan.site.workers + OTHER_CORES, Path(folder) / mode)
    return not missed_by(played.result, plan, grows=played.backlog_grows)
