"""A queue whose keys lie on two real daemons, with and without rehashing."""

from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from harness.cache.ring import Ring
from harness.cli.simulate import simulate
from harness.deployment import Deployment
from harness.errors import Exit, PlanError
from harness.history.journal import JOURNAL_DTYPE, Journal, Role
from harness.modes.mode import Answer, find_mode, known_modes, voided_by
from harness.plan import MemcachedPlan, Plan
from harness.protocol.commands import KeyKind, Status
from harness.protocol.queue import Queue
from tests.deployed import PLAN, counted, flush, session, vote

pytestmark = pytest.mark.services

SPREAD = ("classic", "owned", "ticket")
QUEUE = Queue.named(PLAN.queue.prefix)
HOME = Ring(2, None).home_of(QUEUE.pointer.name)
NOWHERE = "127.0.0.1:1"


def spread(deployment: Deployment, **memcached: object) -> Deployment:
    section = msgspec.structs.replace(MemcachedPlan(daemons=2), **memcached)
    plan = msgspec.structs.replace(deployment.plan, memcached=section)
    return msgspec.structs.replace(deployment, plan=plan)


def without(deployment: Deployment, daemon: int) -> Deployment:
    addresses = list(deployment.memcached)
    addresses[daemon] = NOWHERE
    return msgspec.structs.replace(deployment, memcached=tuple(addresses))


def journalled(folder: Path) -> np.ndarray:
    records = [np.fromfile(each, JOURNAL_DTYPE) for each in folder.glob("journal-*.bin")]
    found = np.concatenate(records)
    return found[(found["begin_ns"] > 0) & (found["key"] != KeyKind.NONE)]


@pytest.mark.parametrize("mode", SPREAD)
def test_votes_lie_on_both_daemons_and_each_is_counted_once(
    two_daemons: Deployment, mode: str, tmp_path: Path
):
    deployment = spread(two_daemons)
    journal = Journal(tmp_path, Role.SITE)
    with closing(find_mode(mode).session(deployment, journal)) as site:
        assert [site.accept(vote(number)) for number in range(40)] == [Answer.QUEUED] * 40
    slots = journalled(tmp_path)
    slots = slots[slots["key"] == KeyKind.SLOT]
    assert set(slots["daemon"]) == {0, 1}
    homes = [Ring(2, None).home_of(QUEUE.slot(int(slot)).name) for slot in slots["slot"]]
    assert list(slots["daemon"]) == homes
    assert flush(deployment, mode) == Exit.OK
    assert counted(deployment) == {vote(number).vote_id: 1 for number in range(40)}


def test_with_no_rehash_votes_without_a_slot_go_to_the_database(two_daemons: Deployment):
    """The pointer's daemon is alive and the other is not: half of the slots are out of reach."""
    deployment = without(spread(two_daemons), 1 - HOME)
    with session(deployment, "ticket") as site:
        answers = [site.accept(vote(number)) for number in range(20)]
    assert set(answers) == {Answer.QUEUED, Answer.STORED}
    assert len(counted(deployment)) == answers.count(Answer.STORED)
    assert flush(spread(two_daemons), "ticket") == Exit.OK
    assert counted(deployment) == {vote(number).vote_id: 1 for number in range(20)}


@pytest.mark.parametrize("mode", SPREAD)
def test_with_rehashing_the_queue_moves_to_the_daemon_that_is_left(
    two_daemons: Deployment, mode: str, tmp_path: Path
):
    deployment = without(spread(two_daemons, rehash=True), HOME)
    journal = Journal(tmp_path, Role.SITE)
    with closing(find_mode(mode).session(deployment, journal)) as site:
        assert [site.accept(vote(number)) for number in range(10)] == [Answer.QUEUED] * 10
    commands = journalled(tmp_path)
    commands = commands[commands["command"] != 6]  # patience asks nobody
    tried = commands["daemon"] == HOME
    assert tried.sum() == 1, "it is dead from the first try on"
    assert set(commands["status"][tried]) == {Status.UNREACHABLE}
    assert flush(deployment, mode) == Exit.OK
    assert counted(deployment) == {vote(number).vote_id: 1 for number in range(10)}


def test_what_was_queued_elsewhere_is_not_found_when_the_daemon_is_back(two_daemons: Deployment):
    """Why nobody promises anything with rehashing: `moved`."""
    deployment = spread(two_daemons, rehash=True)
    with session(without(deployment, 1 - HOME), "classic") as site:
        answers = [site.accept(vote(number)) for number in range(20)]
    assert answers == [Answer.QUEUED] * 20
    assert flush(deployment, "classic") == Exit.OK
    assert 0 < len(counted(deployment)) < 20


def test_only_ticket_loses_its_promise_to_keys_that_move():
    moving = MemcachedPlan(daemons=2, rehash=True)
    for memcached, void in ((moving, ["ticket"]), (MemcachedPlan(daemons=2), [])):
        plan = Plan(scenario="test", memcached=memcached)
        assert [name for name in known_modes() if voided_by(find_mode(name), plan)] == void


def test_a_plan_with_more_daemons_than_are_given_says_so(two_daemons: Deployment):
    plan = Plan(scenario="test", memcached=MemcachedPlan(daemons=3))
    deployment = msgspec.structs.replace(two_daemons, plan=plan)
    with pytest.raises(PlanError, match="needs 3 memcached daemons, and 2 are given"):
        find_mode("classic").session(deployment, None)
    find_mode("mirrored").session(deployment, None).close()


def test_a_spread_queue_is_not_simulated_and_says_so(tmp_path: Path):
    refused = CliRunner().invoke(
        simulate,
        [
            "controversial-poll",
            "--modes",
            "ticket",
            "--set",
            "memcached.daemons=3",
            "--out",
            str(tmp_path / "run"),
        ],
    )
    assert isinstance(refused.exception, PlanError)
    assert "not simulated" in str(refused.exception)
    assert not (tmp_path / "run").exists()
