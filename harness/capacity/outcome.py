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


class CapacityResult(msgspec.Struct, frozen=True, kw_only=True):
    """The whole study."""

    schema_version: int
    command: str  # repeats the study
    started_utc: str
    slo: tuple[str, ...]
    ceiling_per_s: float  # requests per second that the generator can send to an idle route
    usable_per_s: float  # the highest rate of votes that was tried
    budget_s: float
    spent_s: float
    modes: dict[str, ModeCapacity]

    @property
    def exit_code(self) -> Exit:
        """Inconclusive if a mode has no confirmed lower bound, and none that was too high for it.

        A mode that takes nothing within the objectives is a finding.
        """
        known = (
            mode.confirmed or (mode.capacity_per_s.lower is None and mode.capacity_per_s.upper)
            for mode in self.modes.values()
        )
        return Exit.OK if all(known) else Exit.INCONCLUSIVE
