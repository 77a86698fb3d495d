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
from scipy.optimize import least_squares

Floats: TypeAlias = npt.NDArray[np.float64]

FEWEST_NUMBERS: Final = 4  # of processes: three terms, and one point that can contradict them
CONFIDENCE: Final = 0.95
TERMS: Final = 3
RESAMPLES: Final = 200  # fits of a millisecond each; ends good to a tenth of the interval
MOST_EVALUATIONS: Final = 10_000  # per fit, which takes some tens
FEWEST_FITS: Final = RESAMPLES // 2  # of those: if more do not converge, the rest is a selection
NO_COHERENCY: Final = 1e-12  # κ is at least this, which puts the best number beyond all


class Interval(NamedTuple):
    """An estimate, and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class Best(NamedTuple):
    """Where throughput is highest, and the bounds of its interval. `high` None: beyond the most
    processes that were tried, of which the law is no more than a guess."""

    value: float
    low: float
    high: float | None


class Scaling(NamedTuple):
    """The fitted law. `best_processes` None: throughput was not seen to fall again, as its highest
    place would be beyond what was tried."""

    single_per_s: Interval  # λ
    contention: Interval  # σ
    coherency: Interval  # κ
    best_processes: Best | None
    explained: float  # R²: the share of the variance that the law explains
    drawn: tuple[tuple[float, ...], ...]  # λ, σ and κ of each resampled fit


def throughput(processes: Floats, single: float, contention: float, coherency: float) -> Floats:
    """X(N)."""
    others = processes - 1
    return single * processes / (1 + contention * others + coherency * processes * others)


def fit(processes: Sequence[int], rates_per_s: Sequence[float], seed: int) -> Scaling:
    """The law that fits best, by least squares; intervals by the bootstrap of its residuals.

    Several rates of one number of processes are repetitions. The same seed gives the same
    intervals. Raises ValueError when there are too few numbers of processes, no rates, or no law
    that fits them.
    """
    numbers = np.asarray(processes, np.float64)
    rates = np.asarray(rates_per_s, np.float64)
    if len(np.unique(numbers)) < FEWEST_NUMBERS:
        raise ValueError(f"{FEWEST_NUMBERS} different numbers of processes are needed")
    if not np.all(rates > 0):
        raise ValueError("a throughput of nothing has no law")
    terms = _terms(numbers, rates)
    if terms is None:
        raise ValueError("no law was found that fits: the fit did not converge")
    fitted = throughput(numbers, *terms)
    drawn = _redrawn(numbers, rates, fitted, seed)
    single, contention, coherency = (_interval(value, drawn[:, n]) for n, value in enumerate(terms))
    variance = float(np.sum((rates - rates.mean()) ** 2))
    explained = 1 - float(np.sum((rates - fitted) ** 2)) / variance if variance else 1.0
    rows = tuple(tuple(row) for row in drawn.tolist())
    best = _best(terms, drawn, max(processes))
    return Scaling(single, contention, coherency, best, explained, rows)


def enough_processes(scaling: Scaling, known: int, times: float, most: int) -> list[int | None]:
    """The fewest processes, up to so many, that take so many times as much as `known` of them do:
    by the fitted law, then by each of the resampled ones. None: no number does."""
    numbers = np.arange(1, most + 1, dtype=np.float64)
    fitted = (scaling.single_per_s.value, scaling.contention.value, scaling.coherency.value)
    found: list[int | None] = []
    for terms in (fitted, *scaling.drawn):
        wanted_per_s = times * throughput(np.array([float(known)]), *terms)[0]
        enough = np.flatnonzero(throughput(numbers, *terms) >= wanted_per_s)
        found.append(int(enough[0]) + 1 if len(enough) else None)
    return found


def _redrawn(numbers: Floats, rates: Floats, fitted: Floats, seed: int) -> Floats:
    """The terms of fits to rates as they might have been. Raises ValueError."""
    # Residuals are in proportion: a fast setting varies by as many per cent as a slow one. They are
    # too small by the terms that were fitted to them.
    freedom = np.sqrt(len(rates) / max(1, len(rates) - TERMS))
    residuals = (rates / fitted - 1) * freedom
    random = np.random.default_rng(seed)
    fits = (
        _terms(numbers, fitted * (1 + random.choice(residuals, len(residuals))).clip(0.01))
        for _ in range(RESAMPLES)
    )
    drawn = [terms for terms in fits if terms is not None]
    if len(drawn) < FEWEST_FITS:
        raise ValueError("no law was found that fits: most resampled fits did not converge")
    return np.array(drawn)


def _terms(numbers: Floats, rates: Floats) -> Floats | None:
    """λ, σ and κ; None when the fit does not converge."""

    def residuals(terms: Floats) -> Floats:
        return throughput(numbers, *terms) / rates - 1

    found = least_squares(
        residuals,
        (float(np.max(rates / numbers)), 0.05, 0.001),
        bounds=((0, 0, 0), (np.inf, 1, 1)),
        max_nfev=MOST_EVALUATIONS,
    )
    terms: Floats = found.x
    return terms if found.success else None


def _best(terms: Floats, drawn: Floats, most: int) -> Best | None:
    """N* = √((1 − σ)/κ), where throughput is highest; 1 where it only falls. `most`: processes
    that were tried."""
    rows = np.vstack((terms, drawn))
    peaks = np.sqrt((1 - rows[:, 1]) / np.maximum(rows[:, 2], NO_COHERENCY)).clip(1.0)
    if peaks[0] > most:
        return None
    value, low, high = _interval(peaks[0], peaks[1:])
    return Best(value, low, high if high <= most else None)


def _interval(value: float, drawn: Floats) -> Interval:
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (outside, 1 - outside))
    return Interval(float(value), min(float(low), float(value)), max(float(high), float(value)))
