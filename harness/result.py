"""`result.json`: what a run found, with the unit in each name. docs/result.md explains each field.

The schema has a version; a field may be added under the same version, and none changes meaning.
"""

from typing import Final, Literal

import msgspec

SCHEMA_VERSION: Final = 1

VotesVerdict = Literal["kept", "lost", "unknown"]
"""Kept: no acknowledged vote is missing or altered. Unknown: nothing can be proven."""
MeasurementVerdict = Literal["sound", "invalid"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Two verdicts; neither hides the other."""

    votes: VotesVerdict
    measurement: MeasurementVerdict
    reasons: tuple[str, ...] = ()  # why unknown, why invalid: whole sentences
    lost_at_most_per_vote: float | None = None  # zero lost in n: 3/n, the 95 % bound


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of votes. counted … rejected partition `sent`; the rest stands beside them."""

    planned: int
    unsent: int  # planned, never sent
    sent: int
    acknowledged: int  # = counted + lost + altered + pending + rejected
    counted: int  # acknowledged, a ballot with the choice cast
    lost: int  # acknowledged, no ballot after a complete drain
    altered: int  # acknowledged, a ballot with another choice
    resurrected: int  # refused, yet counted
    recovered: int  # outcome unknown, counted
    absent: int  # outcome unknown, not counted
    refused: int  # refused, not counted
    pending: int  # acknowledged, no ballot, and the drain was not complete
    rejected: int = 0  # acknowledged, no ballot: another vote of the same voter is counted
    phantom: int  # ballots whose id was never planned
    duplicated: int  # votes with more deliveries than their attempts explain
    extra_deliveries: int  # how many deliveries too many those have together
    recast: int = 0  # of `sent`: votes cast again under a new id, which no plan has
    counted_again: int = 0  # voters of whom more than one vote was counted, since they cast again
    unrecorded: int = 0  # of `sent`: votes that the ledger should have and has not
    voters: int = 0  # who sent a vote; like all that follows in once-only polls alone, else 0
    voters_counted: int = 0  # voters who have a ballot
    overvotes: int = 0  # voters who have more than one


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Votes per second over the load's planned duration."""

    offered: float
    sent: float
    acknowledged: float
    acknowledged_peak: float  # in the best whole second


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Exact percentiles in ms over all answered vote attempts; None without any."""

    p50: float | None
    p90: float | None
    p99: float | None
    p99_9: float | None
    max: float | None


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """Why a vote left later than planned, p50, p99 and max in ms."""

    no_free_user_ms: tuple[float, float, float]  # all users sat in slow answers: the target's doing
    wake_lag_ms: tuple[float, float, float]  # a free user woke late: the generator's


class WaitMs(msgspec.Struct, frozen=True, kw_only=True):
    p50: float | None
    p99: float | None
    max: float | None


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """The queue's lock as the journal shows it; all zero where a mode has none."""

    grants: int  # all kinds together
    clean_grants: int
    cold_grants: int
    takeovers: int
    gave_up: int  # patience ended without a takeover
    overlaps: int  # holds during which another process certainly was inside too
    attempts_per_grant: float | None
    wait_ms: WaitMs
    hold_ms: WaitMs


class CountedAfter(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from a vote's acknowledgement to the commit of its ballot; None without any."""

    p50: float | None
    p99: float | None


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """The load generator as its own suspect."""

    ceiling_per_s: float | None  # what it can send to a route that does nothing
    in_flight_sampled: float | None  # L: mean of a sampled gauge
    in_flight_expected: float | None  # λW: from the ledger
    site_in_flight: float | None  # mean requests inside the site, sampled
    clock_within_ms: float | None = None  # times of other machines are so far off ours at most


class FaultRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One fault as it happened; seconds after the load's start."""

    kind: str
    target: str
    start_s: float
    end_s: float
    hit: bool  # whether it met what it aimed at
    detail: str = ""
    planned: bool = True  # False: it happened, and was neither the plan's nor this run's doing


class SloResult(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    value: float | None
    held: bool


class CauseCount(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates that name one cause."""

    certain: int
    probable: int


class ModeResult(msgspec.Struct, frozen=True, kw_only=True):
    """One mode: one trial, or all its trials together (`trials` then has each alone)."""

    verdict: Verdict
    promises: bool  # whether the mode promises to lose nothing
    promise_kept: bool | None  # None: it promises nothing, it is void, or nothing can be proven
    accounts: Accounts
    rates_per_s: Rates
    latency_ms: Latency  # from the planned time
    latency_from_sent_ms: Latency
    results_latency_ms: Latency  # results pages, from the planned time
    lag: Lag
    counted_after_s: CountedAfter
    lock: Lock
    generator: Generator
    faults: tuple[FaultRecord, ...] = ()  # of all trials, one after the other
    slo: tuple[SloResult, ...] = ()
    lost_range: tuple[int, int] | None = None  # over repetitions
    trials: tuple["ModeResult", ...] = ()
    promise_void_by: tuple[str, ...] = ()  # kinds of faults that hit and that it does not cover
    causes: dict[str, CauseCount] = {}  # of lost, altered and doubled votes, by cause
    unexplained: int = 0  # lost, altered and doubled votes for which no cause was found
    name: str = ""  # of the trial's folder in the run folder; empty for several trials together
    rule_kept: bool | None = None  # no voter counted twice; None: no such rule, or not proven


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run."""

    schema_version: int
    scenario: str
    command: str  # repeats the run
    started_utc: str
    seed: int
    partial: bool  # interrupted, or a step failed
    simulated: bool
    verdict: Verdict  # the worst of all modes
    exit_code: int
    modes: dict[str, ModeResult]
    once: bool = False  # the poll counts each voter once at most


def read_result(text: bytes) -> RunResult:
    """Raises msgspec.ValidationError for another schema."""
    return msgspec.json.decode(text, type=RunResult)
