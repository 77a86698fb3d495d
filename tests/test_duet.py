"""Two versions beside each other: what is found worse, what is not, and what stays open."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.duet import (
    LEVEL,
    Effect,
    Judgement,
    Pairs,
    compare,
    hodges_lehmann,
    holm,
    starts_needed,
)

CHECKS = 100  # of each kind
STARTS = 8  # enough for four figures
OF_STARTS = 0.02  # by which equal versions differ from start to start, in all slices of one alike


def pairs(
    seed: int,
    slower: float,
    starts: int = STARTS,
    noise: float = 0.02,
    of_starts: float = OF_STARTS,
) -> Pairs:
    """Slices on a machine that changes its speed, with noise of its own for either version."""
    random = np.random.default_rng(seed)
    machine = 2.0 * np.exp(np.cumsum(random.normal(0, 0.1, (starts, 5)), axis=1))
    dealt = np.exp(random.normal(0, of_starts, (starts, 1)))
    baseline = machine * np.exp(random.normal(0, noise, (starts, 5)))
    candidate = machine * dealt * (1 + slower) * np.exp(random.normal(0, noise, (starts, 5)))
    return Pairs("p50", baseline.tolist(), candidate.tolist(), margin=0.05)


def effect(seed: int, slower: float, **options: float) -> Effect:
    return compare([pairs(seed, slower, **options)], seed)[0]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def same() -> list[Effect]:
    return [effect(seed, 0.0) for seed in range(CHECKS)]


def test_the_same_version_is_hardly_ever_called_worse(same: list[Effect]) -> None:
    verdicts = [each.judgement for each in same]
    assert verdicts.count(Judgement.WORSE) <= 1
    assert verdicts.count(Judgement.NOT_WORSE) >= CHECKS - 5


def test_the_interval_holds_the_truth_as_often_as_it_says(same: list[Effect]) -> None:
    """Although slices of one start are alike. 90 of 100 is what chance makes of 95 %."""
    assert sum(each.low <= 0 <= each.high for each in same) >= 0.9 * CHECKS
    assert sum(each.p_value <= 0.05 for each in same) <= 0.1 * CHECKS


def test_a_tenth_slower_is_found_worse() -> None:
    found = [effect(seed, 0.10).judgement for seed in range(CHECKS)]
    assert found.count(Judgement.WORSE) >= CHECKS - 5


def test_a_change_well_within_the_margin_is_not_worse_however_significant() -> None:
    found = effect(1, 0.02, starts=40, of_starts=0.005)
    assert found.p_value < 0.01
    assert found.judgement is Judgement.NOT_WORSE


def test_too_much_noise_for_the_margin_stays_undecided_and_says_what_could_be_found() -> None:
    found = effect(3, 0.0, noise=0.3, of_starts=0.3)
    assert found.judgement is Judgement.UNDECIDED
    assert found.detectable > 0.2


def test_the_detectable_change_is_found_as_often_as_it_says(same: list[Effect]) -> None:
    detectable = float(np.median([each.detectable for each in same]))
    found = [effect(seed, detectable).judgement for seed in range(CHECKS)]
    assert found.count(Judgement.WORSE) >= 0.85 * CHECKS


def test_the_same_pairs_and_seed_give_the_same_effect() -> None:
    assert effect(7, 0.03) == effect(7, 0.03)


def test_identical_slices_are_no_change() -> None:
    found = compare([Pairs("cpu", [[2.0] * 5] * 8, [[2.0] * 5] * 8, 0.05)], 1)[0]
    assert (found.change, found.p_value, found.judgement) == (0.0, 1.0, Judgement.NOT_WORSE)
    assert (found.starts, found.pairs) == (8, 40)


@pytest.mark.parametrize(
    ("baseline", "candidate", "why"),
    [
        ([[1.0]] * 8, [[1.0]] * 7, "8 starts beside 7"),
        ([[1.0]] * 8, [[1.0, 1.0]] * 8, "1 values beside 2"),
        ([[1.0]] * 5, [[1.0]] * 5, "6 are needed"),
        ([[1.0]] * 7 + [[]], [[1.0]] * 7 + [[]], "0 values"),
        ([[1.0]] * 7 + [[0.0]], [[1.0]] * 8, "positive"),
    ],
)
def test_pairs_that_prove_nothing_are_refused(
    baseline: list[list[float]], candidate: list[list[float]], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        compare([Pairs("p50", baseline, candidate, 0.05)], 1)


@pytest.mark.parametrize("figures", [1, 2, 4, 12])
def test_with_the_starts_that_are_needed_ranks_can_reach_the_level_and_with_fewer_not(
    figures: int,
) -> None:
    for starts, reached in ((starts_needed(figures), True), (starts_needed(figures) - 1, False)):
        shifts = np.linspace(0.1, 0.2, starts)
        p_value = float(stats.wilcoxon(shifts, alternative="greater").pvalue)
        assert (p_value * figures <= LEVEL) is reached


def test_hodges_lehmann_of_a_hand_made_sample() -> None:
    # Averages of two: 1, 1.5, 5.5, 2, 6, 10; the middle ones are 2 and 5.5.
    assert hodges_lehmann(np.array([1.0, 2.0, 10.0])) == 3.75


def test_hodges_lehmann_of_many_samples_is_that_of_each() -> None:
    samples = np.random.default_rng(1).normal(size=(5, 9))
    assert list(hodges_lehmann(samples)) == [float(hodges_lehmann(each)) for each in samples]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(after >= before for after, before in zip(corrected, p_values, strict=True))
    ordered = [corrected[n] for n in sorted(range(len(p_values)), key=p_values.__getitem__)]
    assert ordered == sorted(ordered)


def test_holm_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_one_figure_is_wilcoxons_own_test_of_the_starts() -> None:
    each = pairs(9, 0.01)
    shifts = [
        float(hodges_lehmann(np.log(np.array(now) / np.array(before))))
        for before, now in zip(each.baseline, each.candidate, strict=True)
    ]
    assert compare([each], 9)[0].p_value == pytest.approx(
        float(stats.wilcoxon(shifts, alternative="greater").pvalue)
    )
