"""Where one of two things that were measured at several settings begins to win over the other.

Points are a setting, such as a latency, and of each trial there the advantage: the logarithm of
one side's figure over the other's, above 0 where it wins. Between two settings the advantage is
taken to be linear for the best guess, and nothing is taken to be known for the interval: that
reaches from measured point to measured point.

Trials are noisy. How much is known where settings were tried several times, from all of them
together (a pooled variance); the interval is then what the crossing does in nearly all of many
redrawn sets of points. Where too few were tried again to know, it encloses the change that was
seen, and no more can be said.

Source of the redrawing: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 6.5
(parametric bootstrap), the variance drawn from its chi-square distribution first.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Wins: TypeAlias = Literal["always", "never", "from", "up-to", "varies"]

CONFIDENCE: Final = 0.95
FEWEST_FREEDOM: Final = 3  # repetitions: a variance of fewer is off by a factor, not by a share
REDRAWN: Final = 2000  # fifty of them beyond each end of the interval


class Point(NamedTuple):
    """A setting, and the advantage of each trial there."""

    at: float
    advantages: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.advantages) / len(self.advantages)


class Noise(NamedTuple):
    """The standard deviation of one trial's advantage, and how many degrees of freedom it has."""

    deviation: float
    freedom: int


class Crossing(NamedTuple):
    """Where the advantage changes its sign.

    `wins`: within what was measured `always` or `never`, `from` or `up-to` the setting `at`, or it
    `varies`. `low` and `high` are the ends of the interval; None: beyond what was measured.
    """

    wins: Wins
    at: float | None
    low: float | None
    high: float | None


def noise_of(points: Sequence[Point]) -> Noise | None:
    """The trials' noise over all settings; None where too few were tried again."""
    freedom = sum(len(point.advantages) - 1 for point in points)
    if freedom < FEWEST_FREEDOM:
        return None
    squares = sum((each - point.mean) ** 2 for point in points for each in point.advantages)
    return Noise((squares / freedom) ** 0.5, freedom)


def crossing(points: Sequence[Point], noise: Noise | None, seed: int) -> Crossing:
    """Where the side whose advantage it is begins to win, or ceases to. The same seed gives the
    same interval. Raises ValueError without points."""
    if not points:
        raise ValueError("no point, no crossing")
    points = sorted(points)
    means = np.array([point.mean for point in points])
    wins = _wins(means)
    ats = [point.at for point in points]
    drawn = _drawn(points, noise, seed)
    # An advantage that falls is one of the other side that rises.
    low, high = _interval(ats, -drawn if wins == "up-to" else drawn)
    return Crossing(wins, _between(ats, means) if wins in ("from", "up-to") else None, low, high)


def _wins(means: Floats) -> Wins:
    ahead = means > 0
    changes = int(np.count_nonzero(ahead[1:] != ahead[:-1]))
    if not changes:
        return "always" if ahead[0] else "never"
    if changes > 1:
        return "varies"
    return "from" if ahead[-1] else "up-to"


def _between(ats: Sequence[float], means: Floats) -> float:
    """Where the line between the two points about the change is 0."""
    for (one_at, one), (other_at, other) in pairwise(zip(ats, means, strict=True)):
        if (one > 0) != (other > 0):
            return float(one_at + (other_at - one_at) * one / (one - other))
    raise AssertionError("the advantage changes its sign")


def _drawn(points: Sequence[Point], noise: Noise | None, seed: int) -> Floats:
    """Means as they might have been, a row each; without known noise only as they were."""
    means = np.array([[point.mean for point in points]])
    if noise is None:
        return means
    random = np.random.default_rng(seed)
    deviations = noise.deviation * np.sqrt(
        noise.freedom / random.chisquare(noise.freedom, (REDRAWN, 1))
    )
    trials = np.array([len(point.advantages) for point in points])
    drawn: Floats = means + deviations * random.standard_normal((REDRAWN, len(points))) / np.sqrt(
        trials
    )
    return drawn


def _interval(ats: Sequence[float], drawn: Floats) -> tuple[float | None, float | None]:
    """From the last setting below which it is ahead nowhere, to the first from which it always is;
    in nearly all of the rows."""
    ends = np.array([-np.inf, *ats, np.inf])
    ahead = drawn > 0
    settings = ahead.shape[1]
    first_ahead = np.where(ahead.any(1), ahead.argmax(1), settings)
    last_behind = np.where((~ahead).any(1), settings - 1 - (~ahead)[:, ::-1].argmax(1), -1)
    outside = (1 - CONFIDENCE) / 2
    low = float(np.quantile(ends[first_ahead], outside, method="lower"))
    high = float(np.quantile(ends[last_behind + 2], 1 - outside, method="higher"))
    return (low if np.isfinite(low) else None), (high if np.isfinite(high) else None)
