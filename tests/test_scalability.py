"""The law of throughput: terms are found again, and their intervals hold them."""

import numpy as np
import pytest

from harness.analysis.scalability import fit, throughput

NUMBERS = [1, 2, 3, 4, 6, 8] * 3
LAW = (1000.0, 0.08, 0.03)


def measured(seed: int, noise: float, law: tuple[float, float, float] = LAW) -> list[float]:
    random = np.random.default_rng(seed)
    exact = throughput(np.array(NUMBERS, np.float64), *law)
    return list(exact * (1 + random.normal(0, noise, len(NUMBERS))))


def test_terms_without_noise_are_found_exactly() -> None:
    scaling = fit(NUMBERS, measured(1, 0.0), seed=1)
    found = (scaling.single_per_s.value, scaling.contention.value, scaling.coherency.value)
    assert found == pytest.approx(LAW, rel=1e-4)
    assert scaling.explained == pytest.approx(1.0)
    assert scaling.best_processes is not None
    assert scaling.best_processes.value == pytest.approx(np.sqrt(0.92 / 0.03), rel=1e-3)


def test_intervals_hold_the_truth_nearly_always() -> None:
    fits = [fit(NUMBERS, measured(seed, 0.05), seed) for seed in range(12)]
    held = sum(each.contention.low <= LAW[1] <= each.contention.high for each in fits)
    assert held >= 10
    held = sum(each.single_per_s.low <= LAW[0] <= each.single_per_s.high for each in fits)
    assert held >= 10


def test_throughput_that_only_grows_has_no_best_number() -> None:
    assert fit(NUMBERS, measured(1, 0.0, (500.0, 0.0, 0.0)), seed=1).best_processes is None


def test_where_throughput_only_falls_one_process_is_the_best_number() -> None:
    """The law's own maximum lies below one then."""
    law = fit([1, 2, 3, 4], [734.0, 639.0, 509.0, 588.0], seed=1)
    assert law.best_processes is not None
    assert (law.best_processes.value, law.best_processes.low) == (1.0, 1.0)


def test_no_best_number_is_stated_beyond_what_was_tried() -> None:
    """Its highest place would be at 9.6 processes, and eight were tried."""
    assert fit(NUMBERS, measured(1, 0.0, (1000.0, 0.08, 0.01)), seed=1).best_processes is None
    nearly = fit(NUMBERS, measured(1, 0.05, (1000.0, 0.08, 0.016)), seed=1).best_processes
    assert nearly is not None
    assert nearly.low <= nearly.value <= 8
    assert nearly.high is None  # some of the laws that might have been do not fall before that


def test_the_same_seed_gives_the_same_intervals() -> None:
    assert fit(NUMBERS, measured(3, 0.05), seed=3) == fit(NUMBERS, measured(3, 0.05), seed=3)


def test_three_numbers_of_processes_are_too_few() -> None:
    with pytest.raises(ValueError, match="4 different numbers"):
        fit([1, 2, 3, 3], [10.0, 20.0, 25.0, 26.0], seed=1)


def test_no_throughput_has_no_law() -> None:
    with pytest.raises(ValueError, match="nothing"):
        fit([1, 2, 3, 4], [10.0, 0.0, 25.0, 26.0], seed=1)
