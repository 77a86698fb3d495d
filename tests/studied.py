"""A capacity study that is made by hand, in parts."""

from harness.capacity.outcome import (
    Bounds,
    BreakEvenPoint,
    CapacityResult,
    ModeCapacity,
    PatienceCell,
    StepResult,
    Trials,
)

STEP = StepResult(
    rate_per_s=400.0,
    lasts_s=5.0,
    confirming=False,
    verdict="passed",
    limited_by="",
    sound=True,
    reasons=(),
    acknowledged_per_s=399.0,
    p50_ms=2.0,
    p99_ms=50.0,
    counted_p99_s=0.6,
    lost=0,
    refused=0,
    unknown=0,
    takeovers=0,
    deepest_backlog=240,
    backlog_growth_per_s=0.0,
    in_flight_residual=0.01,
    cpu_s_per_vote=0.001,
)
MODE = ModeCapacity(
    capacity_per_s=Bounds(lower=400.0, upper=440.0),
    limited_by="p99<250ms",
    confirmed=True,
    steps=(STEP,),
)
RESULT = CapacityResult(
    schema_version=3,
    command="pollstorm capacity",
    started_utc="2026-01-01T00:00:00+00:00",
    slo=("p99<250ms", "lost=0"),
    ceiling_per_s=10_000.0,
    usable_per_s=7_000.0,
    budget_s=600.0,
    modes={"direct": MODE, "ticket": MODE},
)


def point(
    commit_ms: float,
    *ratios: float,
    readers: float = 1.0,
    wait_us: int = 0,
    undecided: bool = False,
) -> BreakEvenPoint:
    return BreakEvenPoint(
        commit_wait_us=wait_us,
        results_per_vote=readers,
        commit_ms=Trials.of([commit_ms]),
        direct_per_s=Trials.of([100.0] * len(ratios)),
        queue_per_s=Trials.of([100.0 * ratio for ratio in ratios]),
        advantages=ratios,
        undecided=undecided,
    )


def cell(patience_s: float, stall_s: float, lost: int, rate_per_s: float = 100.0) -> PatienceCell:
    return PatienceCell(
        patience_s=patience_s,
        stall_s=stall_s,
        rate_per_s=rate_per_s,
        lost=lost,
        lost_most=lost,
        takeovers=1,
        trials=1,
        simulated=True,
    )
