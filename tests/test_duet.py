"""Two versions beside each other: what is found worse, what is not, and what stays open."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.duet import Judgement, Pairs, compare, hodges_lehmann, holm

CHECKS = 60  # of each kind; with a true rate of 1 % more than 3 false alarms come once in 500


def pairs(seed: int, slower: float, count: int = 40, noise: float = 0.02) -> Pairs:
    """Slices on a machine that changes its speed, with noise of its own for either version."""
    random = np.random.default_rng(seed)
    machine = 2.0 * np.exp(np.cumsum(random.normal(0, 0.1, count)))
    baseline = machine * np.exp(random.normal(0, noise, count))
    candidate = machine * (1 + slower) * np.exp(random.normal(0, noise, count))
    return Pairs("p50", list(baseline), list(candidate), margin=0.05)


def judged(seed: int, slower: float, **options: float) -> Judgement:
    return compare([pairs(seed, slower, **options)], seed)[0].judgement  # type: ignore[arg-type]


def test_the_same_version_is_hardly_ever_called_worse() -> None:
    verdicts = [judged(seed, 0.0) for seed in range(CHECKS)]
    assert verdicts.count(Judgement.WORSE) <= 3
    assert verdicts.count(Judgement.NOT_WORSE) >= CHECKS - 3


def test_a_tenth_slower_is_found_worse() -> None:
    assert sum(judged(seed, 0.10) is Judgement.WORSE for seed in range(CHECKS)) >= CHECKS - 1


def test_a_change_well_within_the_margin_is_not_worse_however_significant() -> None:
    effect = compare([pairs(1, 0.02, count=200)], 1)[0]
    assert effect.p_value < 0.01
    assert effect.judgement is Judgement.NOT_WORSE


def test_too_much_noise_for_the_margin_stays_undecided_and_says_what_could_be_found() -> None:
    effect = compare([pairs(3, 0.0, count=12, noise=0.3)], 3)[0]
    assert effect.judgement is Judgement.UNDECIDED
    assert effect.detectable > 0.2


def test_the_detectable_change_is_found_as_often_as_it_says() -> None:
    detectable = compare([pairs(5, 0.0)], 5)[0].detectable
    found = sum(judged(seed, detectable) is Judgement.WORSE for seed in range(CHECKS))
    assert found >= 0.85 * CHECKS


def test_the_same_pairs_and_seed_give_the_same_effect() -> None:
    assert compare([pairs(7, 0.03)], 7) == compare([pairs(7, 0.03)], 7)


def test_identical_slices_are_no_change() -> None:
    effect = compare([Pairs("cpu", [2.0] * 12, [2.0] * 12, 0.05)], 1)[0]
    assert (effect.change, effect.p_value, effect.judgement) == (0.0, 1.0, Judgement.NOT_WORSE)


@pytest.mark.parametrize(
    ("baseline", "candidate", "why"),
    [
        ([1.0] * 9, [1.0] * 10, "9 values beside 10"),
        ([1.0] * 11, [1.0] * 11, "12 are needed"),
        ([1.0] * 11 + [0.0], [1.0] * 12, "positive"),
    ],
)
def test_pairs_that_prove_nothing_are_refused(
    baseline: list[float], candidate: list[float], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        compare([Pairs("p50", baseline, candidate, 0.05)], 1)


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


def test_one_figure_is_wilcoxons_own_test() -> None:
    each = pairs(9, 0.01)
    shifts = np.log(np.array(each.candidate) / np.array(each.baseline))
    assert compare([each], 9)[0].p_value == pytest.approx(
        float(stats.wilcoxon(shifts, alternative="greater").pvalue)
    )
