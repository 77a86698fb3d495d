"""The simulated ballots, heads and epochs answer as MariaDB: random commands, and no reply differs.

`POLLSTORM_CONFORMANCE_COMMANDS` says how many, as for memcached; here a tenth of it will do.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from harness.database import schema
from harness.database.ballots import Ballots, read_ballots
from harness.database.executor import DatabaseExecutor
from harness.database.voters import read_rejections
from harness.protocol.commands import (
    DatabaseCommand,
    InsertBallot,
    InsertBallots,
    IssueEpoch,
    Move,
    ReadHeads,
    Reply,
    Status,
)
from harness.protocol.ticket import epoch_of
from harness.services.mariadb import MariadbServer
from harness.simulation.database import SimulatedDatabase
from harness.vote import Poll, Vote, mint

pytestmark = pytest.mark.services

COMMANDS = int(os.environ.get("POLLSTORM_CONFORMANCE_COMMANDS", "3000")) // 10
STEPS = 50
EXAMPLES = 5  # in a round; the first one is as simple as can be
ROWS_PER_STATEMENT = 2  # so that a batch needs several
TIMEOUT_S = 5.0
START_S = 2_000_000_000
SECOND_NS = 10**9
POLL = Poll("town-hall", "Paint it orange?", ("Yes", "No"))

QUEUES = st.sampled_from(["poll", "poll@1"])
MESSAGES = st.sampled_from(
    [
        Vote(mint(1, number), poll, choice, f"v{number}").to_message()
        for number in range(4)
        for choice in (1, 2)
        for poll in (POLL.name, "other")
    ]
    + [
        Vote(mint(2, number), poll, choice, voter, once=True).to_message()
        for number in range(6)
        for choice in (1, 2)
        for poll, voter in (("once", "v1"), ("once", f"v{number % 3}"), (POLL.name, "v1"))
    ]
    + [b"closed", b"", b"\xff"]
)


class RealDatabase:
    """MariaDB behind the simulated one's methods; its clock is told the time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ballots = Ballots(url, TIMEOUT_S, None)
        self._executor = DatabaseExecutor(self._ballots, ROWS_PER_STATEMENT)
        self.now_ns = 0

    def execute(self, command: DatabaseCommand, now_ns: int) -> Reply:
        if now_ns != self.now_ns:
            self._tell(f"SET timestamp = {now_ns / SECOND_NS}")
            self.now_ns = now_ns
        return self._executor.execute(command)

    def ballots(self) -> pd.DataFrame:
        return read_ballots(self._url, TIMEOUT_S).sort_values("vote", ignore_index=True)

    def rejections(self) -> pd.DataFrame:
        return read_rejections(self._url, TIMEOUT_S).sort_values("vote", ignore_index=True)

    def clear(self) -> None:
        for table in schema.TABLES:
            self._tell(f"DELETE FROM {table}")

    def close(self) -> None:
        self._executor.close()

    def _tell(self, statement: str) -> None:
        with self._ballots.link.connected().cursor() as cursor:
            cursor.execute(statement)


@pytest.fixture
def real(mariadb: MariadbServer) -> Iterator[RealDatabase]:
    schema.create(mariadb.url, POLL)
    with closing(RealDatabase(mariadb.url)) as database:
        yield database
    schema.drop(mariadb.url)


class Comparison(RuleBasedStateMachine):
    """Both are told the same at the same time; whatever they answer is the same."""

    simulate: Callable[[], SimulatedDatabase]
    real: RealDatabase
    issued = 0

    @initialize()
    def begin(self) -> None:
        self.simulated = type(self).simulate()
        self.real.clear()
        self.now_ns = START_S * SECOND_NS
        self.heads: dict[str, list[int]] = {"poll": [0], "poll@1": [0]}

    def both(self, command: DatabaseCommand) -> Reply:
        type(self).issued += 1
        simulated = self.simulated.execute(command, self.now_ns)
        real = self.real.execute(command, self.now_ns)
        assert simulated == real, f"{simulated} is simulated, {real} is real"
        return real

    @rule(message=MESSAGES, copy=st.booleans())
    def insert_one(self, message: bytes, copy: bool) -> None:
        self.both(InsertBallot(message, copy))

    @rule(queue=QUEUES)
    def issue(self, queue: str) -> None:
        self.both(IssueEpoch(queue))

    @rule(queue=QUEUES, which=st.integers(0, 3))
    def read(self, queue: str, which: int) -> None:
        """As if the pointer were of one of the epochs, or lost."""
        heads = self.heads[queue]
        current = epoch_of(heads[which % len(heads)]) if which else 0
        reply = self.both(ReadHeads(queue, current))
        self.heads[queue] = [part.number for part in reply.parts] or [0]

    @rule(queue=QUEUES, epoch=st.integers(1, 9))
    def read_what_another_database_issued(self, queue: str, epoch: int) -> None:
        self.both(ReadHeads(queue, epoch))

    @rule(
        messages=st.lists(MESSAGES, max_size=5),
        moved=st.lists(st.tuples(QUEUES, st.integers(0, 3), st.integers(0, 3)), max_size=3),
        copies=st.booleans(),
    )
    def drain(self, messages: list[bytes], moved: list[tuple[str, int, int]], copies: bool) -> None:
        """Heads as last read, some of which have moved since, by so many tickets each."""
        moves = []
        for queue, which, tickets in moved:
            old = self.heads[queue][which % len(self.heads[queue])]
            moves.append(Move(queue, old, old + tickets))
        reply = self.both(InsertBallots(messages, tuple(moves), copies))
        assert reply.status is not Status.LOST

    @rule(wait_s=st.sampled_from([1, 60, 119, 120, 121]))
    def time_passes(self, wait_s: int) -> None:
        self.now_ns += wait_s * SECOND_NS

    def teardown(self) -> None:
        pd.testing.assert_frame_equal(self.simulated.ballots(), self.real.ballots())
        pd.testing.assert_frame_equal(self.simulated.rejections(), self.real.rejections())


def compare(simulate: Callable[[], SimulatedDatabase], real: RealDatabase, commands: int) -> None:
    """Issue at least so many commands to both; raises AssertionError. Seeds are 0, 1, 2 and so on.

    What fails is not made shorter: each example is fifty commands at most.
    """
    issued = 0
    for number in range(commands):  # each round issues one command at least
        if issued >= commands:
            break
        members = {"simulate": staticmethod(simulate), "real": real, "issued": 0}
        comparison = seed(number)(type("DatabaseComparison", (Comparison,), members))
        run_state_machine_as_test(
            comparison,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                deadline=None,
                database=None,
            ),
        )
        issued += comparison.issued
    assert issued >= commands


def test_no_reply_differs_and_no_ballot(real: RealDatabase):
    compare(SimulatedDatabase, real, COMMANDS)


class CopiesAreDelivered(SimulatedDatabase):
    def _count(self, vote: Vote, *, copy: bool) -> None:  # noqa: ARG002
        super()._count(vote, copy=False)


class AnotherChoiceIsCounted(SimulatedDatabase):
    def _insert_ballot(self, command: InsertBallot, now_ns: int) -> Reply:
        reply = super()._insert_ballot(command, now_ns)
        return Reply(Status.OK) if reply.status is Status.EXISTS else reply


class OvertakenDrainsCount(SimulatedDatabase):
    def _insert_ballots(self, command: InsertBallots, now_ns: int) -> Reply:
        reply = super()._insert_ballots(command, now_ns)
        if reply.status is Status.EXISTS:
            super()._insert_ballots(command._replace(moves=()), now_ns)
        return reply


class AVoterIsCountedTwice(SimulatedDatabase):
    def _is_free(self, vote: Vote) -> bool:
        return super()._is_free(vote) or vote.choice == 2


class AConflictClaimsTheVoter(SimulatedDatabase):
    def _insert_ballot(self, command: InsertBallot, now_ns: int) -> Reply:
        reply = super()._insert_ballot(command, now_ns)
        if reply.status is Status.EXISTS:
            self._claim(Vote.from_message(command.message))
        return reply


class TheLastRejectionStands(SimulatedDatabase):
    def _insert_ballots(self, command: InsertBallots, now_ns: int) -> Reply:
        self._rejections, before = {}, self._rejections
        reply = super()._insert_ballots(command, now_ns)
        self._rejections = before | self._rejections
        return reply


class HalfTheHeadsMove(SimulatedDatabase):
    def _insert_ballots(self, command: InsertBallots, now_ns: int) -> Reply:
        reply = super()._insert_ballots(command, now_ns)
        if reply.status is Status.EXISTS:
            for move in command.moves:
                self._move([move])
        return reply


class StrangeEpochsHaveNoHead(SimulatedDatabase):
    def _read_heads(self, command: ReadHeads, now_ns: int) -> Reply:
        if command.current not in self._epochs[command.queue]:
            command = command._replace(current=0)
        return super()._read_heads(command, now_ns)


class EpochsAreNeverForgotten(SimulatedDatabase):
    def _read_heads(self, command: ReadHeads, now_ns: int) -> Reply:
        for epoch in self._epochs[command.queue].values():
            epoch.superseded_ns = None
        return super()._read_heads(command, now_ns)


class ReturningEpochsAreForgotten(SimulatedDatabase):
    def _read_heads(self, command: ReadHeads, now_ns: int) -> Reply:
        before = {number: e.superseded_ns for number, e in self._epochs[command.queue].items()}
        reply = super()._read_heads(command, now_ns)
        current = self._epochs[command.queue].get(command.current)
        if current is not None:
            current.superseded_ns = before.get(command.current)
        return reply


@pytest.mark.parametrize(
    "broken",
    [
        CopiesAreDelivered,
        AnotherChoiceIsCounted,
        OvertakenDrainsCount,
        AVoterIsCountedTwice,
        AConflictClaimsTheVoter,
        TheLastRejectionStands,
        HalfTheHeadsMove,
        StrangeEpochsHaveNoHead,
        EpochsAreNeverForgotten,
        ReturningEpochsAreForgotten,
    ],
)
def test_a_broken_command_is_caught(real: RealDatabase, broken: type[SimulatedDatabase]):
    with pytest.raises(AssertionError):
        compare(broken, real, 5000)
