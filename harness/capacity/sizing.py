"""What each mode needs for a forecast peak. docs/capacity.md has each formula and its reason."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from harness.analysis.scalability import throughput
from harness.capacity.outcome import CapacityResult, ModeCapacity, ModeScaling, Sizing, StepResult
from harness.capacity.rehearsal import rehearse
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
REHEARSED_S: Final = 4.0


def size(
    plan: Plan, modes: Sequence[Mode], found: CapacityResult, forecast_per_s: float
) -> dict[str, Sizing]:
    """The sizing of each mode. Raises PollstormError."""
    return {
        mode.name: _size(
            plan,
            mode,
            found.modes[mode.name],
            found.scaling.get(mode.name),
            forecast_per_s,
        )
        for mode in modes
    }


def _size(
    plan: Plan,
    mode: Mode,
    capacity: ModeCapacity,
    scaling: ModeScaling | None,
    forecast_per_s: float,
) -> Sizing:
    lower_per_s = capacity.capacity_per_s.lower
    headroom = None if lower_per_s is None else lower_per_s / forecast_per_s - 1
    fits = headroom is not None and headroom >= HEADROOM
    processes = processes_for(scaling, forecast_per_s * (1 + HEADROOM))
    if processes is None and fits:
        processes = plan.site.workers
    passed = [step for step in capacity.steps if step.verdict == "passed"]
    threads = threads_for(passed, forecast_per_s, processes or plan.site.workers)
    backlog = backlog_for(passed, forecast_per_s, plan.flusher.interval_s) if mode.queues else 0
    return Sizing(
        fits=fits,
        headroom=headroom,
        processes=processes,
        threads=threads,
        database_connections=(processes or plan.site.workers) * threads
        + (plan.flusher.processes if mode.queues else 0)
        + OTHER_CONNECTIONS,
        backlog_votes=backlog,
        memcached_mib=memory_for(plan, backlog) if daemons_of(mode, plan) and mode.queues else 0,
        drain_s=backlog / lower_per_s if backlog and lower_per_s else None,
        shards=shards_for(plan, mode, forecast_per_s, processes) if mode.queues else 1,
    )


def processes_for(scaling: ModeScaling | None, wanted_per_s: float) -> int | None:
    """The fewest processes that take so much by the fitted law; None: none do, or there is none."""
    if scaling is None or not (scaling.single_per_s and scaling.contention and scaling.coherency):
        return None
    most = MOST_PROCESSES
    if scaling.best_processes:  # beyond it throughput falls again
        most = min(most, max(1, math.floor(scaling.best_processes.value)))
    rates = throughput(
        np.arange(1, most + 1, dtype=np.float64),
        scaling.single_per_s.value,
        scaling.contention.value,
        scaling.coherency.value,
    )
    enough = np.flatnonzero(rates >= wanted_per_s)
    return int(enough[0]) + 1 if len(enough) else None


def threads_for(passed: Sequence[StepResult], forecast_per_s: float, processes: int) -> int:
    """Little's law: as many as requests are under way, by the nearest rate's p99, and spare."""
    if not passed:
        return FEWEST_THREADS
    nearest = min(passed, key=lambda step: abs(step.rate_per_s - forecast_per_s))
    under_way = forecast_per_s * (nearest.p99_ms or 0.0) / 1000
    return max(FEWEST_THREADS, math.ceil(SPARE * under_way / processes))


def backlog_for(passed: Sequence[StepResult], forecast_per_s: float, interval_s: float) -> int:
    """What waits between two drains, in proportion to the deepest that was measured."""
    waits_s = max((step.deepest_backlog / step.rate_per_s for step in passed), default=interval_s)
    return math.ceil(forecast_per_s * max(waits_s, interval_s))


def memory_for(plan: Plan, backlog_votes: int) -> int:
    """MiB of each daemon: each vote's slot in the chunk that it takes, and as much to spare."""
    vote = mint(1, 0)
    message = Vote(vote, plan.poll.name, len(plan.poll.choices), f"v{vote:016x}").to_message()
    key = f"{plan.queue.prefix}-key-{1 << 40}"
    chunk = CHUNK_SIZES[class_of(size_of(key, message))]
    return max(LEAST_MIB, math.ceil(SPARE * backlog_votes * chunk / MIB))


def shards_for(plan: Plan, mode: Mode, forecast_per_s: float, processes: int | None) -> int | None:
    """The fewest queues with which the simulator takes the forecast within the objectives.

    The simulated machine has a core for each process of the site, and one each for flusher,
    memcached and database.
    """
    workers = processes or plan.site.workers
    with tempfile.TemporaryDirectory(prefix="pollstorm-") as folder:
        for shards in SHARDS:
            changes = {"queue.queues": shards, "site.workers": workers}
            rehearsed_plan = at_rate(plan, mode.name, forecast_per_s, REHEARSED_S, 0, changes)
            played = rehearse(rehearsed_plan, mode.name, workers + 3, Path(folder) / str(shards))
            slos = rehearsed_plan.slos()
            if not missed_by(played.result, slos, grows=played.backlog_grows):
                return shards
    return None
