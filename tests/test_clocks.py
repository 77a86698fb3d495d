"""Another machine's clock: how well it is told from ours, and times put from one into the other."""

import random

import numpy as np

from harness.load.clocks import MOST_DRIFT, Difference, Exchange, Translation, difference, until

AHEAD_NS = 5_000_000_000_000
HOUR_NS = 3_600_000_000_000


def asked(rng: random.Random, at_ns: int, ahead_ns: int) -> Exchange:
    """An exchange over a network whose two ways take as long as chance has it."""
    there_ns, back_ns = (round(rng.expovariate(1 / 3e6)) + 100_000 for _ in range(2))
    return Exchange(at_ns, at_ns + there_ns + back_ns, at_ns + there_ns + ahead_ns)


def test_the_difference_is_never_further_off_than_is_said() -> None:
    rng = random.Random(7)
    for _ in range(500):
        found = difference([asked(rng, 1_000_000 * n, AHEAD_NS) for n in range(20)])
        assert abs(found.ahead_ns - AHEAD_NS) <= found.within_ns


def test_the_quickest_exchange_is_believed() -> None:
    slow = Exchange(asked_ns=0, came_ns=1000, theirs_ns=7900)
    quick = Exchange(asked_ns=2000, came_ns=2010, theirs_ns=9005)
    assert difference([slow, quick]) == Difference(at_ns=2005, ahead_ns=7000, within_ns=5)


def test_a_clock_that_goes_wrong_evenly_is_put_right_at_every_moment() -> None:
    begin = Difference(at_ns=0, ahead_ns=AHEAD_NS, within_ns=1000)
    end = Difference(at_ns=HOUR_NS, ahead_ns=AHEAD_NS + 180_000_000, within_ns=3000)
    translation = Translation(begin, end)
    ours_ns = np.array([0, HOUR_NS // 3, HOUR_NS], np.int64)
    theirs_ns = ours_ns + AHEAD_NS + np.array([0, 60_000_000, 180_000_000])
    # A clock of 50 millionths too much measures its own error with itself: 9 µs of 180 ms.
    assert np.abs(translation.ours(theirs_ns) - ours_ns).max() < 10_000
    assert translation.within_ns == 180_000_000 + 3000


def test_who_went_before_its_clock_was_asked_again_may_have_drifted_as_far_as_clocks_do() -> None:
    begin = Difference(at_ns=0, ahead_ns=-AHEAD_NS, within_ns=1000)
    translation = until(begin, HOUR_NS)
    assert translation.within_ns == 1000 + MOST_DRIFT * HOUR_NS
    assert translation.ours(np.array([12_345 - AHEAD_NS])).tolist() == [12_345]
