"""The gate on two real sites: equal versions are equal, and their counts are known."""

from pathlib import Path

import pytest

from harness.gate.check import MARGINS, Order, check
from harness.gate.duet import SIDES, Tempo
from harness.gate.versions import checked_out, working_copy
from harness.services.processes import Supervisor
from tests.checkouts import needs_checkout

pytestmark = [pytest.mark.services, needs_checkout]

ONCE = Tempo(warm_up_s=0.5, slice_s=0.5)
PAIRS = 4  # in one start, which decides nothing: on a busy machine more might not, either


def test_a_version_and_its_own_commit_cost_the_same_and_keep_their_votes(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    versions = (checked_out("HEAD", supervisor), working_copy())
    order = Order(["ticket"], PAIRS, 100.0, MARGINS, 1, 1, ONCE)
    said: list[str] = []
    *_, whole = check(versions, order, supervisor, tmp_path, said.append)
    found = whole["ticket"]
    counted = {name: count.candidate for name, count in found.counts.items()}
    assert counted == {
        "memcached_commands": 3,  # a ticket, its slot, and whether the pointer is still there
        "memcached_round_trips": 2,  # the last two go together
        "sql_statements": 0,
        "sql_round_trips": 0,
    }
    assert not any(count.worse for count in found.counts.values())
    for side in SIDES:
        votes = found.votes[side]
        assert votes.acknowledged > 2 * PAIRS * 50
        assert (votes.lost, votes.doubled) == (0, 0)
    assert found.votes["baseline"].acknowledged == found.votes["candidate"].acknowledged
    assert (found.verdict, found.extended, found.timed) == ("inconclusive", True, {})
    assert "Only 2 starts could be measured, and 6 are needed." in found.reasons
