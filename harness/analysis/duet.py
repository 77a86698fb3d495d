"""Is one version worse than another that ran beside it? Paired slices, decided by ranks.

Theory of operation
    Two versions take the same load at the same time on the same machine. Each slice of time gives
    a pair: one figure of either, such as the median latency. What the machine does to a slice it
    does to both, so the pair's ratio is far steadier than either value. The logarithms of the
    ratios are looked at: their shift by the Hodges-Lehmann estimate, the median of all averages of
    two; whether it can be chance by Wilcoxon's signed-rank test, one-sided, because only a change
    for the worse matters; how certain the shift is by the bootstrap.

    Several figures are several chances of a false alarm: Holm's correction keeps the probability
    of any at the level of one. So is a second look with more pairs: each is at half the level.

Sources
    Hodges and Lehmann, Estimates of Location Based on Rank Tests, Annals of Mathematical
    Statistics 34, 1963. Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1,
    1945. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6, 1979. Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats: TypeAlias = npt.NDArray[np.float64]

SIGNIFICANCE: Final = 0.01  # of any false alarm per check, over all its figures and looks together
LOOKS: Final = 2  # the pairs, and once more with as many again: two chances of a false alarm
LEVEL: Final = SIGNIFICANCE / LOOKS
CONFIDENCE: Final = 0.95  # of the interval that is shown and by which a check is inconclusive
POWER: Final = 0.95  # with which the detectable effect would be found: 19 of 20
RESAMPLES: Final = 2000  # the interval's ends are then steady to a tenth of its width
FEWEST_PAIRS: Final = 12  # with fewer the ranks of ten modes cannot reach it: 2**-11 > LEVEL / 20


class Judgement(Enum):
    """What the pairs say of one figure."""

    WORSE = "worse"  # significant, and beyond the margin
    NOT_WORSE = "not worse"  # at the confidence, the change is within the margin
    UNDECIDED = "undecided"  # the margin lies within the interval


class Pairs(NamedTuple):
    """One figure of both versions, slice by slice; larger is worse, and all are positive."""

    figure: str
    baseline: Sequence[float]
    candidate: Sequence[float]
    margin: float  # how much worse is put up with: 0.05 for 5 %


class Effect(NamedTuple):
    """How the candidate differs from the baseline; shares, so 0.05 is 5 % more."""

    figure: str
    pairs: int
    change: float  # Hodges-Lehmann
    low: float
    high: float
    p_value: float  # one-sided, after Holm's correction
    margin: float
    detectable: float  # the smallest true change that would have been found worse, with POWER
    judgement: Judgement


def compare(figures: Sequence[Pairs], seed: int) -> list[Effect]:
    """The effect on each figure, judged together. The same seed gives the same interval.

    Raises ValueError for pairs that do not match, are too few, or are not positive.
    """
    shifts = [_shifts(pairs) for pairs in figures]
    raw = [_p_value(each) for each in shifts]
    effects = []
    for pairs, shift, p_value in zip(figures, shifts, holm(raw), strict=True):
        estimate = float(hodges_lehmann(shift))
        resampled = stats.bootstrap(
            (shift,),
            hodges_lehmann,
            vectorized=True,
            axis=-1,
            n_resamples=RESAMPLES,
            batch=100,  # Walsh averages of so many samples at a time: some 10 MB
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        low, high = map(float, resampled.confidence_interval)
        error = float(resampled.standard_error)
        effects.append(
            Effect(
                pairs.figure,
                len(shift),
                _share(estimate),
                _share(low),
                _share(high),
                p_value,
                pairs.margin,
                _share(_detectable(error, pairs.margin, LEVEL / len(figures))),
                _judge(estimate, high, p_value, np.log1p(pairs.margin)),
            )
        )
    return effects


def hodges_lehmann(sample: Floats, axis: int = -1) -> Floats:
    """The median of all averages of two values, each with itself among them."""
    values = np.moveaxis(sample, axis, -1)
    first, second = np.triu_indices(values.shape[-1])
    shift: Floats = np.median((values[..., first] + values[..., second]) / 2, axis=-1)
    return shift


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for there being several, in the order given."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected


def _shifts(pairs: Pairs) -> Floats:
    baseline = np.asarray(pairs.baseline, np.float64)
    candidate = np.asarray(pairs.candidate, np.float64)
    if len(baseline) != len(candidate):
        raise ValueError(f"{pairs.figure}: {len(baseline)} values beside {len(candidate)}")
    if len(baseline) < FEWEST_PAIRS:
        raise ValueError(f"{pairs.figure}: {len(baseline)} pairs, and {FEWEST_PAIRS} are needed")
    if not (np.all(baseline > 0) and np.all(candidate > 0)):
        raise ValueError(f"{pairs.figure}: a ratio needs positive values")
    shifts: Floats = np.log(candidate / baseline)
    return shifts


def _p_value(shifts: Floats) -> float:
    """The probability of pairs so much for the worse when there is no difference."""
    if not np.any(shifts):
        return 1.0
    return float(stats.wilcoxon(shifts, alternative="greater", zero_method="pratt").pvalue)


def _judge(estimate: float, high: float, p_value: float, margin: float) -> Judgement:
    if p_value < LEVEL and estimate > margin:
        return Judgement.WORSE
    return Judgement.NOT_WORSE if high <= margin else Judgement.UNDECIDED


def _detectable(error: float, margin: float, level: float) -> float:
    """A true shift whose estimate is, with POWER, beyond the margin and significant.

    `level`: that of the smallest of several p-values, the hardest to reach.
    """
    found = float(stats.norm.ppf(POWER)) * error
    return max(float(np.log1p(margin)) + found, float(stats.norm.isf(level)) * error + found)


def _share(shift: float) -> float:
    return float(np.expm1(shift))
