"""`check.json`: what a check found, with the unit in each name."""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from harness.errors import Exit

SCHEMA_VERSION: Final = 1
Verdict = Literal["passed", "failed", "inconclusive"]
EXITS: Final[dict[str, Exit]] = {
    "passed": Exit.OK,
    "failed": Exit.BROKEN_PROMISE,
    "inconclusive": Exit.INCONCLUSIVE,
}


class Votes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one version's votes: those cast one by one, and under the duet's load."""

    sent: int
    acknowledged: int
    lost: int
    doubled: int


def sum_of(several: Iterable[Votes]) -> Votes:
    """All of them together."""
    known = list(several)
    return Votes(
        **{field: sum(getattr(each, field) for each in known) for field in Votes.__struct_fields__}
    )


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the median vote costs the site, and what became of all that were cast one by one."""

    memcached_commands: float
    memcached_round_trips: float
    sql_statements: float
    sql_round_trips: float
    votes: Votes


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One exact count of both versions."""

    baseline: float
    candidate: float
    margin: float  # how many more are put up with
    worse: bool


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One timed figure of both versions; shares, so 0.05 is 5 % more."""

    baseline_ms: float  # median of all slices
    candidate_ms: float
    starts: int  # of both versions; each counts once
    pairs: int  # slices of all starts
    change: float  # Hodges-Lehmann
    low: float  # of the 95 % interval
    high: float
    p_value: float  # one-sided, corrected for all figures that decide
    margin: float
    detectable: float  # the smallest true change that this check would have found
    judgement: Literal["worse", "not worse", "undecided"]
    decides: bool  # otherwise it is advice


class ModeCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One mode. `reasons`: whole sentences, why it is not passed."""

    verdict: Verdict
    reasons: tuple[str, ...]
    counts: dict[str, Compared]
    timed: dict[str, Timed]  # empty where only counts were compared
    votes: dict[str, Votes]  # by side: baseline, candidate
    extended: bool  # whether more pairs were played because the first left it open
    promises: bool = True  # to keep every vote; of a mode that does not, losses fail no check


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A version."""

    name: str
    commit: str


class _Schema(msgspec.Struct, frozen=True):
    schema_version: int


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """The whole check."""

    schema_version: int
    command: str  # repeats the check
    started_utc: str
    took_s: float
    baseline: Side
    candidate: Side
    modes: dict[str, ModeCheck]
    stopped_by: str = ""  # what ended the check early; then it holds what was known by then

    @classmethod
    def from_json(cls, content: bytes) -> "CheckResult":
        """The check in a `check.json` or a line of a history.

        Raises ValueError that says what is wrong, above all with one of another schema.
        """
        written = msgspec.json.decode(content, type=_Schema).schema_version
        if written != SCHEMA_VERSION:
            raise ValueError(
                f"its schema version is {written}, and {SCHEMA_VERSION} is read; "
                "it comes from another pollstorm"
            )
        return msgspec.json.decode(content, type=cls)

    @property
    def verdict(self) -> Verdict:
        """Failed if a mode failed; else inconclusive if one is, or the check was stopped."""
        found = {mode.verdict for mode in self.modes.values()}
        if "failed" in found:
            return "failed"
        undecided = "inconclusive" in found or not found or self.stopped_by
        return "inconclusive" if undecided else "passed"

    @property
    def exit_code(self) -> Exit:
        return EXITS[self.verdict]
