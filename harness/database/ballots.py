"""Ballots: votes as counted. Unique by vote id; a vote that arrives again gains a delivery."""

from collections.abc import Callable, Sequence
from contextlib import closing
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Final, TypeAlias

import pandas as pd
import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor, SSCursor

from harness.armed import ArmedPage, Passage, step
from harness.database.connections import connect
from harness.database.heads import move
from harness.database.link import Failure, Link
from harness.database.voters import admit, claim
from harness.history.journal import Journal, Role
from harness.history.store import BALLOT_COLUMNS
from harness.protocol.commands import COMMAND_CODES, InsertBallots, Move, Status
from harness.vote import Poll, Vote

INSERT_ONE: Final = """
INSERT INTO pollstorm_ballots (vote, poll, choice, voter) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    deliveries = deliveries + IF(choice = VALUES(choice) AND poll = VALUES(poll), 1, 0)"""

INSERT_MANY: Final = """
INSERT INTO pollstorm_ballots (vote, poll, choice, voter) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE deliveries = deliveries + 1"""

COPY: Final = """
INSERT INTO pollstorm_ballots (vote, poll, choice, voter) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE deliveries = deliveries"""
"""Not IGNORE, which would also swallow what is wrong with a row."""

COUNTED_AS: Final = "SELECT poll, choice FROM pollstorm_ballots WHERE vote = %s"
COUNT: Final = "SELECT choice, COUNT(*) FROM pollstorm_ballots WHERE poll = %s GROUP BY choice"

IS_ONCE: Final = attrgetter("once")
Insert: TypeAlias = "Callable[[Connection[Cursor], Vote], Delivery]"

INSERT: Final = COMMAND_CODES[InsertBallots]
BEFORE_INSERT: Final = step(Role.FLUSHER, INSERT, Passage.BEFORE_INSERT)
BEFORE_COMMIT: Final = step(Role.FLUSHER, INSERT, Passage.BEFORE_COMMIT)
AFTER_COMMIT: Final = step(Role.FLUSHER, INSERT, Passage.AFTER_COMMIT)


class Delivery(Enum):
    """What became of the votes handed to the database."""

    COUNTED = "counted"  # committed, now or by an earlier delivery
    CONFLICT = "conflict"  # its id is there with another choice or poll
    ALREADY_VOTED = "already voted"  # its voter is counted with another vote, this one never
    OVERTAKEN = "overtaken"  # a head had been moved by somebody else, so nothing was written
    REFUSED = "refused"  # certainly not committed
    UNKNOWN = "unknown"  # the reply to the commit was lost


STATUSES: Final = {
    Delivery.COUNTED: Status.OK,
    Delivery.CONFLICT: Status.EXISTS,
    Delivery.ALREADY_VOTED: Status.ALREADY_VOTED,
    Delivery.OVERTAKEN: Status.EXISTS,
    Delivery.REFUSED: Status.REFUSED,
    Delivery.UNKNOWN: Status.LOST,
}

FAILED: Final = {
    Failure.REFUSED: Delivery.REFUSED,
    Failure.UNKNOWN: Delivery.UNKNOWN,
}


class Ballots:
    """One thread's ballots, over a connection of its own."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        journal: Journal | None,
        armed: ArmedPage | None = None,
    ) -> None:
        self.link = Link(url, timeout_s)
        self.journal = journal
        self._armed = armed

    def insert(self, vote: Vote, *, copy: bool = False) -> Delivery:
        """Insert one vote, and commit. Never raises for what the database does.

        A vote already counted gains a delivery, unless this may be a copy of it.
        """
        if self.journal:
            self.journal.open(INSERT, vote=vote.vote_id)
        insert = _insert_copy if copy else _insert_one
        transaction = partial(_insert_only, insert) if vote.once else insert
        ended = self.link.attempt(lambda connection: transaction(connection, vote))
        delivery = FAILED[ended] if isinstance(ended, Failure) else ended
        if self.journal:
            self.journal.close(STATUSES[delivery], 1)
        return delivery

    def insert_batch(
        self,
        votes: Sequence[Vote],
        rows_per_statement: int,
        moves: Sequence[Move] = (),
        *,
        copies: bool = False,
    ) -> Delivery:
        """Insert all votes and move the heads, in one transaction: all is committed or nothing.

        Of a once-only poll those votes are kept as rejected whose voter is counted with another.
        Never raises for what the database does. A fault that is armed at a step of the transaction
        is met only if there are votes.
        """

        def transaction(connection: "Connection[Cursor]") -> Delivery:
            connection.begin()
            with connection.cursor() as cursor:
                if not move(cursor, moves):
                    connection.rollback()
                    return Delivery.OVERTAKEN
                counted = rows
                if limited:
                    counted = list(map(vote_row, admit(cursor, votes, rows_per_statement)))
                for start in range(0, len(counted), rows_per_statement):
                    cursor.executemany(statement, counted[start:][:rows_per_statement])
            if rows:
                self._meet(BEFORE_COMMIT)
            connection.commit()
            return Delivery.COUNTED

        statement = COPY if copies else INSERT_MANY
        rows = [vote_row(vote) for vote in votes]
        limited = any(map(IS_ONCE, votes))
        if rows:
            self._meet(BEFORE_INSERT)
        if self.journal:
            self.journal.open(INSERT)
        ended = self.link.attempt(transaction)
        delivery = FAILED[ended] if isinstance(ended, Failure) else ended
        if self.journal:
            self.journal.close(STATUSES[delivery], len(votes))
        if rows and delivery is Delivery.COUNTED:
            self._meet(AFTER_COMMIT)
        return delivery

    def count(self, poll: Poll) -> tuple[int, ...]:
        """Ballots per choice, counted now. Raises pymysql.MySQLError."""
        found = {choice: int(votes) for choice, votes in self.link.select(COUNT, poll.name)}
        return tuple(found.get(choice, 0) for choice in range(1, len(poll.choices) + 1))

    def is_reachable(self) -> bool:
        try:
            return self.link.select("SELECT 1 WHERE %s", 1) != ()
        except pymysql.MySQLError:
            return False

    def stop_recording(self) -> None:
        """Go on without a journal."""
        self.journal = None

    def close(self) -> None:
        """Drop the connection, whatever state it is in."""
        self.link.close()

    def _meet(self, here: int) -> None:
        if self._armed and self._armed.steps[here]:
            self._armed.meet(here)


def _insert_one(connection: "Connection[Cursor]", vote: Vote) -> Delivery:
    with connection.cursor() as cursor:
        # 1 row: inserted; 2: one more delivery; 0: the row stayed as it was, another wish.
        rows = cursor.execute(INSERT_ONE, vote_row(vote))
    return Delivery.COUNTED if rows else Delivery.CONFLICT


def _insert_copy(connection: "Connection[Cursor]", vote: Vote) -> Delivery:
    with connection.cursor() as cursor:
        if cursor.execute(COPY, vote_row(vote)):
            return Delivery.COUNTED
        cursor.execute(COUNTED_AS, (vote.vote_id,))
        same = cursor.fetchone() == (vote.poll, vote.choice)
    return Delivery.COUNTED if same else Delivery.CONFLICT


def _insert_only(insert: Insert, connection: "Connection[Cursor]", vote: Vote) -> Delivery:
    """Insert the one vote of its voter, and both rows or none."""
    connection.begin()
    with connection.cursor() as cursor:
        claimed = claim(cursor, vote)
    delivery = insert(connection, vote) if claimed else Delivery.ALREADY_VOTED
    if delivery is Delivery.COUNTED:
        connection.commit()
    else:
        connection.rollback()
    return delivery


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
