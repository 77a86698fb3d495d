"""The backlog's low points tell whether a queue keeps up."""

import numpy as np
import pytest

from harness.analysis.backlog import from_times

RATE = 500
SECONDS = 6.0
CAME = np.arange(0, SECONDS, 1 / RATE)


def drained(every_s: float, at_most: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Commits at an interval, each of what has come since, or of so many at most."""
    times = np.arange(every_s, SECONDS, every_s)
    left, votes = 0.0, []
    for at in times:
        came = np.searchsorted(CAME, at, side="right")
        votes.append(min(came - left, at_most))
        left += votes[-1]
    return times, np.array(votes)


def test_a_queue_that_is_emptied_each_time_is_a_sawtooth_that_does_not_grow() -> None:
    found = from_times(CAME, *drained(0.5), SECONDS)
    assert found.deepest == pytest.approx(RATE * 0.5, rel=0.05)
    assert not found.grows


def test_a_drain_that_is_a_tenth_too_slow_is_seen_to_grow() -> None:
    found = from_times(CAME, *drained(0.5, at_most=RATE * 0.5 * 0.9), SECONDS)
    assert found.grows
    assert found.growth_per_s == pytest.approx(0.1 * RATE, rel=0.1)


def test_a_standstill_that_is_made_up_for_is_no_growth() -> None:
    times, votes = drained(0.5)
    keep = (times < 1.2) | (times > 2.8)
    late = np.searchsorted(times, 2.8)
    votes[late] += votes[~keep].sum()
    assert not from_times(CAME, times[keep], votes[keep], SECONDS).grows


def test_votes_that_are_committed_before_they_are_acknowledged_never_wait() -> None:
    found = from_times(CAME, CAME - 0.001, np.ones(len(CAME)), SECONDS)
    assert (found.deepest, found.grows) == (0, False)


def test_a_queue_that_nobody_drains_grows_as_fast_as_votes_come() -> None:
    found = from_times(CAME, np.empty(0), np.empty(0), SECONDS)
    assert found.growth_per_s == pytest.approx(RATE, rel=0.02)
    assert found.grows


def test_no_votes_are_no_backlog() -> None:
    found = from_times(np.empty(0), np.empty(0), np.empty(0), SECONDS)
    assert (found.deepest, found.growth_per_s, found.grows) == (0, 0.0, False)
