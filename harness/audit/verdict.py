"""What the accounts prove about the votes, and whether a mode kept its promise.

A loss that is proven is said, even when the rest is unknown; `kept` is said only when everything
is known: the queue was drained, the ledger is whole, and there was something to keep.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from harness.fault import amounts_to
from harness.result import Accounts, MeasurementVerdict, Verdict, VotesVerdict
from harness.run_folder import TARGET, TrialFacts

RULE_OF_THREE: Final = 3.0
"""Zero events in n trials: with 95 % confidence at most 3/n each (Hanley and Lippman-Hand, If
nothing goes wrong, is everything all right?, JAMA 249, 1983)."""


BREAKS_PROMISE: Final = ("lost", "altered", "resurrected", "duplicated", "phantom", "overvotes")
"""The accounts that a mode which promises must keep at zero."""
EXCUSED: Final = ("lost",)
"""Of those, what a fault that the promise does not cover excuses."""


class VotesJudgement(NamedTuple):
    """`reasons` are whole sentences that say why nothing, or not all, is known."""

    votes: VotesVerdict
    reasons: tuple[str, ...]
    lost_at_most_per_vote: float | None


def judge_votes(accounts: Accounts, facts: TrialFacts) -> VotesJudgement:
    """Kept, lost or unknown."""
    reasons = tuple(_gaps(accounts, facts))
    if accounts.lost or accounts.altered:
        return VotesJudgement("lost", reasons, None)
    if reasons:
        return VotesJudgement("unknown", reasons, None)
    return VotesJudgement("kept", (), RULE_OF_THREE / accounts.acknowledged)


def promise_voids(facts: TrialFacts) -> tuple[str, ...]:
    """What the mode's promise does not cover: faults that hit in the trial, and what the plan has.

    What is killed with its memory counts as wiped.
    """
    if not facts.promises:
        return ()
    hit = {amounts_to(fault.kind, fault.target) for fault in facts.faults if fault.hit}
    return (*facts.void_by, *(excuse for excuse in facts.excuses if excuse in hit))


def promise_kept(facts: TrialFacts, accounts: Accounts, votes: VotesVerdict) -> bool | None:
    """Whether what was cast was counted and nothing else; None: no promise, void, or unknown.

    A refused vote that is counted breaks the promise as well: its voter will vote again. So does a
    ballot that nobody cast, although the votes verdict, which is about voters' votes, can be kept.
    A fault that the promise does not cover excuses what was lost, and none of these.
    """
    if not facts.promises:
        return None
    void = bool(promise_voids(facts))
    breaking = [name for name in BREAKS_PROMISE if name not in EXCUSED or not void]
    if any(getattr(accounts, name) for name in breaking):
        return False
    return None if void or votes == "unknown" else True


def rule_kept(facts: TrialFacts, accounts: Accounts) -> bool | None:
    """Whether no voter was counted more than once; None: the poll has no such rule, or unknown.

    That is the poll's promise, not the mode's: no mode and no fault is excused from it.
    """
    if not facts.once:
        return None
    if accounts.overvotes:
        return False
    return True if facts.drained else None  # of what is still queued, another one may be counted


def kept_in_all(kept: Iterable[bool | None]) -> bool | None:
    """Broken in one trial is broken; kept only if it was in all."""
    found = set(kept)
    if False in found:
        return False
    return None if None in found else True


def worst_votes(verdicts: Iterable[VotesVerdict]) -> VotesVerdict:
    """Lost, else unknown, else kept; unknown without any."""
    found = set(verdicts)
    if "lost" in found:
        return "lost"
    return "kept" if found == {"kept"} else "unknown"


def worst_measurement(verdicts: Iterable[MeasurementVerdict]) -> MeasurementVerdict:
    """Sound only if all are, and there is one."""
    return "sound" if set(verdicts) == {"sound"} else "invalid"


def worst(verdicts: dict[str, Verdict]) -> Verdict:
    """The worst of both kinds; each reason is prefixed with whom it is about."""
    return Verdict(
        votes=worst_votes(v.votes for v in verdicts.values()),
        measurement=worst_measurement(v.measurement for v in verdicts.values()),
        reasons=tuple(f"{name}: {reason}" for name, v in verdicts.items() for reason in v.reasons),
    )


def _gaps(accounts: Accounts, facts: TrialFacts) -> Iterable[str]:
    if not facts.drained and facts.mode == TARGET:
        yield (
            f"Its ballots were not given, or were still growing; {accounts.pending} acknowledged "
            "votes have none and may yet get one."
        )
    elif not facts.drained:
        yield (
            f"The queue was not seen empty after the load; {accounts.pending} acknowledged votes "
            "have no ballot and may still be in it."
        )
    if accounts.unrecorded or facts.missing_generators:
        yield (
            f"The ledger is not whole: what {accounts.unrecorded} votes were told is unknown, "
            "so some of them may be lost."
        )
    if not accounts.acknowledged:
        yield "No vote was acknowledged, so there was nothing to keep."
