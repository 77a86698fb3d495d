"""Service level objectives: a figure of a result, a comparison, a bound."""

import difflib
import operator
import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from harness.errors import PlanError

COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


class Slo(msgspec.Struct, frozen=True):
    """A threshold, as in `p99<250ms`: figure, comparison, bound in the figure's own unit."""

    figure: str
    comparison: str  # one of COMPARISONS
    bound: float
    text: str

    def holds(self, value: float | None) -> bool:
        """Whether a measured value keeps it; no value keeps nothing."""
        return value is not None and COMPARISONS[self.comparison](value, self.bound)


SLO_FIGURES: Final = {
    "p50": "latency_ms",
    "p90": "latency_ms",
    "p99": "latency_ms",
    "p99_9": "latency_ms",
    "max": "latency_ms",
    "counted_p50": "counted_after_s",
    "counted_p99": "counted_after_s",
    "lost": "accounts",
    "duplicated": "accounts",
    "refused": "accounts",
    "unsent": "accounts",
    "acknowledged_per_s": "rates_per_s",
}
_SLO: Final = re.compile(r"\s*([a-z0-9_]+)\s*([<>]=?|=)\s*([0-9.]+)\s*(ms|s|/s)?\s*")
_UNIT_OF: Final = {"latency_ms": "ms", "counted_after_s": "s", "rates_per_s": "/s"}


def parse_slo(text: str) -> Slo:
    """Reads `figure<bound` with the unit that the figure has, ms and s converted."""
    match = _SLO.fullmatch(text)
    if not match:
        raise PlanError(f"SLO {text!r}: write figure<bound, for example 'p99<250ms' or 'lost=0'")
    figure, comparison, number, unit = match.groups()
    if figure not in SLO_FIGURES:
        raise PlanError(
            f"SLO {text!r}: no figure {figure!r}{nearest(figure, SLO_FIGURES)}; "
            f"known: {', '.join(SLO_FIGURES)}"
        )
    try:
        bound = float(number)
    except ValueError:
        raise PlanError(f"SLO {text!r}: {number!r} is no number") from None
    wanted = _UNIT_OF.get(SLO_FIGURES[figure])
    if wanted and not unit:
        raise PlanError(f"SLO {text!r}: {figure} needs a unit, for example {figure}<250{wanted}")
    if unit and wanted is None:
        raise PlanError(f"SLO {text!r}: {figure} is a count and takes no unit")
    if unit and unit != wanted:
        factor = {("s", "ms"): 1000.0, ("ms", "s"): 0.001}.get((unit, wanted or ""))
        if factor is None:
            raise PlanError(f"SLO {text!r}: {figure} is given in {wanted}, not {unit}")
        bound *= factor
    return Slo(figure, comparison, bound, text.replace(" ", ""))


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known name most like this one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
