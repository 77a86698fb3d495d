"""Two things measured in turn, so that a machine whose speed drifts slows both alike."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple


class Paired(NamedTuple):
    """Medians over the rounds; `ratio` is the median of the rounds' own ratios."""

    ours: float
    theirs: float
    ratio: float


def in_turn(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> Paired:
    """Measure A B, B A, A B …; the first pair warms up and is not counted."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        if number % 2:
            other = theirs()
            pairs.append((ours(), other))
        else:
            own = ours()
            pairs.append((own, theirs()))
    counted = pairs[1:]
    return Paired(
        median(a for a, _ in counted),
        median(b for _, b in counted),
        median(a / b for a, b in counted),
    )
