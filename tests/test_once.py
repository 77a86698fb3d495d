"""One voter, one vote: the guard at the door, reply by reply, and whatever memcached says."""

from functools import partial
from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from harness.modes.mode import find_mode
from harness.modes.queues import queues
from harness.plan import Plan, QueuePlan
from harness.protocol.commands import (
    Add,
    Command,
    Delete,
    Get,
    InsertBallot,
    InsertBallots,
    IssueEpoch,
    Machine,
    Pipeline,
    ReadHeads,
    Reply,
    Status,
)
from harness.protocol.once import LIFE_S, guarded
from harness.protocol.queue import (
    Drained,
    Queue,
    Receipt,
    Terms,
    VotingProtocol,
    straight_to_database,
)
from harness.simulation.database import SimulatedDatabase
from harness.vote import Vote, VoteId, mint
from tests.scripted import EXISTS, LOST, MISSING, OK, REFUSED, UNREACHABLE, play, value

QUEUE = Queue.named("poll-queue")
ONLY = Vote(VoteId(0xA1), "town-hall", 1, "v1", once=True).to_message()
ID, OTHER = b"00000000000000a1", b"00000000000000b2"
KEY = QUEUE.voter("town-hall", "v1")
MADE = Reply(Status.OK, cas=77)
ALREADY = Reply(Status.ALREADY_VOTED)
MODES = ["direct", "cached", "classic", "owned", "ticket", "mirrored"]


def held(vote_id: bytes) -> Reply:
    return Reply(Status.OK, value=vote_id, cas=88)


direct = guarded(VotingProtocol(lambda _, message: straight_to_database(message)))
cast = partial(direct.vote, QUEUE, ONLY)
INSERT = InsertBallot(ONLY)
CLAIM = Add(KEY, ID, LIFE_S)


def queued(ends: Receipt) -> Machine[Receipt]:
    """A protocol that asks for nothing."""
    yield from ()
    return ends


def test_the_first_vote_of_a_voter_makes_her_key_and_goes_on():
    assert play(cast(), [MADE, OK]) == ([CLAIM, INSERT], Receipt.STORED)


def test_a_second_vote_goes_nowhere():
    assert play(cast(), [EXISTS, value(OTHER)]) == ([CLAIM, Get(KEY)], Receipt.ALREADY_VOTED)


def test_a_voter_who_tries_again_with_the_same_vote_goes_on():
    assert play(cast(), [EXISTS, held(ID), OK]) == ([CLAIM, Get(KEY), INSERT], Receipt.STORED)


@pytest.mark.parametrize("read", [MISSING, LOST, UNREACHABLE, REFUSED])
def test_if_the_key_cannot_be_read_the_database_decides(read: Reply):
    asked, receipt = play(cast(), [EXISTS, read, OK])
    assert asked == [CLAIM, Get(KEY), INSERT]
    assert receipt is Receipt.STORED


@pytest.mark.parametrize("unmade", [LOST, UNREACHABLE, REFUSED])
def test_if_the_key_cannot_be_made_the_database_decides(unmade: Reply):
    assert play(cast(), [unmade, OK]) == ([CLAIM, INSERT], Receipt.STORED)


def test_a_vote_that_is_written_nowhere_gives_back_the_very_key_that_it_made():
    asked, receipt = play(cast(), [MADE, REFUSED, OK])
    assert asked == [CLAIM, INSERT, Delete(KEY, 77)]
    assert receipt is Receipt.REFUSED


@pytest.mark.parametrize("receipt", [Receipt.OUT_OF_PATIENCE, Receipt.NO_MEMCACHED])
def test_whoever_is_not_queued_gives_the_key_back(receipt: Receipt):
    nowhere = guarded(VotingProtocol(lambda *_: queued(receipt)))
    assert play(nowhere.vote(QUEUE, ONLY), [MADE, OK]) == ([CLAIM, Delete(KEY, 77)], receipt)


@pytest.mark.parametrize("receipt", [Receipt.QUEUED, Receipt.UNKNOWN, Receipt.CONFLICT])
def test_a_vote_that_is_or_may_be_somewhere_keeps_the_key(receipt: Receipt):
    somewhere = guarded(VotingProtocol(lambda *_: queued(receipt)))
    assert play(somewhere.vote(QUEUE, ONLY), [MADE]) == ([CLAIM], receipt)


def test_a_retry_does_not_give_back_the_key_of_the_attempt_before():
    asked, receipt = play(cast(), [EXISTS, held(ID), REFUSED])
    assert asked == [CLAIM, Get(KEY), INSERT]
    assert receipt is Receipt.REFUSED


def test_a_key_of_which_nobody_knows_whether_it_was_made_is_looked_for():
    asked, _ = play(cast(), [LOST, REFUSED, held(ID), OK])
    assert asked[2:] == [Get(KEY), Delete(KEY, 88)]
    asked, _ = play(cast(), [LOST, REFUSED, held(OTHER)])
    assert asked[2:] == [Get(KEY)]


def test_of_a_voter_who_is_counted_with_another_vote_no_key_says_that_it_was_this_one():
    assert play(cast(), [MADE, ALREADY, OK])[0][2:] == [Delete(KEY, 77)]
    asked, receipt = play(cast(), [EXISTS, held(ID), ALREADY, held(ID), OK])
    assert asked[3:] == [Get(KEY), Delete(KEY, 88)]
    assert receipt is Receipt.ALREADY_VOTED


def test_a_vote_of_any_number_asks_for_nothing_more():
    unlimited = Vote(VoteId(0xA1), "town-hall", 1, "once").to_message()
    asked, _ = play(direct.vote(QUEUE, unlimited), [OK])
    assert asked == [InsertBallot(unlimited)]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_that_works_with_memcached_asks_it_first(mode: str):
    first = next(find_mode(mode).protocol(Terms()).vote(QUEUE, ONLY))
    assert first == (INSERT if mode == "direct" else CLAIM)


def test_a_voters_key_is_one_in_all_queues_and_on_one_daemon_of_two():
    plan = Plan(scenario="test", queue=QueuePlan(queues=3))
    assert {queue.voter("town-hall", "v1") for queue in queues(plan)} == {KEY}
    assert QUEUE.on(1).on(0).voter("town-hall", "v1") == KEY
    first = next(find_mode("mirrored").protocol(Terms()).vote(queues(plan)[2], ONLY))
    assert first == CLAIM


def test_no_two_voters_share_a_key_and_the_longest_fits_into_memcached():
    assert QUEUE.voter("a", "b-c") != QUEUE.voter("a-b", "c")
    longest = Queue.named("p" * 104, site="p" * 100).voter("a" * 64, "v" * 64)
    assert len(longest.name) <= 250


VOTES = [
    Vote(mint(1, n), "town-hall", choice, f"v{n % 2}", once=True).to_message()
    for n in range(6)
    for choice in (1, 2)
]
SAID = [Status.OK] * 6 + list(Status)
VALUES = [*VOTES, *(message[:16] for message in VOTES), b"", b"closed"]
OF_DATABASE = InsertBallot | InsertBallots | ReadHeads | IssueEpoch
MOST_COMMANDS = 40  # of one machine: then its process dies
AT_ONCE = 4


class Process:
    """A machine on its way."""

    def __init__(self, machine: Machine[Receipt | Drained], vote: int) -> None:
        self.machine, self.vote = machine, vote
        self.command: Command | None = next(machine)
        self.asked = 0
        self.result: Receipt | Drained | None = None

    def hear(self, reply: Reply) -> None:
        self.asked += 1
        try:
            self.command = self.machine.send(reply)
        except StopIteration as ended:
            self.command, self.result = None, ended.value


def answer(command: Command, database: SimulatedDatabase, random: Random) -> Reply:
    """The database's reply, or anything that memcached, a sleep or a clock may say."""
    if isinstance(command, OF_DATABASE):
        return database.execute(command, 10**9)
    if isinstance(command, Pipeline):
        parts = tuple(answer(each, database, random) for each in command.commands)
        return Reply(Status.OK, parts=parts)
    return Reply(
        random.choice(SAID), random.randrange(4), random.choice(VALUES), random.randrange(4)
    )


@pytest.mark.parametrize("mode", MODES)
@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_memcached_says_and_whoever_dies_a_voter_has_one_ballot(mode: str, seed: int):
    random = Random(seed)
    protocol = find_mode(mode).protocol(Terms(writers=2))
    database = SimulatedDatabase()
    stored: set[int] = set()
    running: list[Process] = []
    for _ in range(300):
        if len(running) < AT_ONCE:
            message = random.choice(VOTES)
            drain = protocol.drain if random.random() < 0.3 else None
            machine: Machine[Any] = drain(QUEUE) if drain else protocol.vote(QUEUE, message)
            running.append(Process(machine, int(message[:16], 16)))
        process = random.choice(running)
        assert process.command is not None
        process.hear(answer(process.command, database, random))
        if process.result is Receipt.STORED:
            stored.add(process.vote)
        if process.command is None or process.asked == MOST_COMMANDS:
            running.remove(process)
    ballots, rejections = database.ballots(), database.rejections()
    assert ballots["voter"].is_unique
    assert stored <= set(ballots["vote"])
    assert not set(ballots["vote"]) & set(rejections["vote"])
    assert set(rejections["voter"]) <= set(ballots["voter"])
