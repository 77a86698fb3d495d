"""Is one version worse than another that ran beside it? Paired slices, decided by ranks.

Theory of operation
    Two versions take the same load at the same time on the same machine. Each slice of time gives
    a pair: one figure of either, such as the median latency. What the machine does to a slice it
    does to both, so the pair's ratio is far steadier than either value.

    But a process that is started keeps what it was dealt: where its memory lies, which core it
    is on, what hangs together by chance. Equal versions differ by some two per cent from start to
    start, in all slices of that start alike. So both are started several times, and a start, not a
    slice, is what is counted: its shift is the Hodges-Lehmann estimate, the median of all averages
    of two, of the logarithms of its slices' ratios. The shift of all starts is the same estimate
    of theirs; whether it can be chance is said by Wilcoxon's signed-rank test, one-sided,
    because only a change for the worse matters; how certain it is, by the bootstrap over starts,
    widened for their being few.

    Several figures are several chances of a false alarm: Holm's correction keeps the probability
    of any at the level of one. So is a second look with more starts: each is at half the level.

Sources
    Hodges and Lehmann, Estimates of Location Based on Rank Tests, Annals of Mathematical
    Statistics 34, 1963. Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1,
    1945. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6, 1979. Hesterberg, What Teachers Should Know About the Bootstrap, The American
    Statistician 69, 2015: the expanded percentile interval. Kalibera and Jones, Rigorous
    Benchmarking in Reasonable Time, ISMM 2013: where to repeat.
"""

import math
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats: TypeAlias = npt.NDArray[np.float64]

SIGNIFICANCE: Final = 0.05  # of any false alarm per check, over all its figures and looks together
LOOKS: Final = 2  # the starts, and once more with as many again: two chances of a false alarm
LEVEL: Final = SIGNIFICANCE / LOOKS
CONFIDENCE: Final = 0.95  # of the interval that is shown and by which a check is inconclusive
POWER: Final = 0.95  # with which the detectable effect would be found: 19 of 20
RESAMPLES: Final = 4000  # 20 lie beyond either end of the widened interval of a few starts


class Judgement(Enum):
    """What the pairs say of one figure."""

    WORSE = "worse"  # significant, and beyond the margin
    NOT_WORSE = "not worse"  # at the confidence, the change is within the margin
    UNDECIDED = "undecided"  # the margin lies within the interval


class Pairs(NamedTuple):
    """One figure of both versions, start by start, in each its slices; larger is worse.

    All are positive.
    """

    figure: str
    baseline: Sequence[Sequence[float]]
    candidate: Sequence[Sequence[float]]
    margin: float  # how much worse is put up with: 0.05 for 5 %


class Effect(NamedTuple):
    """How the candidate differs from the baseline; shares, so 0.05 is 5 % more."""

    figure: str
    starts: int
    pairs: int
    change: float  # Hodges-Lehmann
    low: float
    high: float
    p_value: float  # one-sided, after Holm's correction
    margin: float
    detectable: float  # the smallest true change that would have been found worse, with POWER
    judgement: Judgement


def starts_needed(figures: int) -> int:
    """With fewer the signed ranks cannot reach the level: all of one sign has p = 2**-starts."""
    return math.ceil(math.log2(figures / LEVEL))


FEWEST_STARTS: Final = starts_needed(1)


def compare(figures: Sequence[Pairs], seed: int) -> list[Effect]:
    """The effect on each figure, judged together. The same seed gives the same interval.

    Raises ValueError for pairs that do not match, are of too few starts, or are not positive.
    """
    shifts = [_shifts(pairs) for pairs in figures]
    corrected = holm([_p_value(each) for each in shifts])
    effects = []
    for pairs, shift, p_value in zip(figures, shifts, corrected, strict=True):
        estimate = float(hodges_lehmann(shift))
        low, high, error = _interval(shift, seed)
        effects.append(
            Effect(
                pairs.figure,
                len(shift),
                sum(map(len, pairs.baseline)),
                _share(estimate),
                _share(low),
                _share(high),
                p_value,
                pairs.margin,
                _share(_detectable(error, len(shift), pairs.margin, LEVEL / len(figures))),
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
    """One of each start."""
    starts = len(pairs.baseline)
    if starts != len(pairs.candidate):
        raise ValueError(f"{pairs.figure}: {starts} starts beside {len(pairs.candidate)}")
    if starts < FEWEST_STARTS:
        raise ValueError(f"{pairs.figure}: {starts} starts, and {FEWEST_STARTS} are needed")
    return np.array(
        [
            _shift(pairs.figure, np.asarray(before, np.float64), np.asarray(now, np.float64))
            for before, now in zip(pairs.baseline, pairs.candidate, strict=True)
        ]
    )


def _shift(figure: str, baseline: Floats, candidate: Floats) -> float:
    if len(baseline) != len(candidate) or not len(baseline):
        raise ValueError(f"{figure}: {len(baseline)} values beside {len(candidate)}")
    if not (np.all(baseline > 0) and np.all(candidate > 0)):
        raise ValueError(f"{figure}: a ratio needs positive values")
    return float(hodges_lehmann(np.log(candidate / baseline)))


def _p_value(shifts: Floats) -> float:
    """The probability of starts so much for the worse when there is no difference."""
    if not np.any(shifts):
        return 1.0
    return float(stats.wilcoxon(shifts, alternative="greater", zero_method="pratt").pvalue)


def _interval(shifts: Floats, seed: int) -> tuple[float, float, float]:
    """Its two ends, and the standard error.

    Resampled from so few, both come out too small, by what Student's distribution and the lost
    degree of freedom say.
    """
    freedom = len(shifts) - 1
    lost = math.sqrt(len(shifts) / freedom)
    widened = lost * float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    resampled = stats.bootstrap(
        (shifts,),
        hodges_lehmann,
        vectorized=True,
        axis=-1,
        n_resamples=RESAMPLES,
        confidence_level=2 * float(stats.norm.cdf(widened)) - 1,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = map(float, resampled.confidence_interval)
    return low, high, lost * float(resampled.standard_error)


def _judge(estimate: float, high: float, p_value: float, margin: float) -> Judgement:
    if p_value <= LEVEL and estimate > margin:
        return Judgement.WORSE
    return Judgement.NOT_WORSE if high <= margin else Judgement.UNDECIDED


def _detectable(error: float, starts: int, margin: float, level: float) -> float:
    """A true shift whose estimate is, with POWER, beyond the margin and significant.

    `level`: that of the smallest of several p-values, the hardest to reach.
    """
    student = stats.t(starts - 1)
    found = float(student.ppf(POWER)) * error
    return max(float(np.log1p(margin)) + found, float(student.isf(level)) * error + found)


def _share(shift: float) -> float:
    return float(np.expm1(shift))
