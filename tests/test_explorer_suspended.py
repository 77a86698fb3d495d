"""What a suspended machine remembers: enough to tell two futures apart, and little more."""

from collections.abc import Generator
from functools import partial

import pytest

from harness.exploration.suspended import Cas, Incomparable, Memory, works


def known(machine: Generator, *sent: object, own: int = 1) -> object:
    """What it remembers after it was sent these."""
    asked = next(machine)
    for each in sent:
        asked = machine.send(each)
    return Memory(own).known_by(machine, asked)


def forgets():
    for _ in range(9):
        told = yield "again"
        if told == "stop":
            yield told


def remembers():
    told = yield "first"
    yield "second"
    yield told


def asks_for_what_it_forgets():
    told = yield 0
    told = yield told
    yield told


def puts_aside():
    yield "sum", (yield "first") + (yield "second")


def keeps_one_list_or_two(one: bool):
    first = []
    second = first if one else []
    yield
    first.append(1)
    yield len(second)


def hands_on():
    told = yield from remembers()
    yield told


def reads_in_a_closure():
    told = yield

    def later() -> object:
        return told

    yield
    yield later()


def looks_by_name():
    told = yield
    yield
    yield locals()


def reads_in_a_handler():
    told = yield
    try:
        told = int((yield))
    except ValueError:
        yield told


def test_this_interpreter_shows_how_far_loops_have_come():
    assert works()


def test_a_variable_that_is_read_again_counts_and_one_that_is_not_does_not():
    assert known(remembers(), "a") != known(remembers(), "b")
    assert known(remembers(), "a", 0) != known(remembers(), "b", 0)
    assert known(hands_on(), "a", 0) != known(hands_on(), "b", 0)
    assert known(forgets(), "a") == known(forgets(), "b")


def test_what_a_machine_asks_for_counts_even_if_it_has_forgotten_it():
    assert known(asks_for_what_it_forgets(), 1) != known(asks_for_what_it_forgets(), 2)
    assert known(asks_for_what_it_forgets(), 1, 3) == known(asks_for_what_it_forgets(), 2, 3)


def test_how_far_a_loop_has_come_counts():
    assert known(forgets(), "a") != known(forgets(), "a", "a")


def test_what_was_put_aside_within_an_expression_counts():
    assert known(puts_aside(), 1) != known(puts_aside(), 2)


def test_one_list_by_two_names_is_not_two_equal_lists():
    assert known(keeps_one_list_or_two(True)) != known(keeps_one_list_or_two(False))


def test_a_variable_that_is_read_in_a_closure_counts():
    assert known(reads_in_a_closure(), 1) != known(reads_in_a_closure(), 2)


def test_a_variable_that_is_read_by_name_or_after_an_exception_counts():
    assert known(looks_by_name(), 1) != known(looks_by_name(), 2)
    assert known(reads_in_a_handler(), 1) != known(reads_in_a_handler(), 2)


def test_equal_numbers_of_different_kinds_are_different():
    assert known(remembers(), 1) != known(remembers(), True)
    assert known(remembers(), 1) != known(remembers(), 1.0)


def test_ones_own_cas_does_not_say_whose_it_is_and_anothers_does():
    assert known(remembers(), Cas(1), own=1) == known(remembers(), Cas(2), own=2)
    assert known(remembers(), Cas(1), own=3) != known(remembers(), Cas(2), own=3)


@pytest.mark.parametrize("thing", [object(), {1, 2}, partial(print)])
def test_what_cannot_be_compared_by_value_is_itself_or_nothing(thing):
    if isinstance(thing, partial):
        assert known(remembers(), thing) == known(remembers(), thing)
        assert known(remembers(), thing) != known(remembers(), partial(print))
    else:
        with pytest.raises(Incomparable):
            known(remembers(), thing)
