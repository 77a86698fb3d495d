"""No shortcut of the explorer changes an answer: against none, and against real machines."""

import os
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import PlanError
from harness.exploration import automaton, search
from harness.exploration.bounds import ALL, PLAIN, Bounds, Reductions
from harness.exploration.report import describe
from harness.exploration.schedule import steps_of
from harness.exploration.space import Space
from harness.protocol import classic, mirrored, owned, ticket
from harness.protocol.commands import Delete, Get, Incr, InsertBallots, Patience, Set, Status
from harness.protocol.queue import Drained, DrainEnd, Receipt, VotingProtocol
from tests.mutants import PROTOCOLS, with_passage
from tests.real_machines import follow, random_ending

EXAMPLES = int(os.environ.get("POLLSTORM_EXPLORER_EXAMPLES", "25"))
MOST_PLAIN = 40_000  # states of a plain search here; bounds that need more are passed over
DRAWN = 60  # random schedules for each bounds
COMMIT_INSIDE = "    yield InsertBallots(messages[:1])\n"
LEAVE = "    yield Delete(queue.lock, hold.cas)\n    if not messages"
SLIPS = {
    "classic that keeps the pointer": (
        classic,
        'reset = yield Set(queue.pointer, b"0")',
        "reset = pointer",
    ),
    "classic that never leaves": (
        classic,
        '    yield Set(queue.lock, b"0")\n    return Receipt.QUEUED',
        "    return Receipt.QUEUED",
    ),
    "owned that deletes any lock": (
        owned,
        "    yield Delete(queue.lock, hold.cas)\n    if stored",
        "    yield Delete(queue.lock)\n    if stored",
    ),
    "owned that commits twice": (owned, LEAVE, COMMIT_INSIDE + LEAVE),
    "ticket that deletes tombstones": (
        ticket,
        "            messages.append(slot.value)\n            taken.append(number)\n",
        "            messages.append(slot.value)\n        taken.append(number)\n",
    ),
    "ticket that takes any pointer": (
        ticket,
        "stored, pointer = (yield Pipeline(filling)).parts",
        "(stored,), pointer = (yield Pipeline(filling[:1])).parts, ticket",
    ),
    "ticket without a clock": (ticket, "if in_time and still_there", "if still_there"),
    "ticket without heads": (
        ticket,
        "if last > head else found.moves",
        "if False else found.moves",
    ),
    "ticket that says yes in doubt": (
        ticket,
        "            return Receipt.UNKNOWN\n        if stored.status is not",
        "            return Receipt.QUEUED\n        if stored.status is not",
    ),
    "mirrored with one copy": (
        mirrored,
        "if receipt is not Receipt.QUEUED:",
        "if daemon == 0 and receipt is not Receipt.QUEUED:",
    ),
    "mirrored whose votes are no copies": (
        mirrored,
        "straight_to_database(message, copy=True)",
        "straight_to_database(message)",
    ),
    "mirrored whose drain knows no copies": (
        mirrored,
        "[first, second], copies=True",
        "[first, second]",
    ),
}


@cache
def protocol_of(name: str):
    return PROTOCOLS[name] if name in PROTOCOLS else with_passage(*SLIPS[name]).protocol


NAMES = st.sampled_from([*PROTOCOLS, *SLIPS])
BOUNDS = st.builds(
    Bounds,
    writers=st.integers(1, 3),
    readers=st.integers(0, 2),
    drains=st.integers(1, 2),
    takeovers=st.integers(0, 2),
    cold=st.booleans(),
    crash=st.sampled_from(["", "", "writer", "reader"]),
    wipe=st.booleans(),
    evict_pointer=st.booleans(),
    expire_tombstones=st.booleans(),
    lost_reply=st.booleans(),
)


def found(name: str, bounds: Bounds, reductions: Reductions, most_states: int | None = None):
    space, finding = search.explore(protocol_of(name), bounds, reductions, most_states=most_states)
    return space, finding, describe(name, space, finding)


@settings(max_examples=EXAMPLES, deadline=None)
@given(NAMES, BOUNDS, st.sampled_from([None, *ALL._fields]))
def test_a_reduction_alone_and_all_together_agree_with_the_plain_search(name, bounds, alone):
    _, plain, told = found(name, bounds, PLAIN, MOST_PLAIN)
    if plain.verdict == "unfinished":
        return
    reductions = ALL if alone is None else PLAIN._replace(**{alone: True})
    _, reduced, retold = found(name, bounds, reductions)
    assert (retold.verdict, retold.commands) == (told.verdict, told.commands)
    assert retold.overlap == told.overlap
    assert reduced.states <= plain.states


@pytest.mark.parametrize("alone", ["merge_known", "merge_futures"])
@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("owned", Bounds(readers=2, takeovers=0, cold=True)),
        ("ticket", Bounds(drains=2)),
        ("ticket", Bounds(cold=True)),
        ("ticket", Bounds(writers=1, lost_reply=True, crash="reader")),
        ("mirrored", Bounds(writers=1, wipe=True)),
    ],
)
def test_merged_histories_come_to_just_the_stores_that_the_plain_search_comes_to(
    name, bounds, alone
):
    plain, finding, _ = found(name, bounds, PLAIN)
    merged, _, _ = found(name, bounds, PLAIN._replace(**{alone: True}))
    assert finding.verdict == "safe"
    assert set(merged.stores) == set(plain.stores)


@settings(max_examples=EXAMPLES, deadline=None)
@given(NAMES, BOUNDS, st.integers(0, 10**6))
def test_real_machines_in_a_world_of_their_own_agree(name, bounds, seed):
    space, finding, told = found(name, bounds, ALL, MOST_PLAIN)
    if finding.verdict == "loses" and not finding.overlap:
        ending = follow(protocol_of(name), bounds, steps_of(space, finding))
        assert ending.commands == told.commands
        assert sorted(vote.decode() for vote in ending.lost) == told.lost
        assert sorted(vote.decode() for vote in ending.doubled) == told.doubled
        assert ending.stuck == told.stuck
    if bounds.wipe and bounds.expire_tombstones:
        return  # what was promised before the wipe is known to the explorer alone
    safe = finding.verdict == "safe" or finding.overlap
    chance = random.Random(seed)
    for _ in range(DRAWN):
        ending = random_ending(protocol_of(name), bounds, chance)
        if ending and ending.is_bad:
            assert not safe
            assert finding.verdict == "unfinished" or ending.commands >= told.commands


@pytest.mark.parametrize("name", SLIPS)
def test_every_slip_is_one_that_some_bounds_show(name):
    tried = [
        {},
        {"crash": "writer"},
        {"lost_reply": True},
        {"wipe": True},
        {"expire_tombstones": True},
        {"writers": 2, "takeovers": 0},
        {"wipe": True, "lost_reply": True},
    ]
    bounds = (Bounds(**{"writers": 1, **each}) for each in tried)
    assert any(found(name, each, ALL, MOST_PLAIN)[2].verdict == "loses" for each in bounds)


def events_met(name: str, bounds: Bounds) -> set[str]:
    """All that happens on any way through the space."""
    space = Space(protocol_of(name), bounds)
    met, seen, ahead = set(), {space.start()}, [space.start()]
    while ahead:
        for state, move in space.successors(ahead.pop()):
            met |= {step.event for step in move.steps}
            if state not in seen:
                seen.add(state)
                ahead.append(state)
    return met


@pytest.mark.parametrize(
    "trouble", [{"crash": "writer"}, {"crash": "reader"}, {"lost_reply": True}]
)
def test_a_lock_whose_owner_is_dead_or_does_not_know_of_it_expires_without_a_takeover(trouble):
    assert "lock expires" in events_met("owned", Bounds(writers=1, takeovers=0, **trouble))
    assert "lock expires" not in events_met("owned", Bounds(writers=1, takeovers=0))


def vote_then_wait(queue, message):
    pointer = yield Incr(queue.pointer)
    yield Set(queue.slot(pointer.number), message)
    yield from classic.acquire(queue, take_over=True)
    yield Set(queue.lock, b"0")
    return Receipt.QUEUED


def drain_then_wait(queue):
    pointer = yield Get(queue.pointer)
    messages = []
    for number in range(1, pointer.number + 1):
        slot = yield Get(queue.slot(number))
        if slot.status is Status.OK:
            yield Delete(queue.slot(number))
            messages.append(slot.value)
    yield from classic.acquire(queue, take_over=True)
    yield Set(queue.lock, b"0")
    yield InsertBallots(messages)
    return Drained(DrainEnd.COMMITTED if messages else DrainEnd.EMPTY)


def vote_into_one_slot(queue, message):
    yield Set(queue.slot(1), message)
    return Receipt.QUEUED


@pytest.mark.parametrize("reductions", [PLAIN, ALL])
def test_votes_in_the_hands_of_those_who_wait_for_ever_are_lost(reductions):
    def waiting(_terms):
        return VotingProtocol(vote_then_wait, drain_then_wait)

    _, safe = search.explore(waiting, Bounds(takeovers=0), reductions)
    assert safe.verdict == "safe"
    _, waits = search.explore(waiting, Bounds(takeovers=0, crash="writer"), reductions)
    assert len(waits.judgement.lost) == 1


def drain_that_waits_for_an_empty_slot(queue):
    while (yield Get(queue.slot(1))).status is Status.OK:
        yield Patience(0)
    return Drained(DrainEnd.EMPTY)


def test_a_drain_that_never_ends_leaves_a_queue_that_does_not_empty():
    def endless(_terms):
        return VotingProtocol(vote_into_one_slot, drain_that_waits_for_an_empty_slot)

    space, finding = search.explore(endless, Bounds(writers=1, readers=0))
    assert describe("endless", space, finding).stuck


def vote_that_never_ends(queue, _message):
    while True:
        yield Get(queue.pointer)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"cold": False}, "a machine goes on after 10000 commands with nobody else about"),
        ({"cold": True, "readers": 0}, "writer 1 goes on after 100 commands"),
    ],
)
def test_a_vote_that_never_ends_is_told_so_in_a_line(bounds, said, monkeypatch):
    monkeypatch.setattr(automaton, "MOST_STEPS", 100)  # each costs what all before it did

    def endless(_terms):
        return VotingProtocol(vote_that_never_ends, drain_that_waits_for_an_empty_slot)

    with pytest.raises(PlanError, match=f"^{said}$"):
        search.explore(endless, Bounds(**bounds), PLAIN)
