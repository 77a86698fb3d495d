"""Heads and epochs in a real MariaDB: nothing issued twice, nothing moved without its votes."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

from harness.database import ballots as ballots_module
from harness.database import schema
from harness.database.ballots import Ballots, read_ballots
from harness.database.connections import connect
from harness.database.executor import DatabaseExecutor, votes_in
from harness.database.heads import REMEMBERED_S
from harness.errors import RecordingError
from harness.history.journal import Journal, Role
from harness.history.recorder import Recorder
from harness.history.store import collect_journal
from harness.history.store import connect as connect_history
from harness.protocol.commands import (
    COMMAND_CODES,
    Get,
    InsertBallot,
    InsertBallots,
    IssueEpoch,
    Key,
    KeyKind,
    Move,
    ReadHeads,
    Reply,
    Status,
)
from harness.protocol.ticket import first_of
from harness.services.mariadb import MariadbServer
from harness.vote import Poll, Vote, mint

pytestmark = pytest.mark.services

POLL = Poll("town-hall", "Paint it orange?", ("Yes", "No"))
ISSUERS = 32
ROWS = 1000
OK = Reply(Status.OK)
EXISTS = Reply(Status.EXISTS)


def message(number: int, choice: int = 1) -> bytes:
    return vote(number, choice).to_message()


def vote(number: int, choice: int = 1) -> Vote:
    return Vote(mint(1, number), POLL.name, choice, f"v{number}")


def opened(url: str, journal: Journal | None = None) -> "closing[DatabaseExecutor]":
    return closing(DatabaseExecutor(Ballots(url, 5.0, journal), ROWS))


@pytest.fixture
def tables(mariadb: MariadbServer) -> Iterator[None]:
    schema.create(mariadb.url, POLL)
    yield
    schema.drop(mariadb.url)


@pytest.fixture
def executor(mariadb: MariadbServer, tables: None) -> Iterator[DatabaseExecutor]:  # noqa: ARG001
    with opened(mariadb.url) as executor:
        yield executor


def heads(executor: DatabaseExecutor, queue: str = "q", current: int = 0) -> list[int]:
    reply = executor.execute(ReadHeads(queue, current))
    assert reply.status is Status.OK
    return [part.number for part in reply.parts]


def deliveries(mariadb: MariadbServer) -> dict[int, tuple[int, int]]:
    """By the vote's sequence number: choice and deliveries."""
    return {
        int(row.vote) - mint(1, 0): (int(row.choice), int(row.deliveries))
        for row in read_ballots(mariadb.url, 5.0).itertuples()
    }


def ask(mariadb: MariadbServer, statement: str) -> list[tuple[object, ...]]:
    with closing(connect(mariadb.url, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def superseded(mariadb: MariadbServer) -> list[object]:
    """The epochs that are marked."""
    rows = ask(mariadb, "SELECT epoch FROM pollstorm_heads WHERE superseded_at IS NOT NULL")
    return sorted(epoch for (epoch,) in rows)


def test_epochs_of_a_queue_count_from_one_and_their_heads_are_before_the_first_ticket(
    executor: DatabaseExecutor,
):
    numbers = [executor.execute(IssueEpoch(queue)).number for queue in ("q", "q", "q@1", "q")]
    assert numbers == [1, 2, 1, 3]
    assert heads(executor) == [first_of(1), first_of(2), first_of(3)]
    assert heads(executor, "q@1") == [first_of(1)]
    assert heads(executor, "none") == []


def test_no_two_of_many_issuers_get_the_same_epoch(
    executor: DatabaseExecutor, mariadb: MariadbServer
):
    together = threading.Barrier(ISSUERS)

    def issue(_: int) -> list[Reply]:
        with opened(mariadb.url) as own:
            together.wait(10)
            return [own.execute(IssueEpoch("q")) for _ in range(5)]

    with ThreadPoolExecutor(ISSUERS) as issuers:
        replies = [reply for found in issuers.map(issue, range(ISSUERS)) for reply in found]
    assert {reply.status for reply in replies} == {Status.OK}
    assert sorted(reply.number for reply in replies) == list(range(1, ISSUERS * 5 + 1))
    assert len(heads(executor)) == ISSUERS * 5


def test_epochs_that_are_not_current_are_marked_and_the_current_one_is_cleared(
    executor: DatabaseExecutor, mariadb: MariadbServer
):
    for _ in range(3):
        executor.execute(IssueEpoch("q"))
    executor.execute(IssueEpoch("other"))
    assert heads(executor) == [first_of(n) for n in (1, 2, 3)]
    assert superseded(mariadb) == []  # not known which is current
    assert len(heads(executor, current=2)) == 3
    assert superseded(mariadb) == [1, 3]
    assert len(heads(executor, current=3)) == 3
    assert superseded(mariadb) == [1, 2]


def test_the_epoch_of_another_database_is_drained_from_its_start_and_never_issued(
    executor: DatabaseExecutor,
):
    executor.execute(IssueEpoch("q"))
    assert heads(executor, current=4) == [first_of(1), first_of(4)]
    assert executor.execute(IssueEpoch("q")).number == 5
    assert heads(executor, current=4) == [first_of(1), first_of(4), first_of(5)]


def test_what_is_marked_already_is_not_written_again(
    executor: DatabaseExecutor, mariadb: MariadbServer
):
    for _ in range(2):
        executor.execute(IssueEpoch("q"))
    heads(executor, current=2)
    rows = "SELECT epoch, head, superseded_at FROM pollstorm_heads ORDER BY epoch"
    written = "SHOW GLOBAL STATUS LIKE 'Com_update'"
    before = ask(mariadb, rows), ask(mariadb, written)
    heads(executor, current=2)
    heads(executor)
    assert (ask(mariadb, rows), ask(mariadb, written)) == before


@pytest.mark.parametrize(("older_s", "found"), [(-5, True), (5, False)])
def test_an_epoch_is_forgotten_when_it_has_long_been_superseded(
    executor: DatabaseExecutor, mariadb: MariadbServer, older_s: int, found: bool
):
    for _ in range(2):
        executor.execute(IssueEpoch("q"))
    heads(executor, current=2)
    ask(
        mariadb,
        "UPDATE pollstorm_heads SET superseded_at = superseded_at "
        f"- INTERVAL {REMEMBERED_S + older_s} SECOND",
    )
    assert heads(executor, current=2) == [first_of(1), first_of(2)][not found :]
    assert heads(executor, current=1) == [first_of(1), first_of(2)]  # it is in use after all
    assert superseded(mariadb) == [2]


def test_a_clock_set_to_another_zone_forgets_nothing(
    executor: DatabaseExecutor, mariadb: MariadbServer
):
    for _ in range(2):
        executor.execute(IssueEpoch("q"))
    heads(executor, current=2)
    ask(mariadb, "SET GLOBAL time_zone = '+05:00'")
    try:
        with opened(mariadb.url) as elsewhere:
            assert len(heads(elsewhere, current=2)) == 2
    finally:
        ask(mariadb, "SET GLOBAL time_zone = 'SYSTEM'")


def test_votes_and_heads_move_together(executor: DatabaseExecutor, mariadb: MariadbServer):
    for queue in ("q", "q", "q@1"):
        executor.execute(IssueEpoch(queue))
    moves = (
        Move("q@1", first_of(1), first_of(1) + 5),
        Move("q", first_of(2), first_of(2) + 1),
        Move("q", first_of(1), first_of(1) + 2),
    )
    assert executor.execute(InsertBallots([message(1), message(2)], moves)) == OK
    assert heads(executor) == [first_of(1) + 2, first_of(2) + 1]
    assert heads(executor, "q@1") == [first_of(1) + 5]
    assert executor.execute(InsertBallots([], (Move("q", first_of(1) + 2, first_of(1) + 3),))) == OK
    assert heads(executor)[0] == first_of(1) + 3  # tombstones alone move a head
    assert set(deliveries(mariadb)) == {1, 2}


@pytest.mark.parametrize(
    "wrong",
    [
        Move("q", first_of(2) + 1, first_of(2) + 2),  # moved meanwhile
        Move("q", first_of(9), first_of(9) + 1),  # no such epoch
        Move("z", first_of(1), first_of(1) + 1),  # no such queue; the last of all in order
    ],
)
def test_a_head_that_is_elsewhere_rolls_everything_back(
    executor: DatabaseExecutor, mariadb: MariadbServer, wrong: Move
):
    for _ in range(2):
        executor.execute(IssueEpoch("q"))
    moves = (wrong, Move("q", first_of(1), first_of(1) + 1))
    assert executor.execute(InsertBallots([message(1)], moves)) == EXISTS
    assert heads(executor) == [first_of(1), first_of(2)]
    assert deliveries(mariadb) == {}
    assert executor.execute(InsertBallots([message(1)], moves[1:])) == OK  # no lock is left


def test_a_transaction_that_was_rolled_back_is_not_overtaken_by_its_own_first_try(
    executor: DatabaseExecutor, mariadb: MariadbServer, monkeypatch: pytest.MonkeyPatch
):
    executor.execute(IssueEpoch("q"))
    moved: list[bool] = []
    move = ballots_module.move

    def moves_and_then_deadlocks_once(cursor, moves):  # type: ignore[no-untyped-def]
        moved.append(move(cursor, moves))
        if len(moved) == 1:
            raise pymysql.err.OperationalError(1205, "Lock wait timeout exceeded")
        return moved[-1]

    monkeypatch.setattr(ballots_module, "move", moves_and_then_deadlocks_once)
    command = InsertBallots([message(1)], (Move("q", first_of(1), first_of(1) + 1),))
    assert executor.execute(command) == OK
    assert moved == [True, True]
    assert heads(executor) == [first_of(1) + 1]
    assert deliveries(mariadb) == {1: (1, 1)}


def test_of_many_drains_of_the_same_votes_one_commits(
    executor: DatabaseExecutor, mariadb: MariadbServer
):
    rounds, drains = 30, 4
    executor.execute(IssueEpoch("q"))
    executor.execute(IssueEpoch("q@1"))
    together = threading.Barrier(drains)

    def drain(_: int) -> list[Status]:
        with opened(mariadb.url) as own:
            ends = []
            for number in range(rounds):
                moves = tuple(
                    Move(queue, first_of(1) + number, first_of(1) + number + 1)
                    for queue in ("q@1", "q")
                )
                together.wait(10)
                ends.append(own.execute(InsertBallots([message(number)], moves)).status)
        return ends

    with ThreadPoolExecutor(drains) as threads:
        ends = list(zip(*threads.map(drain, range(drains)), strict=True))
    once = Counter({Status.OK: 1, Status.EXISTS: drains - 1})
    assert [Counter(end) for end in ends] == [once] * rounds
    assert deliveries(mariadb) == dict.fromkeys(range(rounds), (1, 1))


def test_copies_of_counted_votes_change_nothing(executor: DatabaseExecutor, mariadb: MariadbServer):
    executor.execute(InsertBallot(message(1)))
    batch = [message(1, choice=2), message(2), message(2)]
    assert executor.execute(InsertBallots(batch, copies=True)) == OK
    assert deliveries(mariadb) == {1: (1, 1), 2: (1, 1)}
    assert executor.execute(InsertBallots(batch)) == OK
    assert deliveries(mariadb) == {1: (1, 2), 2: (1, 3)}


def test_a_copy_of_a_counted_vote_stays_and_another_wish_is_told(
    executor: DatabaseExecutor, mariadb: MariadbServer
):
    assert executor.execute(InsertBallot(message(1), copy=True)) == OK
    assert executor.execute(InsertBallot(message(1), copy=True)) == OK
    assert deliveries(mariadb) == {1: (1, 1)}
    assert executor.execute(InsertBallot(message(1))) == OK
    assert deliveries(mariadb) == {1: (1, 2)}
    other_poll = vote(1)._replace(poll="other").to_message()
    for copy in (True, False):
        assert executor.execute(InsertBallot(message(1, choice=2), copy)) == EXISTS
        assert executor.execute(InsertBallot(other_poll, copy)) == EXISTS
    assert deliveries(mariadb) == {1: (1, 2)}


def test_what_is_no_vote_is_left_out(executor: DatabaseExecutor, mariadb: MariadbServer):
    rubbish = [b"", b"\xff", b"closed", message(1) + b" x"]
    assert votes_in([*rubbish, message(2)]) == [vote(2)]
    assert executor.execute(InsertBallots([*rubbish, message(2)])) == OK
    assert executor.take_strays() == rubbish
    assert executor.take_strays() == []
    assert executor.execute(InsertBallot(rubbish[1])).status is Status.REFUSED
    assert deliveries(mariadb) == {2: (1, 1)}


def test_a_database_that_is_gone_refuses_every_command():
    with opened("mysql://root@127.0.0.1:1/none") as gone:
        for command in (IssueEpoch("q"), ReadHeads("q", 1), InsertBallot(message(1))):
            assert gone.execute(command) == Reply(Status.REFUSED)
        assert gone.execute(InsertBallots([message(1)])) == Reply(Status.REFUSED)


def test_a_lost_reply_leaves_open_what_was_done(
    executor: DatabaseExecutor, monkeypatch: pytest.MonkeyPatch
):
    def lost(*_: object) -> None:
        raise pymysql.err.OperationalError(2013, "Lost connection during query")

    for command in (IssueEpoch("q"), ReadHeads("q", 1), InsertBallots([message(1)])):
        with monkeypatch.context() as broken:
            broken.setattr(executor._ballots.link.connected(), "query", lost)
            assert executor.execute(command) == Reply(Status.LOST)


@pytest.mark.usefixtures("tables")
def test_each_command_is_recorded_with_its_reply(mariadb: MariadbServer, tmp_path: Path):
    journal = Journal(tmp_path, Role.FLUSHER)
    with opened(mariadb.url, journal) as recorded:
        journal.start_operation(2)
        recorded.execute(IssueEpoch("q"))
        recorded.execute(ReadHeads("q", 1))
        recorded.execute(InsertBallot(message(5)))
        recorded.execute(InsertBallot(message(5, choice=2)))
        move = Move("q", first_of(1), first_of(1) + 3)
        recorded.execute(InsertBallots([message(6), message(7), b"closed"], (move,)))
        recorded.execute(InsertBallots([message(6)], (move,)))
        recorded.stop_recording()
        recorded.execute(IssueEpoch("q"))
    collect_journal(tmp_path, tmp_path / "j.parquet")
    with connect_history() as connection:
        found = connection.execute(
            "SELECT command, status, number, vote FROM "
            f"'{tmp_path}/j.parquet' WHERE queue = 2 AND end_ns > 0 ORDER BY begin_ns"
        ).fetchall()
    insert = COMMAND_CODES[InsertBallots]
    assert found == [
        (COMMAND_CODES[IssueEpoch], Status.OK, 1, 0),
        (COMMAND_CODES[ReadHeads], Status.OK, 1, 0),
        (insert, Status.OK, 1, vote(5).vote_id),
        (insert, Status.EXISTS, 1, vote(5).vote_id),
        (insert, Status.OK, 2, 0),
        (insert, Status.EXISTS, 1, 0),
    ]


def test_on_a_full_disk_nothing_is_sent(
    executor: DatabaseExecutor,
    mariadb: MariadbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def full(_: Recorder) -> int:
        raise RecordingError("cannot record")

    monkeypatch.setattr(Recorder, "reserve", full)
    commands = (IssueEpoch("q"), InsertBallot(message(1)), InsertBallots([message(1)]))
    with opened(mariadb.url, Journal(tmp_path, Role.SITE)) as recorded:
        for command in commands:
            with pytest.raises(RecordingError):
                recorded.execute(command)
    assert heads(executor) == []
    assert deliveries(mariadb) == {}


def test_memcached_s_commands_are_not_the_database_s(executor: DatabaseExecutor):
    with pytest.raises(TypeError, match="Get"):
        executor.execute(Get(Key("k", KeyKind.SLOT)))  # type: ignore[arg-type]
