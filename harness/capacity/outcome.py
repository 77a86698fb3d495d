"""`capacity.json`: what a capacity study found, with the unit in each name."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from harness.analysis.crossing import Wins
from harness.capacity.search import LOWEST_PER_S
from harness.errors import Exit

SCHEMA_VERSION: Final = 3
NEARLY_ALL: Final = 0.95  # of what was offered, which itself varies by a few per cent


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
    sound: bool  # the measurement: its times and rates count
    reasons: tuple[str, ...]  # why it is not, and why not all is known of the votes
    acknowledged_per_s: float
    p50_ms: float | None  # from the planned time
    p99_ms: float | None
    counted_p99_s: float | None
    lost: int
    refused: int
    unknown: int
    takeovers: int  # of a lock whose holder was waited for in vain
    deepest_backlog: int | None  # acknowledged votes that waited for their commit at one time
    backlog_growth_per_s: float | None  # None, as above: a target tells neither
    in_flight_residual: float | None
    """Little's law: sampled L over λW, less 1; None where fewer than one request was under way."""
    cpu_s_per_vote: float | None  # of all services; None: they are a target's own

    @property
    def saturated(self) -> bool:
        """Whether more was offered than taken, and a sound measurement says so: of what took
        nearly all that was offered nobody knows how much it can take."""
        return self.sound and self.acknowledged_per_s < NEARLY_ALL * self.rate_per_s


class ModeCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """What one mode sustains within the objectives."""

    capacity_per_s: Bounds
    limited_by: str  # an objective, `backlog`, `refused`, `generator` or `budget`
    confirmed: bool  # by a longer trial at the lower bound
    steps: tuple[StepResult, ...]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A value, and the bounds of its interval: one of 95 %, or as docs/capacity.md says."""

    value: float
    low: float
    high: float | None  # None: beyond what was measured


class ScalingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One trial at saturation."""

    processes: int
    offered_per_s: float
    acknowledged_per_s: float
    p50_ms: float | None
    saturated: bool  # it says how much can be taken; see `StepResult.saturated`


class ModeScaling(msgspec.Struct, frozen=True, kw_only=True):
    """How throughput grows with the site's processes. The law's terms are None where there is
    none, and `without_law` says why."""

    points: tuple[ScalingPoint, ...]
    without_law: str = ""
    single_per_s: Estimate | None = None  # what one process does alone
    contention: Estimate | None = None  # σ
    coherency: Estimate | None = None  # κ
    best_processes: Estimate | None = None  # None: not seen to fall again up to the most tried
    explained: float | None = None  # R²


class Trials(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of several trials: their mean, the least and the most. Of one all are the same."""

    mean: float
    least: float
    most: float
    trials: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Trials":
        """Raises ValueError without values."""
        if not values:
            raise ValueError("no trial, no figure")
        return cls(
            mean=sum(values) / len(values),
            least=min(values),
            most=max(values),
            trials=len(values),
        )


class BreakEvenPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Both ways of taking votes at saturation: one commit latency, one share of readers."""

    commit_wait_us: int  # what MariaDB waits for others to commit with
    results_per_vote: float
    commit_ms: Trials | None  # what a vote's statement took at a trickle, as measured
    direct_per_s: Trials
    queue_per_s: Trials
    advantages: tuple[float, ...]  # the queue's rate over direct's, of each trial
    undecided: bool
    """In each trial the one that took fewer took nearly all that was offered, and might have taken
    more; or the generator could not keep up; or both took nothing. Else all figures are of the
    trials that decide."""


class CommitCrossing(msgspec.Struct, frozen=True, kw_only=True):
    """From which commit latency the queue wins, with so many readers.

    `wins`: within what was measured; `up-to`: it wins at the lower ones; `varies`: the lead changes
    more than once. The interval: docs/capacity.md. None: beyond what was measured.
    """

    results_per_vote: float
    wins: Wins
    commit_ms: float | None
    low_ms: float | None
    high_ms: float | None


class ReadCrossing(msgspec.Struct, frozen=True, kw_only=True):
    """From how many results pages per vote the queue wins, at one commit latency.

    As `CommitCrossing`.
    """

    commit_wait_us: int
    commit_ms: float | None  # the mean of what was measured
    wins: Wins
    results_per_vote: float | None
    low_per_vote: float | None
    high_per_vote: float | None


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """`direct` against a queue."""

    queue: str  # the mode
    points: tuple[BreakEvenPoint, ...]
    over_commits: tuple[CommitCrossing, ...] = ()
    over_readers: tuple[ReadCrossing, ...] = ()
    noise: float | None = None
    """Standard deviation of one trial's advantage, as a share of it; None: too few points were
    tried again, and the intervals are the measured points about a crossing."""


class PatienceCell(msgspec.Struct, frozen=True, kw_only=True):
    """What a stall of a lock's holder costs under one patience."""

    patience_s: float
    stall_s: float
    rate_per_s: float
    lost: float  # mean over the trials
    lost_most: int  # in any of them
    takeovers: float  # mean over the trials
    trials: int  # each with its own seed
    simulated: bool


class PatienceMap(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for a lock."""

    mode: str
    cells: tuple[PatienceCell, ...]
    wanted_cells: int  # simulated ones, had there been time for all
    recommended_s: float | None
    """The shortest from which on each cell was tried, and none lost a vote; None: there is none."""
    safe_trials: int  # simulated ones without a loss, with that patience or a longer one
    never_below_s: float | None
    """The next longer than any that lost votes in a stall of the following length; None: no loss,
    or the longest lost, too."""
    shortest_harmful_stall_s: float | None
    """None: no stall that was tried did any harm, or not every shorter one was tried."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """How many are to be provided, and between what the figures behind it leave that."""

    value: int
    low: int
    high: int | None  # None: no number that was looked at is enough


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Between two values; None: nothing bounds it."""

    low: float | None
    high: float | None


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """What one mode needs for the forecast. docs/capacity.md has the formulas and intervals."""

    fits: bool  # whether this machine sustains the forecast with headroom
    headroom: Range  # capacity over forecast, less 1
    processes: Need | None  # of the site; None: not within the measured law
    processes_by: Literal["law", "plan"]  # `plan`: those that the capacity was measured with
    threads: Need  # per process
    database_connections: Need
    backlog_votes: Need  # deepest, between two drains
    memcached_mib: Need  # for that backlog, with what a chunk wastes
    drain_s: Range | None  # until the queue is empty when no more votes come; None: no queue
    flush_interval_s: Estimate | None
    """The longest with which votes are counted as soon as the objective on `counted_p99` wants.
    None: no queue, no such objective, no trial to go by, or no interval is short enough."""
    shards: Need | None  # queues; predicted by the simulator. None: `without_shards` says why
    without_shards: str = ""


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
    target: str = ""  # somebody else's server; empty: our own site, in each mode
    sees_ballots: bool = True  # whether it was known which votes were counted
    workers_at: str = ""  # where those that played the load came to; empty: it was played here
    given: tuple[str, ...] = ()  # services that were not started for the study
    modes: dict[str, ModeCapacity] = {}
    scaling: dict[str, ModeScaling] = {}
    break_even: BreakEven | None = None
    patience: PatienceMap | None = None
    sizing: dict[str, Sizing] = {}

    @property
    def exit_code(self) -> Exit:
        """Inconclusive if the study was stopped, or a mode has no confirmed lower bound.

        A mode that does not take the lowest rate within the objectives is a finding.
        """
        known = (
            mode.confirmed or mode.capacity_per_s == Bounds(lower=None, upper=LOWEST_PER_S)
            for mode in self.modes.values()
        )
        return Exit.OK if not self.stopped_by and all(known) else Exit.INCONCLUSIVE
