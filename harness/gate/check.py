"""A check: two versions, mode by mode, first by what has no noise, then in a duet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec

from harness.analysis.duet import (
    FEWEST_STARTS,
    Effect,
    Judgement,
    Pairs,
    compare,
    starts_needed,
)
from harness.gate.counts import count
from harness.gate.duet import REFUSED_SHARE, SIDES, USUAL, Duet, Tempo, play, pooled
from harness.gate.outcome import (
    CheckResult,
    Compared,
    Counts,
    ModeCheck,
    Timed,
    Verdict,
    Votes,
    sum_of,
)
from harness.gate.versions import Version
from harness.modes.mode import find_mode
from harness.services.processes import Supervisor

COUNTED: Final = (
    "memcached_commands",
    "memcached_round_trips",
    "sql_statements",
    "sql_round_trips",
)
DECIDING: Final[Mapping[str, str]] = {"p50": "p50_ms", "cpu": "cpu_ms"}
"""Figures by which a check fails. Of the median and the processor time two equal versions differ
by 2 to 4 % in a slice; of the p99 by 15 %, so that is advice."""
ADVICE: Final = {"p99": "p99_ms"}
MARGINS: Final = {"p50": 0.05, "cpu": 0.05, "p99": 0.25} | dict.fromkeys(COUNTED, 0.0)
SECOND: Final = 100  # is added to the seed for the pairs that are played again
SAID: Final = {
    "p50": "the median latency",
    "cpu": "the processor time per vote",
    "p99": "the p99 latency",
    "memcached_commands": "memcached commands per vote",
    "memcached_round_trips": "round trips to memcached per vote",
    "sql_statements": "SQL statements per vote",
    "sql_round_trips": "round trips to the database per vote",
}


class Order(NamedTuple):
    """What is to be checked, and how closely."""

    modes: Sequence[str]
    pairs: int
    rate_per_s: float
    margins: Mapping[str, float]
    seed: int
    starts: int
    tempo: Tempo = USUAL


def starts_of(modes: Sequence[str]) -> int:
    """As many as the figures of these modes need to be decided together."""
    return starts_needed(len(modes) * len(DECIDING))


class Findings(NamedTuple):
    """One mode's, before they are judged; `duet` None: only counts were compared."""

    counts: dict[str, Counts]
    duet: Duet | None
    extended: bool = False


def check(
    versions: tuple[Version, Version],
    order: Order,
    supervisor: Supervisor,
    logs: Path,
    told: Callable[[str], None],
) -> Iterator[dict[str, ModeCheck]]:
    """Every mode's check, as far as it is known, each time that more is; the last is the whole.

    `told` hears what is being done. A mode that the first pairs leave open is played once more,
    with as many again. Raises PollstormError.
    """
    found: dict[str, Findings] = {}
    judged: dict[str, ModeCheck] = {}

    def duet(mode: str, seed: int) -> Duet:
        return play(
            versions, mode, order.starts, order.pairs, order.rate_per_s, seed, supervisor, logs,
            order.tempo,
        )  # fmt: skip

    for mode in order.modes:
        counts = {}
        for side, version in zip(SIDES, versions, strict=True):
            told(f"{mode}: counting what a vote costs the {side} ({version.commit})")
            counts[side] = count(version, mode, supervisor, logs)
        told(f"{mode}: both versions at once, {order.starts} times")
        found[mode] = Findings(counts, duet(mode, order.seed))
        judged = judge(found, order)
        yield judged
    for mode in [name for name, result in judged.items() if result.verdict == "inconclusive"]:
        told(f"{mode}: undecided, {order.starts} times more")
        before = found[mode].duet
        assert before is not None
        more = duet(mode, order.seed + SECOND)
        # What a starved generator has measured is no evidence; its votes are.
        both = pooled([before, more])
        again = more._replace(votes=both.votes) if before.doubts else both
        found[mode] = found[mode]._replace(duet=again, extended=True)
        yield judge(found, order)


def check_counts(
    stored: CheckResult,
    version: Version,
    order: Order,
    supervisor: Supervisor,
    logs: Path,
    told: Callable[[str], None],
) -> Iterator[dict[str, ModeCheck]]:
    """What the version costs per vote, against what an earlier check counted for its candidate."""
    found: dict[str, Findings] = {}
    for mode in order.modes:
        told(f"{mode}: counting what a vote costs ({version.commit})")
        now = count(version, mode, supervisor, logs)
        before = {name: each.candidate for name, each in stored.modes[mode].counts.items()}
        then = msgspec.structs.replace(now, votes=stored.modes[mode].votes["candidate"], **before)
        found[mode] = Findings({"baseline": then, "candidate": now}, None)
        yield judge(found, order)


def judge(found: Mapping[str, Findings], order: Order) -> dict[str, ModeCheck]:
    """All modes together, because each figure is another chance of a false alarm."""
    deciding = _effects(found, order, DECIDING)
    advice = _effects(found, order, ADVICE)
    return {
        mode: _judged(mode, findings, order, deciding.get(mode, {}), advice.get(mode, {}))
        for mode, findings in found.items()
    }


def _effects(
    found: Mapping[str, Findings], order: Order, figures: Mapping[str, str]
) -> dict[str, dict[str, Effect]]:
    pairs = [
        Pairs(
            f"{mode} {figure}",
            [getattr(start["baseline"], field) for start in findings.duet.starts],
            [getattr(start["candidate"], field) for start in findings.duet.starts],
            order.margins[figure],
        )
        for mode, findings in found.items()
        if findings.duet and proves(findings.duet)
        for figure, field in figures.items()
    ]
    effects: dict[str, dict[str, Effect]] = {}
    for effect in compare(pairs, order.seed) if pairs else ():
        mode, _, figure = effect.figure.partition(" ")
        effects.setdefault(mode, {})[figure] = effect
    return effects


def proves(duet: Duet) -> bool:
    """Whether its times are evidence: nothing speaks against it, and there are enough starts."""
    return not duet.doubts and len(duet.starts) >= FEWEST_STARTS


def _judged(
    mode: str,
    findings: Findings,
    order: Order,
    deciding: Mapping[str, Effect],
    advice: Mapping[str, Effect],
) -> ModeCheck:
    counts = {name: _compared(name, findings.counts, order.margins[name]) for name in COUNTED}
    failures = [
        f"{_capital(SAID[name])}: {each.candidate:g}, {each.baseline:g} before."
        for name, each in counts.items()
        if each.worse
    ]
    failures += _failures_of_votes(mode, findings)
    failures += [
        f"{_capital(SAID[figure])} is {effect.change:+.1%} (95 % interval {effect.low:+.1%} to "
        f"{effect.high:+.1%}), more than {effect.margin:.0%} are put up with."
        for figure, effect in deciding.items()
        if effect.judgement is Judgement.WORSE
    ]
    doubts = list(findings.duet.doubts) if findings.duet else []
    if findings.duet and (starts := len(findings.duet.starts)) < FEWEST_STARTS:
        doubts.append(f"Only {starts} starts could be measured, and {FEWEST_STARTS} are needed.")
    doubts += [
        f"{_capital(SAID[figure])} may have changed by {effect.low:+.1%} to {effect.high:+.1%}: "
        f"too uncertain for a margin of {effect.margin:.0%}."
        for figure, effect in deciding.items()
        if effect.judgement is Judgement.UNDECIDED
    ]
    verdict: Verdict = "failed" if failures else "inconclusive" if doubts else "passed"
    return ModeCheck(
        verdict=verdict,
        reasons=(*failures, *doubts),
        counts=counts,
        timed={
            figure: _timed(effect, findings.duet, field, decides=figure in DECIDING)
            for effects, fields in ((deciding, DECIDING), (advice, ADVICE))
            for figure, field in fields.items()
            if findings.duet and (effect := effects.get(figure))
        },
        votes=votes_of(findings),
        extended=findings.extended,
        promises=find_mode(mode).promises,
    )


def _failures_of_votes(mode: str, findings: Findings) -> list[str]:
    """None may refuse more votes than before. A mode that promises must keep what it took; of one
    that does not, losses are only told.
    """
    before, found = (votes_of(findings)[side] for side in SIDES)
    failures = []
    if refused_share(found) > refused_share(before) + REFUSED_SHARE:
        failures.append(
            f"{found.sent - found.acknowledged:,} of {found.sent:,} votes were not taken; before, "
            f"{before.sent - before.acknowledged:,} of {before.sent:,}."
        )
    if find_mode(mode).promises:
        if found.lost:
            failures.append(f"{found.lost} acknowledged votes were lost.")
        if found.doubled:
            failures.append(f"{found.doubled} votes reached the database twice.")
    return failures


def refused_share(votes: Votes) -> float:
    return 1 - votes.acknowledged / votes.sent if votes.sent else 0.0


def votes_of(findings: Findings) -> dict[str, Votes]:
    """What became of each side's votes, those that were counted and those of the duet."""
    played = findings.duet.votes if findings.duet else {}
    return {
        side: sum_of([counts.votes, *([played[side]] if side in played else ())])
        for side, counts in findings.counts.items()
    }


def _compared(name: str, counts: Mapping[str, Counts], margin: float) -> Compared:
    baseline, candidate = (float(getattr(counts[side], name)) for side in SIDES)
    return Compared(
        baseline=baseline, candidate=candidate, margin=margin, worse=candidate > baseline + margin
    )


def _timed(effect: Effect, duet: Duet, field: str, *, decides: bool) -> Timed:
    return Timed(
        baseline_ms=_median(duet, "baseline", field),
        candidate_ms=_median(duet, "candidate", field),
        starts=effect.starts,
        pairs=effect.pairs,
        change=effect.change,
        low=effect.low,
        high=effect.high,
        p_value=effect.p_value,
        margin=effect.margin,
        detectable=effect.detectable,
        judgement=effect.judgement.value,
        decides=decides,
    )


def _median(duet: Duet, side: str, field: str) -> float:
    values: list[float] = []
    for start in duet.starts:
        values += getattr(start[side], field)
    return median(values)


def _capital(text: str) -> str:
    """As at a sentence's beginning; `SQL` stays as it is."""
    return text[:1].upper() + text[1:]
