"""Ballots: votes as counted. Unique by vote id; a vote that arrives again gains a delivery.

What the server refuses it has not written, because it rolls back what it cannot finish. Only when
the reply to what commits is lost does the outcome stay unknown.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from enum import Enum
from typing import Any, Final, TypeAlias

import msgspec
import pandas as pd
import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor, SSCursor

from harness.database.connections import connect
from harness.history.journal import Journal
from harness.history.store import BALLOT_COLUMNS
from harness.protocol.commands import COMMAND_CODES, InsertBallots, Status
from harness.vote import Poll, Vote

INSERT_ONE: Final = """
INSERT INTO pollstorm_ballots (vote, poll, choice, voter) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    deliveries = deliveries + IF(choice = VALUES(choice) AND poll = VALUES(poll), 1, 0)"""

INSERT_MANY: Final = """
INSERT INTO pollstorm_ballots (vote, poll, choice, voter) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE deliveries = deliveries + 1"""

COUNT: Final = "SELECT choice, COUNT(*) FROM pollstorm_ballots WHERE poll = %s GROUP BY choice"
FIND_POLL: Final = "SELECT question, choices FROM pollstorm_polls WHERE name = %s"

INSERT: Final = COMMAND_CODES[InsertBallots]
ROLLED_BACK: Final = (1205, 1213)  # lock wait timeout, deadlock: try again
CLIENT_ERRORS: Final = range(2000, 3000)  # the connection's, not the server's: no answer was seen
MAX_TRIES: Final = 3  # two processes that deadlock once rarely do so twice


class Delivery(Enum):
    """What became of one vote handed to the database."""

    COUNTED = "counted"  # committed, now or by an earlier delivery
    CONFLICT = "conflict"  # its id is there with another choice or poll
    REFUSED = "refused"  # certainly not committed
    UNKNOWN = "unknown"  # the reply to the commit was lost


Transaction: TypeAlias = Callable[["Connection[Cursor]"], Delivery]


class Ballots:
    """One thread's connection to the ballots; opened when first used, closed on any failure."""

    def __init__(self, url: str, timeout_s: float, journal: Journal | None) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._journal = journal
        self._connection: Connection[Cursor] | None = None

    def insert(self, vote: Vote) -> Delivery:
        """Insert one vote; the statement commits. Never raises for what the database does."""
        if self._journal:
            self._journal.open(INSERT, vote=vote.vote_id)
        delivery = self._try(lambda connection: _insert_one(connection, vote))
        if self._journal:
            self._journal.close(_STATUS[delivery], 1)
        return delivery

    def insert_batch(self, votes: Sequence[Vote], rows_per_statement: int) -> Delivery:
        """Insert all votes in one transaction: all are committed or none. Never raises."""
        if self._journal:
            self._journal.open(INSERT)
        delivery = self._try(lambda connection: _insert_many(connection, votes, rows_per_statement))
        if self._journal:
            self._journal.close(_STATUS[delivery], len(votes))
        return delivery

    def count(self, poll: Poll) -> tuple[int, ...]:
        """Ballots per choice, counted now. Raises pymysql.MySQLError."""
        found = {choice: int(votes) for choice, votes in self._select(COUNT, poll.name)}
        return tuple(found.get(choice, 0) for choice in range(1, len(poll.choices) + 1))

    def find_poll(self, name: str) -> Poll | None:
        """The poll of that name. Raises pymysql.MySQLError."""
        for question, choices in self._select(FIND_POLL, name):
            return Poll(name, question, msgspec.json.decode(choices, type=tuple[str, ...]))
        return None

    def is_reachable(self) -> bool:
        try:
            return self._select("SELECT 1 WHERE %s", 1) != ()
        except pymysql.MySQLError:
            return False

    def stop_recording(self) -> None:
        """Go on without a journal."""
        self._journal = None

    def close(self) -> None:
        """Drop the connection, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection._force_close()  # type: ignore[attr-defined]  # close() would ask the server

    def _connected(self) -> "Connection[Cursor]":
        if self._connection is None:
            self._connection = connect(self._url, self._timeout_s)
        return self._connection

    def _select(self, statement: str, argument: object) -> tuple[tuple[Any, ...], ...]:
        try:
            with self._connected().cursor() as cursor:
                cursor.execute(statement, (argument,))
                return tuple(cursor.fetchall())
        except BaseException:
            self.close()
            raise

    def _try(self, transaction: Transaction) -> Delivery:
        """Run it, again if the server rolled it back by itself."""
        for _ in range(MAX_TRIES):
            try:
                connection = self._connected()
            except pymysql.MySQLError:
                return Delivery.REFUSED
            try:
                return transaction(connection)
            except pymysql.MySQLError as error:
                self.close()
                code = error.args[0] if error.args else None
                if not isinstance(code, int) or code in CLIENT_ERRORS:
                    return Delivery.UNKNOWN
                if code not in ROLLED_BACK:
                    return Delivery.REFUSED
            except BaseException:
                self.close()
                raise
        return Delivery.REFUSED


_STATUS: Final = {
    Delivery.COUNTED: Status.OK,
    Delivery.CONFLICT: Status.REFUSED,
    Delivery.REFUSED: Status.REFUSED,
    Delivery.UNKNOWN: Status.LOST,
}


def _insert_one(connection: "Connection[Cursor]", vote: Vote) -> Delivery:
    with connection.cursor() as cursor:
        # 1 row: inserted; 2: one more delivery; 0: the row stayed as it was, another wish.
        rows = cursor.execute(INSERT_ONE, vote_row(vote))
    return Delivery.COUNTED if rows else Delivery.CONFLICT


def _insert_many(
    connection: "Connection[Cursor]", votes: Sequence[Vote], rows_per_statement: int
) -> Delivery:
    rows = [vote_row(vote) for vote in votes]
    connection.begin()
    with connection.cursor() as cursor:
        for start in range(0, len(rows), rows_per_statement):
            cursor.executemany(INSERT_MANY, rows[start:][:rows_per_statement])
    connection.commit()
    return Delivery.COUNTED


def vote_row(vote: Vote) -> tuple[int, str, int, str]:
    """A vote's columns in the order of the INSERT."""
    return (vote.vote_id, vote.poll, vote.choice, vote.voter)


def read_ballots(url: str, timeout_s: float) -> pd.DataFrame:
    """All ballots, with the columns of `history.store.BALLOT_COLUMNS`.

    Raises pymysql.MySQLError.
    """
    with closing(connect(url, timeout_s)) as connection, connection.cursor(SSCursor) as cursor:
        cursor.execute("SELECT vote, poll, choice, voter, deliveries FROM pollstorm_ballots")
        return pd.DataFrame(cursor.fetchall(), columns=list(BALLOT_COLUMNS)).astype(BALLOT_COLUMNS)
