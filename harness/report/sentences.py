"""The plain sentences of a report; page, summary and terminal all say exactly these."""

from collections.abc import Mapping
from typing import Final

from harness.errors import Exit
from harness.fault import amounts_to
from harness.report.notation import count, number, share, times
from harness.result import Accounts, FaultRecord, ModeResult, RunResult, SloResult
from harness.slo import SLO_FIGURES, parse_slo

VOTES_WORD: Final = {"kept": "Votes kept", "lost": "Votes lost", "unknown": "Votes unknown"}
MEASUREMENT_WORD: Final = {"sound": "Measurement sound", "invalid": "Measurement invalid"}
RULE_WORD: Final = {True: "Rule kept", False: "Rule broken", None: "Rule unknown"}
"""By `rule_kept`, of a once-only poll."""
ONCE_ONLY: Final = ("rejected", "voters", "voters_counted", "overvotes")
"""Accounts that only such a poll has."""
INSTANT_S: Final = 0.01  # a fault that is over sooner has a moment and no duration

CANNOT_PROVE: Final = (
    "That a mode without a loss never loses. None lost in n votes says, at 95 % confidence, that "
    "at most 3 in n are lost under this load and these faults; other faults may lose more.",
    "How many votes the next run would lose. One run's count is an anecdote; repeat the run "
    "(--repeat) and read the range.",
    "What your machines would do. Site, memcached and MariaDB shared one machine here; compare "
    "modes with one another, not with figures from elsewhere.",
    "What became of a vote whose outcome the voter never learned, beyond whether it was counted. "
    "Such votes are accounted apart and are no losses.",
    "That a disk keeps what it promised. Nothing here cuts the power.",
)

EXIT_SENTENCE: Final = {
    Exit.OK: "No promise and no threshold was broken.",
    Exit.FAILED: "The harness itself failed.",
    Exit.USAGE: "The plan could not be used.",
    Exit.INCONCLUSIVE: "Nothing was proven: the measurement is invalid or the drain unfinished.",
    Exit.BROKEN_PROMISE: "A promise or a threshold was broken.",
    Exit.INTERRUPTED: "The run was interrupted; what was collected is shown.",
}


def votes_sentence(mode: str, result: ModeResult) -> str:
    """What the mode did with the votes it acknowledged."""
    accounts = result.accounts
    acknowledged = f"{mode} acknowledged {times(accounts.acknowledged, 'vote', 'votes')}"
    if result.verdict.votes == "unknown" and not accounts.sent:
        return f"{mode} left nothing from which its votes could be known."
    if result.verdict.votes == "unknown":
        return f"{acknowledged}; whether all were counted is unknown."
    if not accounts.acknowledged and not _wrongs(accounts):
        return f"{mode} acknowledged no vote, so there was none to lose."
    if accounts.lost:
        fate = f"{acknowledged} and lost {count(accounts.lost)} of them"
    else:
        fate = f"{acknowledged} and lost none"
        if (bound := result.verdict.lost_at_most_per_vote) is not None:
            fate += f" (at 95 % confidence it loses at most {share(min(bound, 1.0))})"
    wrongs = _wrongs(accounts)
    return f"{fate}; {_joined(wrongs)}." if wrongs else f"{fate}."


def spread_sentence(result: ModeResult) -> str:
    """How the losses vary over repetitions; empty for a single trial."""
    if result.lost_range is None or len(result.trials) < 2:
        return ""
    least, most = result.lost_range
    if least == most:
        return f"Each of {len(result.trials)} repetitions lost {count(most) if most else 'none'}."
    return f"{len(result.trials)} repetitions lost between {count(least)} and {count(most)} each."


def promise_sentence(result: ModeResult) -> str:
    """What the mode had promised, and whether it held."""
    if not result.promises:
        return "It promises nothing."
    if result.promise_kept is not None:
        kept = "kept" if result.promise_kept else "BROKE"
        return f"It promises to lose nothing, and {kept} that."
    if result.promise_void_by:
        return f"It promises to lose nothing; {not_covered('its', result)}."
    return "It promises to lose nothing; this run cannot say whether it did."


def rule_sentence(result: ModeResult) -> str:
    """What became of the votes that were too many; empty where each voter has as many as she likes.

    Refused at the door are all that were told no, whatever for: an overloaded site refuses as well.
    """
    accounts = result.accounts
    if not accounts.voters:
        return ""
    voters = times(accounts.voters, "voter", "voters")
    told = f"{voters} cast {times(accounts.sent, 'vote', 'votes')}: "
    everybody = accounts.voters_counted == accounts.voters
    told += "all" if everybody else count(accounts.voters_counted)
    told += f" of the voters {'is' if accounts.voters_counted == 1 else 'are'} counted, "
    if accounts.overvotes:
        told += f"{count(accounts.overvotes)} of them MORE THAN ONCE"
    else:
        told += "each once" if result.rule_kept else "so far none more than once"
    refused = times(accounts.refused, "vote was", "votes were")
    rejected = times(accounts.rejected, "vote was", "votes were")
    if accounts.refused:
        told += f"; {refused} refused at the door"
        rejected = count(accounts.rejected)
    if accounts.rejected:
        told += f"{', ' if accounts.refused else '; '}{rejected} rejected at the count"
    return f"{told}."


def not_covered(whose: str, result: ModeResult) -> str:
    """`its promise does not cover a wipe of memcached`."""
    happened = [
        f"a {fault.kind} of {fault.target}"
        for fault in result.faults
        if fault.hit and amounts_to(fault.kind, fault.target) in result.promise_void_by
    ]
    return f"{whose} promise does not cover {_joined(list(dict.fromkeys(happened)))}"


def votes_headline(result: RunResult) -> str:
    """The first verdict of the whole run in one sentence."""
    if result.verdict.votes == "unknown":
        unknown = [name for name, mode in result.modes.items() if mode.verdict.votes == "unknown"]
        return f"What became of the votes is not proven in {_joined(unknown) or 'this run'}."
    if not any(mode.accounts.acknowledged for mode in result.modes.values()):
        return "No vote was acknowledged, so there was none to lose."
    if result.verdict.votes == "kept":
        who = "Every mode" if len(result.modes) > 1 else _joined(list(result.modes))
        too_many = any(mode.accounts.rejected for mode in result.modes.values())
        but = ", but for further votes of voters who are counted" if too_many else ""
        return f"{who} counted every vote that it acknowledged, as cast{but}."
    losing = {name: m for name, m in result.modes.items() if m.verdict.votes == "lost"}
    told = _joined([f"{name} {_loss(mode.accounts)}" for name, mode in losing.items()])
    after = [_promised(losing), *_excused(losing)]
    return ". ".join([told, *filter(None, after)]) + "."


def rule_of(result: RunResult) -> bool | None:
    """Whether the once-only poll counted each voter once at most; None: not known in every mode."""
    kept = {mode.rule_kept for mode in result.modes.values()}
    return False if False in kept else None if None in kept else True


def rule_headline(result: RunResult) -> str:
    """The rule's verdict in one sentence."""
    broke = [
        f"{name} counted {times(mode.accounts.overvotes, 'voter', 'voters')} more than once"
        for name, mode in result.modes.items()
        if mode.accounts.overvotes
    ]
    if broke:
        return f"{_joined(broke)}, which the poll forbids in every mode."
    unknown = [name for name, mode in result.modes.items() if mode.rule_kept is None]
    if unknown:
        return f"Whether a voter was counted more than once is not proven in {_joined(unknown)}."
    return "No voter was counted more than once."


def _promised(losing: Mapping[str, ModeResult]) -> str:
    """Which of the modes that lost votes should not have."""
    broke = [name for name, mode in losing.items() if mode.promise_kept is False]
    if broke:
        return f"{_joined(broke)} had promised to lose nothing"
    if any(mode.promises for mode in losing.values()):
        free = [name for name, mode in losing.items() if not mode.promises]
        return f"{_joined(free)} {'promises' if len(free) == 1 else 'promise'} nothing" * bool(free)
    return f"{'It promises' if len(losing) == 1 else 'They promise'} nothing"


def _excused(losing: Mapping[str, ModeResult]) -> list[str]:
    """Why those that lost votes and had promised not to did not break a promise."""
    return [
        not_covered(f"{name}'s", mode)
        for name, mode in losing.items()
        if mode.promise_void_by and mode.promise_kept is None
    ]


def _loss(accounts: Accounts) -> str:
    """`lost 37 of 4,512 acknowledged votes`, with those altered."""
    altered = f" and altered {count(accounts.altered)}" if accounts.altered else ""
    acknowledged = f"of {times(accounts.acknowledged, 'acknowledged vote', 'acknowledged votes')}"
    return f"lost {count(accounts.lost)}{altered} {acknowledged}"


def measurement_headline(result: RunResult) -> str:
    """The second verdict in one sentence."""
    if result.verdict.measurement == "sound":
        return "The load generator kept its plan and the accounts add up: the rates can be used."
    invalid = [n for n, mode in result.modes.items() if mode.verdict.measurement == "invalid"]
    where = f" in {_joined(invalid)}" if invalid else ""
    return f"Do not use the rates and latencies{where}; the reasons are below."


def standing(result: RunResult) -> str:
    """What must be known before any number is read; empty for an ordinary whole run."""
    notes = []
    if result.simulated:
        notes.append("Simulated: virtual time, no real memcached, database or network.")
    if result.partial:
        notes.append("Partial: the run was interrupted or a step failed. Figures are incomplete.")
    return " ".join(notes)


def slo_sentence(slo: SloResult) -> str:
    """`p99<250ms: held, 41.2 measured`."""
    measured = "no value" if slo.value is None else f"{slo_value(slo)} measured"
    return f"{slo.text}: {'held' if slo.held else 'not held'}, {measured}"


def slo_value(slo: SloResult) -> str:
    """What was measured, in the figure's own notation: a number of votes has no decimals."""
    is_count = SLO_FIGURES[parse_slo(slo.text).figure] == "accounts"
    return (count if is_count else number)(slo.value)


def fault_sentence(fault: FaultRecord) -> str:
    """What was done, to whom, and whether it met its aim."""
    at = f"{fault.kind} of {fault.target} at {number(fault.start_s)} s"
    if not fault.hit:
        return f"{at} missed: {fault.detail}."
    lasted_s = fault.end_s - fault.start_s
    return at + (f" for {number(lasted_s)} s." if lasted_s >= INSTANT_S else ".")


def unplanned(result: RunResult) -> list[str]:
    """What befell the modes that was not of the plan."""
    return [
        f"{name}: {fault.detail}, {number(fault.start_s)} s after the load’s start."
        for name, mode in result.modes.items()
        for fault in mode.faults
        if not fault.planned
    ]


def exit_sentence(result: RunResult) -> str:
    """What the exit code says."""
    known = result.exit_code in list(Exit)
    meaning = EXIT_SENTENCE[Exit(result.exit_code)] if known else "See the exit codes."
    return f"Exit code {result.exit_code}: {meaning}"


def _wrongs(accounts: Accounts) -> list[str]:
    told = (
        (accounts.altered, "was altered", "were altered"),
        (accounts.duplicated, "reached the database twice", "reached the database more than once"),
        (accounts.resurrected, "was refused yet counted", "were refused yet counted"),
        (accounts.phantom, "ballot was never cast", "ballots were never cast"),
        (accounts.pending, "is still in the queue", "are still in the queue"),
    )
    return [times(votes, one, more) for votes, one, more in told if votes]


def _joined(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
