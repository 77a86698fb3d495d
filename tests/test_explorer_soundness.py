"""No shortcut of the explorer changes an answer: against none, and against real machines."""

import os
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.exploration import search
from harness.exploration.bounds import ALL, PLAIN, Bounds, Reductions
from harness.exploration.report import describe
from harness.exploration.schedule import steps_of
from harness.protocol import classic, mirrored, owned, ticket
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
    "ticket that never looks again": (
        ticket,
        "        pointer = yield Get(queue.pointer)\n        answered",
        "        pointer = ticket\n        answered",
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
