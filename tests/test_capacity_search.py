"""The search for a capacity, played against machines whose capacity is known."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.capacity.search import (
    MOST_STEPS,
    BudgetSpent,
    Found,
    Step,
    Try,
    Verdict,
    search,
)

PASSED = Step(Verdict.PASSED)
FAILED = Step(Verdict.FAILED, "p99<250ms")
INVALID = Step(Verdict.INVALID)


def play(
    answer: Callable[[Try], Step],
    *,
    start: float = 100.0,
    usable: float = 10_000.0,
    precision: float = 0.1,
    budget: int = MOST_STEPS,
) -> tuple[Found, list[Try]]:
    """Play the search to its end; `budget` is how many trials there is time for."""
    searching, tries = search(start, usable, precision), []
    try:
        wanted = next(searching)
        while True:
            if len(tries) >= budget and not wanted.confirming:
                wanted = searching.throw(BudgetSpent())
                assert wanted.confirming
            assert len(tries) <= budget
            tries.append(wanted)
            wanted = searching.send(answer(wanted))
    except StopIteration as ended:
        return ended.value, tries


def machine(capacity: float) -> Callable[[Try], Step]:
    return lambda wanted: PASSED if wanted.rate_per_s <= capacity else FAILED


@given(st.floats(2.0, 9_000.0), st.floats(1.0, 10_000.0))
def test_a_capacity_is_enclosed_to_the_precision_wherever_the_search_starts(
    capacity: float, start: float
) -> None:
    found, _ = play(machine(capacity), start=start)
    assert found.lower_per_s is not None
    assert found.upper_per_s is not None
    assert found.lower_per_s <= capacity < found.upper_per_s
    assert found.upper_per_s / found.lower_per_s <= 1.1
    assert (found.limited_by, found.confirmed) == ("p99<250ms", True)


def test_no_rate_beyond_the_usable_one_is_tried_and_the_generator_is_named_as_the_limit() -> None:
    found, tries = play(machine(1e9), usable=700.0)
    assert max(each.rate_per_s for each in tries) == 700.0
    assert found == Found(700.0, None, "generator", True)


def test_a_mode_that_cannot_take_a_single_vote_a_second_has_no_lower_bound() -> None:
    found, _ = play(machine(0.0))
    assert found == Found(None, 1.0, "p99<250ms", False)


def test_the_last_trial_is_a_confirming_one_at_the_lower_bound() -> None:
    found, tries = play(machine(333.0))
    assert tries[-1] == Try(found.lower_per_s or 0.0, confirming=True)
    assert [each.confirming for each in tries[:-1]] == [False] * (len(tries) - 1)


def test_what_a_longer_trial_refutes_is_the_new_upper_bound() -> None:
    found, _ = play(lambda t: machine(250.0 if t.confirming else 400.0)(t))
    assert found.upper_per_s is not None
    assert found.upper_per_s <= 400.0
    assert found.lower_per_s is not None
    assert found.lower_per_s <= 250.0
    assert found.confirmed


def test_a_refuted_first_rate_is_halved_again_though_none_below_it_had_passed() -> None:
    found, tries = play(
        lambda t: machine(300.0 if t.confirming else 500.0)(t), start=400.0, usable=400.0
    )
    assert tries[1:3] == [Try(400.0, confirming=True), Try(200.0)]
    assert found.lower_per_s is not None
    assert 250.0 < found.lower_per_s <= 300.0
    assert found.confirmed
    found, tries = play(lambda t: machine(0.0 if t.confirming else 4.0)(t), start=4.0, usable=4.0)
    assert (found.lower_per_s, found.upper_per_s) == (None, 1.0)
    assert len(tries) < MOST_STEPS


def test_one_unlucky_trial_does_not_decide_a_rate_while_the_gap_is_narrowed() -> None:
    seen: dict[float, int] = {}

    def noisy(wanted: Try) -> Step:
        seen[wanted.rate_per_s] = seen.get(wanted.rate_per_s, 0) + 1
        lucky = machine(1000.0)(wanted)
        first = seen[wanted.rate_per_s] == 1 and 500 < wanted.rate_per_s < 1000
        return FAILED if first else lucky

    found, _ = play(noisy, start=500.0)
    assert found.lower_per_s is not None
    assert 900 < found.lower_per_s <= 1000


def test_invalid_measurements_are_repeated_and_never_held_against_the_mode() -> None:
    answers = iter([INVALID, PASSED])
    found, tries = play(lambda t: next(answers, machine(150.0)(t)), usable=200.0)
    assert [each.rate_per_s for each in tries[:2]] == [100.0, 100.0]
    assert found.limited_by == "p99<250ms"
    found, _ = play(lambda t: INVALID if t.rate_per_s > 150 else PASSED)
    assert (found.upper_per_s, found.limited_by) == (None, "generator")


def test_a_rate_that_cannot_be_measured_does_not_hide_that_a_higher_one_failed() -> None:
    def answer(wanted: Try) -> Step:
        starved = 500 < wanted.rate_per_s < 700
        return INVALID if starved else machine(750.0)(wanted)

    found, tries = play(answer, start=400.0)
    assert [each.rate_per_s for each in tries[1:4]] == [800.0, *[pytest.approx(565.7, abs=0.1)] * 2]
    assert found.lower_per_s is not None
    assert 450 < found.lower_per_s <= 500  # the gap was halved below the unusable rate
    assert (found.upper_per_s, found.limited_by, found.confirmed) == (800.0, "p99<250ms", True)


@pytest.mark.parametrize("budget", range(1, 12))
def test_whatever_the_budget_the_bounds_are_what_was_seen(budget: int) -> None:
    found, tries = play(machine(777.0), budget=budget)
    passed = [each.rate_per_s for each in tries if each.rate_per_s <= 777.0]
    failed = [each.rate_per_s for each in tries if each.rate_per_s > 777.0]
    assert found.lower_per_s in (*passed, None)
    assert found.upper_per_s in (*failed, None)
    assert failed or found.limited_by == "budget"
    assert found.confirmed == (found.lower_per_s is not None)
    assert tries[-1].confirming == found.confirmed


def test_a_machine_that_answers_at_random_is_not_searched_for_ever() -> None:
    turn = iter(range(10**6))
    _, tries = play(lambda _: (PASSED, FAILED, INVALID)[next(turn) % 3], precision=1e-9)
    assert len(tries) <= MOST_STEPS
