"""Which objectives a search can go by: those that fail at high rates, and can be looked at."""

from collections.abc import Iterable
from typing import Final

from harness.errors import PlanError
from harness.plan import Plan
from harness.slo import Slo, parse_slo

USUAL: Final = ("p99<250ms", "lost=0", "counted_p99<5s")
OF_BALLOTS: Final = ("lost", "duplicated")
OF_THE_JOURNAL: Final = ("counted_p50", "counted_p99")
SOUGHT: Final = "acknowledged_per_s"


def sees_ballots(plan: Plan) -> bool:
    """Whether it is known in the end which votes were counted."""
    return not plan.target.url or bool(plan.target.ballots)


def usual_objectives(plan: Plan) -> tuple[str, ...]:
    """Those of a study that names none, as far as its plan lets anyone look at them."""
    return tuple(text for text in USUAL if not _unseen(parse_slo(text), plan))


def require_answerable(plan: Plan) -> None:
    """Raises PlanError for an objective that no rate could meet, whatever the server does."""
    for slo in plan.slos():
        why = _unseen(slo, plan) or _senseless(slo)
        if why:
            raise PlanError(f"--slo {slo.text!r}: {why}; leave that objective away")


def counted_within_s(slos: Iterable[Slo]) -> float | None:
    """The strictest bound on when nearly all votes are counted; None: there is none."""
    bounds_s = (s.bound for s in slos if s.figure == "counted_p99" and s.comparison in ("<", "<="))
    return min(bounds_s, default=None)


def _unseen(slo: Slo, plan: Plan) -> str:
    if plan.target.url and slo.figure in OF_THE_JOURNAL:
        return "a --target keeps no journal that tells when a vote is counted"
    if slo.figure in OF_BALLOTS and not sees_ballots(plan):
        return "nobody knows which votes a --target has counted without its --ballots"
    return ""


def _senseless(slo: Slo) -> str:
    if slo.figure == SOUGHT:
        return "how many votes are taken is what is searched for, and low rates take few"
    if slo.comparison.startswith(">"):
        return "low rates miss what is to be at least so much, and the search would end at none"
    return ""
