"""`capacity.json`: what a capacity study found, with the unit in each name."""

from typing import Final, Literal

import msgspec

from harness.errors import Exit

SCHEMA_VERSION: Final = 1


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Votes per second: the highest rate that passed, and the lowest that failed; None: none."""

    lower: float | None
    upper: float | None


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """One trial at a constant rate."""

    rate_per_s: float
    lasts_s: float
    confirming: bool
    verdict: Literal["passed", "failed", "invalid"]
    limited_by: str  # the objective that was missed; empty if none was
    reasons: tuple[str, ...]  # why invalid
    acknowledged_per_s: float
    p50_ms: float | None  # from the planned time
    p99_ms: float | None
    counted_p99_s: float | None
    lost: int
    refused: int
    unknown: int
    takeovers: int  # of a lock whose holder was waited for in vain
    deepest_backlog: int  # acknowledged votes that waited for their commit at one time
    backlog_growth_per_s: float
    in_flight_residual: float | None
    """Little's law: sampled L over λW, less 1; None where fewer than one request was under way."""
    cpu_s_per_vote: float | None  # of all services


class ModeCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """What one mode sustains within the objectives."""

    capacity_per_s: Bounds
    limited_by: str  # an objective, `backlog`, `refused`, `generator` or `budget`
    confirmed: bool  # by a longer trial at the lower bound
    steps: tuple[StepResult, ...]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A value, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


class ScalingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One trial at saturation."""

    processes: int
    offered_per_s: float
    acknowledged_per_s: float
    p50_ms: float | None


class ModeScaling(msgspec.Struct, frozen=True, kw_only=True):
    """How throughput grows with the site's processes. The law's terms are None where too few
    numbers of processes could be measured for it."""

    points: tuple[ScalingPoint, ...]
    single_per_s: Estimate | None = None  # what one process does alone
    contention: Estimate | None = None  # σ
    coherency: Estimate | None = None  # κ
    best_processes: Estimate | None = None  # None: throughput was not seen to fall again
    explained: float | None = None  # R²


class BreakEvenPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Both ways of taking votes at saturation: one commit latency, one share of readers."""

    commit_wait_us: int  # what MariaDB waits for others to commit with
    results_per_vote: float
    commit_ms: float | None  # what a vote's statement took at a trickle, as measured
    direct_per_s: float
    queue_per_s: float


class BreakEvenLine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the queue begins to win, between measured points, on a logarithmic scale."""

    results_per_vote: float
    wins: Literal["always", "never", "from"]  # within what was measured
    from_commit_ms: float | None


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """`direct` against a queue."""

    queue: str  # the mode
    points: tuple[BreakEvenPoint, ...]
    lines: tuple[BreakEvenLine, ...]


class PatienceCell(msgspec.Struct, frozen=True, kw_only=True):
    """What a stall of a lock's holder costs under one patience."""

    patience_s: float
    stall_s: float
    rate_per_s: float
    lost: float  # mean over the trials
    takeovers: float
    trials: int
    simulated: bool


class PatienceMap(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for a lock."""

    mode: str
    cells: tuple[PatienceCell, ...]
    recommended_s: float | None  # the shortest that lost nothing in any cell; None: none did
    never_below_s: float | None  # a shorter one lost votes even in a stall of the following length
    shortest_harmful_stall_s: float | None  # None: no stall that was tried did any harm


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """What one mode needs for the forecast. docs/capacity.md has the formulas."""

    fits: bool  # whether this machine sustains the forecast with headroom
    headroom: float | None  # capacity over forecast, less 1
    processes: int | None  # of the site; None: not within the measured law
    threads: int  # per process
    database_connections: int
    backlog_votes: int  # deepest, between two drains
    memcached_mib: int  # for that backlog, with what a chunk wastes
    drain_s: float | None  # until the queue is empty after a spike above capacity; None: no spike
    shards: int | None  # queues; predicted by the simulator. None: no number up to 16 was enough


class CapacityResult(msgspec.Struct, frozen=True, kw_only=True):
    """The whole study. Parts that were not asked for, or had no time, are empty."""

    schema_version: int
    command: str  # repeats the study
    started_utc: str
    slo: tuple[str, ...]
    ceiling_per_s: float  # requests per second that the generator can send to an idle route
    usable_per_s: float  # the highest rate of votes that was tried
    budget_s: float
    spent_s: float = 0.0
    stopped_by: str = ""  # what ended the study early; then it holds what was known by then
    forecast_per_s: float | None = None
    modes: dict[str, ModeCapacity] = {}
    scaling: dict[str, ModeScaling] = {}
    break_even: BreakEven | None = None
    patience: PatienceMap | None = None
    sizing: dict[str, Sizing] = {}

    @property
    def exit_code(self) -> Exit:
        """Inconclusive if the study was stopped, or a mode has no confirmed lower bound, and none
        that was too high for it.

        A mode that takes nothing within the objectives is a finding.
        """
        known = (
            mode.confirmed or (mode.capacity_per_s.lower is None and mode.capacity_per_s.upper)
            for mode in self.modes.values()
        )
        return Exit.OK if not self.stopped_by and all(known) else Exit.INCONCLUSIVE
