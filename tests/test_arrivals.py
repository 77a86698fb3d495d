"""When voters come: rate curves, seeds, shards."""

import numpy as np
import pytest

from harness.history.ledger import RequestKind
from harness.load.arrivals import (
    GRID_STEPS,
    NS_PER_S,
    Schedule,
    planned_votes,
    rate_at,
    schedule,
    users_needed,
)
from harness.plan import Arrivals, Plan, PollPlan, Voters
from harness.vote import SEQUENCE_BITS

SPIKE = Arrivals(
    curve="spike",
    trickle_per_s=3.5,
    peak_per_s=400,
    starts_s=3,
    rise_s=1,
    peak_at_s=8,
    decay_s=3,
    results_per_vote=0.5,
)
REPLAY = Arrivals(curve="replay", bin_s=5.0, votes_per_bin=(10.0, 0.0, 400.0))
STEP = Arrivals(curve="step", trickle_per_s=2, peak_per_s=300, starts_s=4, lasts_s=6)


def plan_of(arrivals: Arrivals, *, seed: int = 7, generators: int = 1) -> Plan:
    voters = Voters(generators=generators, timeout_s=2)
    return Plan(scenario="test", duration_s=20, seed=seed, arrivals=arrivals, voters=voters)


def rows(planned: Schedule) -> list[tuple[int, int, int]]:
    """Everything about the arrivals but the ids."""
    columns = (planned.planned_ns, planned.kind, planned.choice)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_the_spike_rises_to_its_peak_and_decays_but_never_below_the_trickle() -> None:
    rates = rate_at(SPIKE, np.array([0, 2.99, 3.0, 7.0, 8.0, 11.0, 20.0, 1000.0]))
    expected = [3.5, 3.5, 3.5, 400 / np.e, 400, 400 / np.e, 400 * np.exp(-4), 3.5]
    np.testing.assert_allclose(rates, expected)


def test_the_step_lasts_as_long_as_planned() -> None:
    rates = rate_at(STEP, np.array([3.999, 4.0, 9.999, 10.0]))
    assert rates.tolist() == [2, 300, 300, 2]


def test_a_replay_has_the_rate_of_each_bin_and_nothing_after_the_last() -> None:
    rates = rate_at(REPLAY, np.array([0.0, 4.999, 5.0, 10.0, 14.999, 15.0, 20.0]))
    assert rates.tolist() == [2, 2, 0, 80, 80, 0, 0]


def test_a_stretched_replay_keeps_its_rates() -> None:
    stretched = plan_of(REPLAY).stretched(40.0).arrivals
    rates = rate_at(stretched, np.array([0.0, 9.99, 10.0, 20.0, 29.99, 30.0]))
    assert rates.tolist() == [2, 2, 0, 80, 80, 0]


@pytest.mark.parametrize("arrivals", [Arrivals(trickle_per_s=50), SPIKE, STEP, REPLAY])
def test_as_many_arrive_as_the_integral_of_the_rate_says(arrivals: Arrivals) -> None:
    grid_s = np.linspace(0, 20, 200_001)
    expected = np.trapezoid(rate_at(arrivals, grid_s), grid_s)
    votes = [schedule(plan_of(arrivals, seed=seed), 1, 1).votes for seed in range(20)]
    # The mean of 20 Poisson numbers: within four standard deviations.
    assert np.mean(votes) == pytest.approx(expected, abs=4 * np.sqrt(expected / 20))
    assert np.var(votes, ddof=1) == pytest.approx(expected, rel=0.9)


@pytest.mark.parametrize("arrivals", [SPIKE, STEP])
def test_arrivals_come_when_the_curve_says(arrivals: Arrivals) -> None:
    planned_s = np.concatenate(
        [
            planned.planned_ns[planned.kind == RequestKind.VOTE] / NS_PER_S
            for planned in (schedule(plan_of(arrivals, seed=seed), 1, 1) for seed in range(20))
        ]
    )
    found, edges_s = np.histogram(planned_s, bins=20, range=(0, 20))
    grid_s = np.linspace(0, 20, 200_001)
    integral = np.cumsum(rate_at(arrivals, grid_s)) * (grid_s[1] - grid_s[0])
    expected = np.diff(np.interp(edges_s, grid_s, integral)) * 20
    assert np.all(np.abs(found - expected) < 4.5 * np.sqrt(expected))


def test_gaps_of_a_steady_trickle_are_exponential() -> None:
    gaps_s = np.diff(schedule(plan_of(Arrivals(trickle_per_s=200)), 1, 1).planned_ns) / NS_PER_S
    assert np.std(gaps_s) / np.mean(gaps_s) == pytest.approx(1, abs=0.06)
    assert np.mean(gaps_s > 0.005) == pytest.approx(np.exp(-1), abs=0.03)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    one, again, other = (schedule(plan_of(SPIKE, seed=seed), 1, 2) for seed in (7, 7, 8))
    for column in ("planned_ns", "kind", "vote", "choice"):
        assert getattr(one, column).tobytes() == getattr(again, column).tobytes()
    assert one.planned_ns.tobytes() != other.planned_ns.tobytes()


@pytest.mark.parametrize("generators", [2, 3, 7])
def test_the_number_of_generators_changes_nothing_but_the_ids(generators: int) -> None:
    shards = [schedule(plan_of(SPIKE), number, generators) for number in range(1, generators + 1)]
    together = sorted(row for shard in shards for row in rows(shard))
    assert together == sorted(rows(schedule(plan_of(SPIKE), 1, 1)))


def test_a_generator_numbers_its_votes_from_zero_without_gaps() -> None:
    planned = schedule(plan_of(SPIKE), 2, 3)
    votes = planned.vote[planned.kind == RequestKind.VOTE]
    assert votes.tolist() == [2 << SEQUENCE_BITS | n for n in range(len(votes))]
    assert np.all(np.diff(planned.planned_ns) >= 0)


@pytest.mark.parametrize(("generator", "generators"), [(0, 1), (2, 1), (-1, 3), (4, 3)])
def test_a_generator_that_is_not_among_them_gets_no_shard(generator: int, generators: int) -> None:
    with pytest.raises(ValueError, match=f"generator {generator} is none of 1 to {generators}"):
        schedule(plan_of(SPIKE), generator, generators)


def test_planned_votes_are_those_of_the_schedules() -> None:
    plan = plan_of(SPIKE, generators=3)
    assert planned_votes(plan) == {n: schedule(plan, n, 3).votes for n in range(1, 4)}


def test_results_pages_are_asked_for_in_proportion_and_have_no_choice() -> None:
    planned = schedule(plan_of(SPIKE), 1, 1)
    readers = planned.kind == RequestKind.RESULTS
    assert np.count_nonzero(readers) == pytest.approx(0.5 * planned.votes, rel=0.15)
    assert not planned.choice[readers].any()


def test_each_choice_is_less_popular_than_the_one_before() -> None:
    arrivals = Arrivals(trickle_per_s=500)
    plan = Plan(
        scenario="test", arrivals=arrivals, poll=PollPlan(choices=("a", "b", "c", "d")), seed=3
    )
    counts = np.bincount(schedule(plan, 1, 1).choice)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:] / counts.sum(), np.array([12, 6, 4, 3]) / 25, atol=0.02)


def test_a_rate_of_zero_plans_nothing() -> None:
    planned = schedule(plan_of(Arrivals(trickle_per_s=0)), 1, 1)
    assert len(planned) == 0
    assert users_needed(planned, Voters()) > 0


def test_users_suffice_when_every_answer_takes_the_whole_time_out() -> None:
    planned = schedule(plan_of(SPIKE), 1, 1)
    due_s = planned.planned_ns / NS_PER_S
    under_way = max(int(np.sum((due_s <= t) & (due_s > t - 2))) for t in due_s)
    assert users_needed(planned, Voters(timeout_s=2)) >= under_way
    assert users_needed(planned, Voters(timeout_s=2)) < 1.2 * under_way + 10


def test_the_grid_is_finer_than_a_millisecond_for_loads_of_minutes() -> None:
    assert 240 / GRID_STEPS < 0.001
