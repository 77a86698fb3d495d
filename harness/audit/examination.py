"""Examine trials, modes and whole runs: the audit's parts put together into a result.

One trial that cannot be read makes its own mode unknown and leaves the others alone.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from harness.analysis.latency import counted_after, lag, latency
from harness.analysis.rates import rates
from harness.analysis.validity import judge_measurement
from harness.audit.accounts import nothing_known, settle
from harness.audit.certificate import UNKNOWN
from harness.audit.certificates import certify, count_causes, write_certificates
from harness.audit.locks import lock_figures, no_lock
from harness.audit.recovery import recover
from harness.audit.verdict import (
    RULE_OF_THREE,
    judge_votes,
    kept_in_all,
    promise_kept,
    promise_voids,
    rule_kept,
    worst,
)
from harness.errors import Exit, HistoryError, PlanError, RecordingError
from harness.history.ledger import RequestKind
from harness.plan import Plan
from harness.result import (
    SCHEMA_VERSION,
    Accounts,
    CauseCount,
    CountedAfter,
    Generator,
    Lag,
    Latency,
    Lock,
    ModeResult,
    Rates,
    RunResult,
    SloResult,
    Verdict,
)
from harness.run_folder import RunFolder, TrialFacts, TrialFolder, write_atomically
from harness.slo import SLO_FIGURES, parse_slo

ACCOUNTS: Final = "accounts"
NO_LATENCY: Final = Latency(p50=None, p90=None, p99=None, p99_9=None, max=None)
NO_LAG: Final = Lag(no_free_user_ms=(0.0, 0.0, 0.0), wake_lag_ms=(0.0, 0.0, 0.0))


class Figures(NamedTuple):
    """What is read off ledgers and journals, of one trial or of several together."""

    rates_per_s: Rates
    latency_ms: Latency
    latency_from_sent_ms: Latency
    results_latency_ms: Latency
    lag: Lag


class Examination(NamedTuple):
    """A trial and what was found. Only trials whose histories could be read are pooled."""

    trial: TrialFolder
    result: ModeResult
    readable: bool


class JournalFigures(NamedTuple):
    """`reasons`: why they are missing, if they are."""

    lock: Lock
    counted_after_s: CountedAfter
    reasons: tuple[str, ...]


class Certified(NamedTuple):
    """The causes of a trial's condemned votes; `reasons`: why some are not known."""

    causes: dict[str, CauseCount]
    unexplained: int
    reasons: tuple[str, ...]


def examine(trial: TrialFolder, plan: Plan) -> Examination:
    """One trial. A history that cannot be read gives verdict unknown, and the reason.

    Of a trial that was killed, the records are collected first.

    Raises PlanError when there is no trial.json.
    """
    facts = trial.read_facts()
    try:
        recover(trial)
        accounts = settle(trial, facts)
        figures = _figures([trial], accounts)
        measurement = judge_measurement(trial, facts, accounts, figures.lag)
    except (HistoryError, RecordingError) as error:
        return Examination(trial, _unreadable(trial, facts, str(error)), readable=False)
    journal = _journal_figures([trial], plan)
    certified = _certified(trial, facts, accounts, plan)
    votes = judge_votes(accounts, facts)
    doubts = (*measurement.reasons, *journal.reasons)
    result = ModeResult(
        verdict=Verdict(
            votes=votes.votes,
            measurement="invalid" if doubts else "sound",
            reasons=(*votes.reasons, *certified.reasons, *doubts),
            lost_at_most_per_vote=votes.lost_at_most_per_vote,
        ),
        promises=facts.promises,
        promise_kept=promise_kept(facts, accounts, votes.votes),
        promise_void_by=promise_voids(facts),
        accounts=accounts,
        **figures._asdict(),
        counted_after_s=journal.counted_after_s,
        lock=journal.lock,
        generator=measurement.generator,
        faults=facts.faults,
        causes=certified.causes,
        unexplained=certified.unexplained,
        name=trial.name,
        rule_kept=rule_kept(facts, accounts),
    )
    result = msgspec.structs.replace(result, slo=_slo_results(plan, result))
    return Examination(trial, result, readable=True)


def combine(examined: Sequence[Examination], plan: Plan) -> ModeResult:
    """All repetitions of a mode together: accounts summed, percentiles over all votes pooled.

    A trial that could not be read adds nothing to the pool and makes the whole unknown. Verdicts
    are the worst. With one trial the result is that trial's.
    """
    results = tuple(each.result for each in examined)
    if len(results) == 1:
        return results[0]
    verdict = worst({result.name: result.verdict for result in results})
    accounts = _sum([result.accounts for result in results])
    faults = tuple(fault for result in results for fault in result.faults)
    readable = [each.result for each in examined if each.readable]
    if not readable:
        return msgspec.structs.replace(
            results[0], name="", verdict=verdict, accounts=accounts, faults=faults, trials=results
        )
    pool = [each.trial for each in examined if each.readable]
    journal = _journal_figures(pool, plan)
    figures = _figures(pool, _sum([result.accounts for result in readable]))
    lost = [result.accounts.lost for result in readable]
    if verdict.votes == "kept":
        bound = RULE_OF_THREE / accounts.acknowledged
        verdict = msgspec.structs.replace(verdict, lost_at_most_per_vote=bound)
    pooled = ModeResult(
        verdict=verdict,
        promises=results[0].promises,
        promise_kept=kept_in_all(result.promise_kept for result in results),
        promise_void_by=tuple(
            dict.fromkeys(kind for result in results for kind in result.promise_void_by)
        ),
        accounts=accounts,
        **figures._asdict(),
        counted_after_s=journal.counted_after_s,
        lock=journal.lock,
        generator=_mean([result.generator for result in readable]),
        faults=faults,
        causes=_all_causes(results),
        unexplained=sum(result.unexplained for result in results),
        rule_kept=kept_in_all(result.rule_kept for result in results),
        lost_range=(min(lost), max(lost)),
        trials=results,
    )
    return msgspec.structs.replace(pooled, slo=_slo_results(plan, pooled))


def audit_run(
    folder: RunFolder,
    *,
    command: str,
    started_utc: str | None,
    partial: bool,
    failed_with: Exit | None = None,
) -> RunResult:
    """Audit all trials of a run and write `result.json`; `started_utc` None keeps what it says.

    `command` repeats the run; `failed_with` is the exit code of what ended it early, if known.
    Raises PlanError when the folder's plan cannot be read.
    """
    plan = folder.plan()
    modes = {
        mode: combine([examine(trial, plan) for trial in trials], plan)
        for mode, trials in folder.trials().items()
    }
    not_driven = Verdict(
        votes="unknown", measurement="invalid", reasons=("It was planned and not driven.",)
    )
    verdict = worst({m: modes[m].verdict if m in modes else not_driven for m in plan.modes})
    result = RunResult(
        schema_version=SCHEMA_VERSION,
        scenario=plan.scenario,
        command=command,
        started_utc=_started_before(folder) if started_utc is None else started_utc,
        seed=plan.seed,
        partial=partial,
        simulated=folder.is_simulated,
        verdict=verdict,
        exit_code=exit_code(verdict, modes) if failed_with is None else failed_with,
        modes=modes,
        once=plan.poll.once,
    )
    write_atomically(folder.result_file, msgspec.json.format(msgspec.json.encode(result)))
    return result


def audit_again(folder: RunFolder) -> RunResult:
    """Audit it as the run did, with the command and the time that the run was started with.

    Raises PlanError when the folder's plan cannot be read.
    """
    try:
        before = folder.result()
        command, partial = before.command, before.partial
    except PlanError:  # none, or none that can be read: it is written anew
        command, partial = f"pollstorm run {folder.plan_file}", False
    partial = partial or is_partial(folder) or folder.was_cut_short()
    return audit_run(folder, command=command, started_utc=None, partial=partial)


def is_partial(folder: RunFolder) -> bool:
    """Whether a trial of the plan is missing or did not run to its end."""
    plan = folder.plan()
    trials = [trial for found in folder.trials().values() for trial in found]
    missing = len(trials) < len(plan.modes) * plan.repeat
    return missing or any(trial.read_facts().partial for trial in trials)


def exit_code(verdict: Verdict, modes: dict[str, ModeResult]) -> Exit:
    """What a verb that ends with this verdict says to the shell.

    Lost votes of a mode that promises nothing, or whose promise does not cover the fault that hit,
    are a finding, not a failure. A voter who was counted twice breaks what the poll promises, in
    whatever mode. Votes are accounted for whatever the generator did, so thresholds
    on them count in an invalid measurement too; those on times and rates do not.
    """
    missed = [slo for mode in modes.values() for slo in mode.slo if not slo.held]
    missed_on_votes = [slo for slo in missed if SLO_FIGURES[parse_slo(slo.text).figure] == ACCOUNTS]
    votes = {verdict.votes, *(mode.verdict.votes for mode in modes.values())}
    if any(False in (mode.promise_kept, mode.rule_kept) for mode in modes.values()):
        return Exit.BROKEN_PROMISE
    if "unknown" in votes or any(UNKNOWN in mode.causes for mode in modes.values()):
        return Exit.INCONCLUSIVE
    if missed_on_votes:
        return Exit.BROKEN_PROMISE
    if verdict.measurement == "invalid":
        return Exit.INCONCLUSIVE
    return Exit.BROKEN_PROMISE if missed else Exit.OK


def _certified(trial: TrialFolder, facts: TrialFacts, accounts: Accounts, plan: Plan) -> Certified:
    """Why votes were lost, altered or doubled. The certificates are kept in the trial's folder."""
    condemned = accounts.lost + accounts.altered + accounts.duplicated
    if not plan.site.journal:
        reason = f"No journal was kept, so nobody can say why {condemned} votes went wrong."
        return Certified({}, condemned, (reason,) if condemned else ())
    try:
        frame = certify(trial, facts)
        write_certificates(trial, frame)
    except HistoryError as error:
        reason = f"Nobody can say why {condemned} votes went wrong: {error}."
        return Certified({}, condemned, (reason,) if condemned else ())
    causes = count_causes(frame)
    unexplained = int((frame["cause"] == UNKNOWN).sum())
    reason = f"The audit failed to explain {unexplained} votes: `pollstorm explain` shows them."
    return Certified(causes, unexplained, (reason,) if unexplained else ())


def _all_causes(results: Sequence[ModeResult]) -> dict[str, CauseCount]:
    names = sorted({name for result in results for name in result.causes})
    none = CauseCount(certain=0, probable=0)
    return {
        name: CauseCount(
            certain=sum(result.causes.get(name, none).certain for result in results),
            probable=sum(result.causes.get(name, none).probable for result in results),
        )
        for name in names
    }


def _figures(trials: Sequence[TrialFolder], accounts: Accounts) -> Figures:
    return Figures(
        rates_per_s=rates(trials, accounts),
        latency_ms=latency(trials, RequestKind.VOTE, "planned_ns"),
        latency_from_sent_ms=latency(trials, RequestKind.VOTE, "sent_ns"),
        results_latency_ms=latency(trials, RequestKind.RESULTS, "planned_ns"),
        lag=lag(trials),
    )


def _journal_figures(trials: Sequence[TrialFolder], plan: Plan) -> JournalFigures:
    """The plan may have switched the journal off; then its figures are empty and nobody's fault."""
    try:
        return JournalFigures(lock_figures(*trials), counted_after(trials), ())
    except HistoryError as error:
        reasons = (f"Nothing is known of the lock: {error}.",) if plan.site.journal else ()
        return JournalFigures(no_lock(), CountedAfter(p50=None, p99=None), reasons)


def _unreadable(trial: TrialFolder, facts: TrialFacts, problem: str) -> ModeResult:
    cut_short = "; the trial did not run to its end" if facts.partial else ""
    return ModeResult(
        verdict=Verdict(
            votes="unknown",
            measurement="invalid",
            reasons=(f"Nothing is proven: {problem}{cut_short}.",),
        ),
        promises=facts.promises,
        promise_kept=None,
        accounts=nothing_known(facts),
        rates_per_s=Rates(offered=0.0, sent=0.0, acknowledged=0.0, acknowledged_peak=0.0),
        latency_ms=NO_LATENCY,
        latency_from_sent_ms=NO_LATENCY,
        results_latency_ms=NO_LATENCY,
        lag=NO_LAG,
        counted_after_s=CountedAfter(p50=None, p99=None),
        lock=no_lock(),
        generator=Generator(
            ceiling_per_s=facts.ceiling_per_s,
            in_flight_sampled=facts.in_flight_sampled,
            in_flight_expected=None,
            site_in_flight=facts.site_in_flight,
            clock_within_ms=facts.clock_within_ms,
        ),
        faults=facts.faults,
        name=trial.name,
    )


def _slo_results(plan: Plan, result: ModeResult) -> tuple[SloResult, ...]:
    return tuple(
        SloResult(text=slo.text, value=value, held=slo.holds(value))
        for slo in plan.slos()
        for value in (_slo_value(slo.figure, result),)
    )


def _slo_value(figure: str, result: ModeResult) -> float | None:
    section = getattr(result, SLO_FIGURES[figure])
    name = figure.removeprefix("counted_").removesuffix("_per_s")
    value: float | None = getattr(section, name)
    return value


def _sum(parts: Sequence[Accounts]) -> Accounts:
    names = Accounts.__struct_fields__
    return Accounts(**{name: sum(getattr(part, name) for part in parts) for name in names})


def _mean(parts: Sequence[Generator]) -> Generator:
    """Each gauge's mean over the trials that have it."""
    means: dict[str, float | None] = {}
    for name in Generator.__struct_fields__:
        known = [value for part in parts if (value := getattr(part, name)) is not None]
        means[name] = sum(known) / len(known) if known else None
    return Generator(**means)


def _started_before(folder: RunFolder) -> str:
    try:
        return folder.result().started_utc
    except PlanError:
        return ""
