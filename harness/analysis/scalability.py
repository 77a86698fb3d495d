"""How throughput grows with the number of processes: Gunther's Universal Scalability Law.

    X(N) = λN / (1 + σ(N − 1) + κN(N − 1))

λ is what one process would do alone, σ the share of work that is done one after the other
(contention), κ the cost of every pair's agreeing with each other (coherency). With σ and κ zero
throughput grows in proportion; σ alone caps it; κ makes it fall again beyond the best number.

Source: Gunther, Guerrilla Capacity Planning, 2007, chapters 4 and 5.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import curve_fit

Floats: TypeAlias = npt.NDArray[np.float64]

FEWEST_NUMBERS: Final = 4  # of processes: three terms, and one point that can contradict them
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 200  # fits of a millisecond each; ends good to a tenth of the interval
MOST_EVALUATIONS: Final = 10_000  # per fit, which takes some tens
NO_COHERENCY: Final = 1e-6
"""κ below this puts the best number beyond a thousand processes: there is none."""


class Interval(NamedTuple):
    """An estimate, and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class Scaling(NamedTuple):
    """The fitted law. `best_processes` None: throughput was not seen to fall again."""

    single_per_s: Interval  # λ
    contention: Interval  # σ
    coherency: Interval  # κ
    best_processes: Interval | None
    explained: float  # R²: the share of the variance that the law explains


def throughput(processes: Floats, single: float, contention: float, coherency: float) -> Floats:
    """X(N)."""
    others = processes - 1
    return single * processes / (1 + contention * others + coherency * processes * others)


def fit(processes: Sequence[int], rates_per_s: Sequence[float], seed: int) -> Scaling:
    """The law that fits best, by least squares; intervals by the bootstrap of its residuals.

    Several rates of one number of processes are repetitions. The same seed gives the same
    intervals. Raises ValueError when there are too few numbers of processes, or no rates.
    """
    numbers = np.asarray(processes, np.float64)
    rates = np.asarray(rates_per_s, np.float64)
    if len(np.unique(numbers)) < FEWEST_NUMBERS:
        raise ValueError(f"{FEWEST_NUMBERS} different numbers of processes are needed")
    if not np.all(rates > 0):
        raise ValueError("a throughput of nothing has no law")
    terms = _terms(numbers, rates)
    fitted = throughput(numbers, *terms)
    # Residuals are in proportion: a fast setting varies by as many per cent as a slow one. They are
    # too small by the terms that were fitted to them.
    freedom = np.sqrt(len(rates) / max(1, len(rates) - len(terms)))
    residuals = (rates / fitted - 1) * freedom
    random = np.random.default_rng(seed)
    drawn = np.array(
        [
            _terms(numbers, fitted * (1 + random.choice(residuals, len(residuals))).clip(0.01))
            for _ in range(RESAMPLES)
        ]
    )
    single, contention, coherency = (_interval(value, drawn[:, n]) for n, value in enumerate(terms))
    variance = float(np.sum((rates - rates.mean()) ** 2))
    explained = 1 - float(np.sum((rates - fitted) ** 2)) / variance if variance else 1.0
    return Scaling(single, contention, coherency, _best(terms, drawn), explained)


def _terms(numbers: Floats, rates: Floats) -> Floats:
    """λ, σ and κ."""
    start = (float(np.max(rates / numbers)), 0.05, 0.001)
    terms: Floats
    terms, _ = curve_fit(
        throughput,
        numbers,
        rates,
        p0=start,
        sigma=rates,
        bounds=((0, 0, 0), (np.inf, 1, 1)),
        max_nfev=MOST_EVALUATIONS,
    )
    return terms


def _best(terms: Floats, drawn: Floats) -> Interval | None:
    """N* = √((1 − σ)/κ), where throughput is highest."""
    _, contention, coherency = terms
    if coherency < NO_COHERENCY:
        return None
    numbers = np.sqrt((1 - drawn[:, 1]) / np.maximum(drawn[:, 2], NO_COHERENCY))
    return _interval(float(np.sqrt((1 - contention) / coherency)), numbers)


def _interval(value: float, drawn: Floats) -> Interval:
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (outside, 1 - outside))
    return Interval(float(value), min(float(low), float(value)), max(float(high), float(value)))
