"""From where on a queue takes more votes than `direct`, from points that are made by hand."""

import msgspec
import pytest

from harness.capacity.breakeven import GRID, Pair, Setting, concluded, next_of
from harness.capacity.outcome import (
    StepResult,
)
from harness.capacity.wording import (
    break_even_rows,
)
from tests.studied import STEP, point


def test_the_break_even_lies_between_the_points_where_the_lead_changes() -> None:
    points = [point(16.0, 2.0), point(1.0, 0.5), point(4.0, 1.0 / 2**0.5)]
    found = concluded("ticket", points, seed=1)
    (line,) = found.over_commits
    assert (line.wins, line.low_ms, line.high_ms) == ("from", pytest.approx(4), pytest.approx(16))
    assert line.commit_ms == pytest.approx(4.0 * 4 ** (1 / 3))
    assert found.noise is None  # one trial each


def test_the_break_even_is_looked_for_over_the_share_of_readers_at_each_commit_latency() -> None:
    points = [point(1.0, ratio, readers=r) for r, ratio in ((0.0, 0.5), (1.0, 2.0), (4.0, 3.0))]
    points += [point(9.0, 3.0, readers=r, wait_us=10_000) for r in (0.0, 4.0)]
    quick, slow = concluded("ticket", points, seed=1).over_readers
    assert (quick.wins, quick.low_per_vote, quick.high_per_vote) == ("from", 0.0, pytest.approx(1))
    assert quick.results_per_vote == pytest.approx(1 / 3)  # a quarter of all requests
    assert (slow.wins, slow.commit_wait_us) == ("always", 10_000)
    rows = break_even_rows(concluded("ticket", points, seed=1))
    assert [row.wins for row in rows[-2:]] == [
        "from 25 % (0.33 a vote)",
        "at every share of results pages where it was decided",
    ]


def test_a_point_of_which_the_loser_was_not_saturated_decides_nothing() -> None:
    points = [point(1.0, 0.5), point(4.0, 2.0, undecided=True), point(16.0, 0.5)]
    (line,) = concluded("ticket", points, seed=1).over_commits
    assert (line.wins, line.low_ms, line.high_ms) == ("never", pytest.approx(16), None)
    assert concluded("ticket", [point(4.0, 2.0, undecided=True)], seed=1).over_commits == ()

    def took(acknowledged_per_s: float, of: float) -> StepResult:
        return msgspec.structs.replace(STEP, acknowledged_per_s=acknowledged_per_s, rate_per_s=of)

    starved = msgspec.structs.replace(took(200, of=400), sound=False, reasons=("starved",))
    unexplained = msgspec.structs.replace(took(99, of=200), reasons=("1 vote is unexplained",))
    assert not Pair(took(99, of=100), took(200, of=400)).decides
    assert not Pair(took(99, of=200), starved).decides
    assert Pair(unexplained, took(200, of=400)).decides  # its times and rates are sound
    assert Pair(took(99, of=200), took(399, of=400)).decides
    assert Pair(took(0, of=100), took(50, of=400)).advantage == 250  # one vote in five seconds


def test_every_setting_is_tried_once_and_then_the_closest_races_again() -> None:
    def pair(ratio: float) -> Pair:
        return Pair(STEP, msgspec.structs.replace(STEP, acknowledged_per_s=399.0 * ratio))

    pairs: dict[Setting, list[Pair]] = {}
    for number, setting in enumerate(GRID):
        assert next_of(pairs) == setting
        pairs[setting] = [pair(2.0 if number != 5 else 1.1)]
    assert next_of(pairs) == GRID[5]
    pairs[GRID[5]] *= 2
    assert next_of(pairs) == GRID[0]
    assert next_of({setting: [pair(2.0)] * 5 for setting in GRID}) is None
