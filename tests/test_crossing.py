"""Where one side begins to win: found again in made-up trials, with an interval that holds it."""

from math import inf

import numpy as np
import pytest

from harness.analysis.crossing import Crossing, Noise, Point, crossing, noise_of


def line(*means: float, first: float = 1.0, trials: int = 1) -> list[Point]:
    return [Point(first + n, (mean,) * trials) for n, mean in enumerate(means)]


@pytest.mark.parametrize(
    ("means", "found"),
    [
        ((1, 2), Crossing("always", None, None, 1.0)),
        ((-1, -2), Crossing("never", None, 2.0, None)),
        ((-1, -1, 1), Crossing("from", 2.5, 2.0, 3.0)),
        ((3, -1, -1), Crossing("up-to", 1.75, 1.0, 2.0)),
        ((-1, 1, -1, 1), Crossing("varies", None, 1.0, 4.0)),
        ((1, -1, 1), Crossing("varies", None, None, 3.0)),
        ((-1, 1, -1), Crossing("varies", None, 1.0, None)),
        ((1,), Crossing("always", None, None, 1.0)),
    ],
)
def test_of_single_trials_the_interval_is_the_points_about_the_change(
    means: tuple[float, ...], found: Crossing
) -> None:
    assert crossing(line(*means), None, seed=1) == found


def test_the_order_of_the_points_does_not_matter_and_none_has_no_crossing() -> None:
    assert crossing(line(-1, -1, 1)[::-1], None, seed=1).at == 2.5
    with pytest.raises(ValueError, match="no point"):
        crossing([], None, seed=1)


def test_noise_is_pooled_over_all_points_and_unknown_of_few_repetitions() -> None:
    assert noise_of([Point(1, (0.0,)), Point(2, (0.1, 0.3))]) is None
    noise = noise_of([Point(1, (0.0, 0.2)), Point(2, (0.1, 0.3)), Point(3, (5.0, 5.2))])
    assert noise == Noise(pytest.approx(0.02**0.5), 3)


def test_a_lead_within_the_noise_widens_the_interval_and_one_beyond_it_does_not() -> None:
    points = line(-1, -0.05, 1, trials=3)
    assert crossing(points, Noise(0.001, 6), seed=1)[2:] == (2.0, 3.0)
    assert crossing(points, Noise(0.2, 6), seed=1)[2:] == (1.0, 3.0)
    assert crossing(points, Noise(0.2, 6), seed=1) == crossing(points, Noise(0.2, 6), seed=1)
    falling = [Point(each.at, tuple(-a for a in each.advantages)) for each in points]
    assert crossing(falling, Noise(0.2, 6), seed=1)[2:] == (1.0, 3.0)
    once = line(-1, -0.3, 1)
    assert crossing(once, Noise(0.2, 60), seed=1)[2:] == (1.0, 3.0)
    often = line(-1, -0.3, 1, trials=9)
    assert crossing(often, Noise(0.2, 60), seed=1)[2:] == (2.0, 3.0)
    even = line(0.01, 0.02, trials=2)
    assert crossing(even, Noise(0.5, 6), seed=1) == Crossing("always", None, None, None)


def test_the_interval_holds_the_truth_nearly_always() -> None:
    random = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        points = [
            Point(at, tuple(0.2 * (at - 3.3) + random.normal(0, 0.15, 3)))
            for at in np.arange(1.0, 7.0)
        ]
        found = crossing(points, noise_of(points), seed)
        low = -inf if found.low is None else found.low
        high = inf if found.high is None else found.high
        held += low <= 3.3 <= high
    assert held >= 95
