"""Ballots in a real MariaDB: unique by vote id, deliveries counted, nothing half done."""

import time
from collections.abc import Iterator
from contextlib import closing

import pymysql
import pytest

from harness.database import schema
from harness.database.ballots import Ballots, Delivery, read_ballots
from harness.database.connections import connect
from harness.database.polls import find_poll
from harness.errors import PlanError
from harness.services.mariadb import MariadbServer
from harness.vote import Poll, Vote, mint

pytestmark = pytest.mark.services

POLL = Poll("town-hall", "Paint it <orange>?", ("Yes", "Nö"))


@pytest.fixture
def ballots(mariadb: MariadbServer) -> Iterator[Ballots]:
    schema.create(mariadb.url, POLL)
    with closing(Ballots(mariadb.url, 5.0, None)) as ballots:
        yield ballots
    schema.drop(mariadb.url)


def vote(number: int, choice: int = 1) -> Vote:
    return Vote(mint(65535, number), POLL.name, choice, f"v{number}")


def deliveries(mariadb: MariadbServer) -> dict[int, tuple[int, int]]:
    frame = read_ballots(mariadb.url, 5.0)
    return {
        int(row.vote) - (65535 << 48): (int(row.choice), int(row.deliveries))
        for row in frame.itertuples()
    }


def test_a_vote_that_comes_again_is_counted_once_and_its_deliveries_grow(
    ballots: Ballots, mariadb: MariadbServer
):
    assert ballots.insert(vote(1)) is Delivery.COUNTED
    assert ballots.insert(vote(1)) is Delivery.COUNTED
    assert deliveries(mariadb) == {1: (1, 2)}
    assert ballots.count(POLL) == (1, 0)


def test_the_same_id_with_another_choice_is_a_conflict_and_changes_nothing(
    ballots: Ballots, mariadb: MariadbServer
):
    ballots.insert(vote(1, choice=1))
    assert ballots.insert(vote(1, choice=2)) is Delivery.CONFLICT
    assert deliveries(mariadb) == {1: (1, 1)}


def test_the_same_id_in_another_poll_is_a_conflict_too(ballots: Ballots, mariadb: MariadbServer):
    ballots.insert(vote(1))
    assert ballots.insert(vote(1)._replace(poll="other")) is Delivery.CONFLICT
    assert deliveries(mariadb) == {1: (1, 1)}


def test_a_batch_counts_every_delivery_and_keeps_the_first_choice(
    ballots: Ballots, mariadb: MariadbServer
):
    ballots.insert(vote(2, choice=1))
    batch = [vote(1), vote(2, choice=2), vote(3), vote(3)]
    assert ballots.insert_batch(batch, rows_per_statement=3) is Delivery.COUNTED
    assert deliveries(mariadb) == {1: (1, 1), 2: (1, 2), 3: (1, 2)}


def test_a_batch_that_fails_half_way_leaves_nothing(ballots: Ballots, mariadb: MariadbServer):
    impossible = vote(2)._replace(voter="x" * 65)
    assert ballots.insert_batch([vote(1), impossible], 1) is Delivery.REFUSED
    assert deliveries(mariadb) == {}


def test_a_row_locked_too_long_refuses_the_whole_batch(ballots: Ballots, mariadb: MariadbServer):
    ballots.insert(vote(1))
    ballots.link.connected().cursor().execute("SET GLOBAL innodb_lock_wait_timeout = 1")
    try:
        ballots.close()  # the next connection has the short wait
        with closing(connect(mariadb.url, 5.0)) as other, other.cursor() as cursor:
            other.begin()
            cursor.execute("UPDATE pollstorm_ballots SET deliveries = 7 WHERE choice = 1")
            assert ballots.insert_batch([vote(2), vote(1)], 1) is Delivery.REFUSED
            other.rollback()
        assert deliveries(mariadb) == {1: (1, 1)}  # the batch's first row went with it
    finally:
        ballots.link.connected().cursor().execute("SET GLOBAL innodb_lock_wait_timeout = 5")


def test_a_database_that_is_gone_refuses(ballots: Ballots):
    gone = Ballots("mysql://root@127.0.0.1:1/none", 1.0, None)
    assert gone.insert(vote(1)) is Delivery.REFUSED
    assert not gone.is_reachable()
    assert ballots.is_reachable()


def test_a_lost_reply_to_the_commit_leaves_the_outcome_unknown(
    ballots: Ballots, monkeypatch: pytest.MonkeyPatch
):
    def lost(*_: object) -> None:
        raise pymysql.err.OperationalError(2013, "Lost connection during query")

    monkeypatch.setattr(ballots.link.connected(), "commit", lost)
    assert ballots.insert_batch([vote(1)], 1) is Delivery.UNKNOWN
    monkeypatch.setattr(ballots.link.connected(), "query", lost)
    assert ballots.insert(vote(1)) is Delivery.UNKNOWN
    assert ballots.insert(vote(2)) is Delivery.COUNTED  # on a new connection


def test_polls_are_found_by_name(ballots: Ballots):
    assert find_poll(ballots.link, "town-hall") == POLL
    assert find_poll(ballots.link, "Town-Hall") is None
    assert find_poll(ballots.link, "' OR 1=1 -- ") is None


def test_what_is_read_after_the_server_ended_an_idle_connection_is_read_over_a_new_one(
    ballots: Ballots, mariadb: MariadbServer
):
    assert find_poll(ballots.link, POLL.name) == POLL
    ((session,),) = ballots.link.select("SELECT CONNECTION_ID() WHERE %s", 1)
    with closing(connect(mariadb.url, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute("KILL %s", (session,))
    assert find_poll(ballots.link, POLL.name) == POLL


def test_a_read_that_took_too_long_is_not_tried_again(mariadb: MariadbServer):
    with closing(Ballots(mariadb.url, 2.0, None)) as ballots:
        assert ballots.is_reachable()
        begin_s = time.monotonic()
        with pytest.raises(pymysql.OperationalError, match="timed out"):
            ballots.link.select("SELECT SLEEP(%s)", 2.5)
        assert time.monotonic() - begin_s < 4.0  # two tries would take as long


def test_foreign_tables_survive_a_drop(mariadb: MariadbServer):
    with closing(connect(mariadb.url, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE pollstormish (n INT)")
        schema.create(mariadb.url, POLL)
        schema.drop(mariadb.url)
        cursor.execute("SHOW TABLES")
        assert [name for (name,) in cursor.fetchall()] == ["pollstormish"]
        cursor.execute("DROP TABLE pollstormish")


@pytest.mark.parametrize("url", ["postgres://x/y", "mysql://127.0.0.1", "mysql://h:port/x", ""])
def test_a_url_of_another_form_is_refused(url: str):
    with pytest.raises(PlanError, match="database"):
        connect(url, 1.0)
