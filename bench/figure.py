"""One measured figure, as it stands in `bench/results.json`."""

import operator
from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import Final, Literal, NamedTuple

COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">=": operator.ge,
    "within": lambda ratio, part: abs(ratio - 1) <= part,  # of 1
}


class Figure(NamedTuple):
    """`value`, `against` and `ratio` are of one round: the one with the median of all ratios."""

    name: str  # <module>.<figure>
    value: float
    unit: str
    against: str  # what it is compared with, and that one's value
    ratio: float  # value over the other's value, measured next to each other
    target: str  # such as "ratio <= 0.4"; empty without one
    met: bool | None
    ratio_quartiles: tuple[float, float]  # half of all rounds lie between
    rounds: int


class Target(NamedTuple):
    """What a figure's value or ratio should be."""

    of: Literal["value", "ratio"]
    comparison: Literal["<", "<=", ">=", "within"]
    bound: float


class Measurement(NamedTuple):
    """What is measured together: it gives a figure for each of these names."""

    names: tuple[str, ...]
    measure: Callable[[], Sequence[Figure]]


def figure(
    name: str,
    unit: str,
    other: str,
    rounds: Sequence[tuple[float, float]],
    target: Target | None = None,
) -> Figure:
    """The figure of an odd number of rounds, each our value and the other's, measured in turn."""
    assert len(rounds) % 2, "an even number of rounds has no middle one"
    by_ratio = sorted(rounds, key=lambda pair: pair[0] / pair[1])
    ratios = [ours / theirs for ours, theirs in by_ratio]
    value, others = by_ratio[len(rounds) // 2]
    ratio = value / others
    lower, _, upper = quantiles(ratios, method="inclusive")
    wanted, met = "", None
    if target:
        wanted = f"{target.of} {target.comparison} {target.bound:g}"
        wanted += f" {unit}" if target.of == "value" else ""
        judged = ratio if target.of == "ratio" else value
        met = COMPARISONS[target.comparison](judged, target.bound)
    against = f"{other}: {others:,.4g} {unit}"
    return Figure(name, value, unit, against, ratio, wanted, met, (lower, upper), len(rounds))
