"""Polls as the database keeps them: read by the site, written by whoever runs it."""

from datetime import datetime
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec
from pymysql.cursors import Cursor

from harness.database.link import Link
from harness.vote import Poll

MOST_LISTED: Final = 1000  # polls on one page: more than anybody reads, and about 100 kB
MOST_NAMED: Final = 100_000  # polls that a flusher keeps totals for: 6 MB of names

KEEP: Final = """
INSERT INTO pollstorm_polls (name, question, choices, once) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    question = VALUES(question), choices = VALUES(choices), once = VALUES(once)"""
INSERT: Final = (
    "INSERT INTO pollstorm_polls (name, question, choices, once) VALUES (%s, %s, %s, %s)"
)
COLUMNS: Final = "SELECT name, question, choices, once, closed_at IS NOT NULL"
FIND: Final = f"{COLUMNS} FROM pollstorm_polls WHERE name = %s"
LIST: Final = f"""
{COLUMNS}, opened_at, closed_at FROM pollstorm_polls
ORDER BY closed_at IS NOT NULL, opened_at DESC, name LIMIT %s"""
NAMES: Final = "SELECT name FROM pollstorm_polls ORDER BY name LIMIT %s"
HAS_BALLOTS: Final = "SELECT EXISTS (SELECT 1 FROM pollstorm_ballots WHERE poll = %s)"
TOTALS: Final = "SELECT poll, choice, COUNT(*) FROM pollstorm_ballots GROUP BY poll, choice"
CLOSE: Final = """
UPDATE pollstorm_polls SET closed_at = UTC_TIMESTAMP(6) WHERE name = %s AND closed_at IS NULL"""


class Creation(Enum):
    """What became of a poll that was to be created."""

    CREATED = "created"
    REPLACED = "replaced"  # the one of that name has these words now
    EXISTS = "exists"  # and nothing was changed
    HAS_BALLOTS = "has-ballots"  # for other choices, or under another rule: nothing was changed


class Closing(Enum):
    """What became of a poll that was to be closed."""

    CLOSED = "closed"
    CLOSED_BEFORE = "closed-before"
    UNKNOWN = "unknown"  # there is none of that name


class Standing(NamedTuple):
    """A poll, its times (UTC) and its ballots for each choice."""

    poll: Poll
    opened_at: datetime
    closed_at: datetime | None
    counts: tuple[int, ...]


def keep(cursor: Cursor, poll: Poll) -> None:
    """Create the poll, or change the one of that name. Raises pymysql.MySQLError."""
    cursor.execute(KEEP, _row(poll))


def create(cursor: Cursor, poll: Poll, *, replace: bool) -> Creation:
    """Create the poll; `replace`: or change the one of that name, which stays open or closed.

    What ballots were cast for is never changed. Votes that a queue still holds are not seen here.
    In a transaction of the caller's. Raises pymysql.MySQLError.
    """
    cursor.execute(f"{FIND} FOR UPDATE", (poll.name,))
    row = cursor.fetchone()
    if row is None:
        cursor.execute(INSERT, _row(poll))
        return Creation.CREATED
    if not replace:
        return Creation.EXISTS
    before = _poll(row)
    if (before.choices, before.once) != (poll.choices, poll.once):
        cursor.execute(HAS_BALLOTS, (poll.name,))
        if cursor.fetchone() == (1,):
            return Creation.HAS_BALLOTS
    keep(cursor, poll)
    return Creation.REPLACED


def close(cursor: Cursor, name: str) -> Closing:
    """Have the poll take no votes any more. Raises pymysql.MySQLError."""
    if cursor.execute(CLOSE, (name,)):
        return Closing.CLOSED
    return Closing.CLOSED_BEFORE if cursor.execute(FIND, (name,)) else Closing.UNKNOWN


def standings(cursor: Cursor) -> list[Standing]:
    """Polls with their ballots, at most MOST_LISTED: open ones first, then the newest.

    Raises pymysql.MySQLError.
    """
    cursor.execute(LIST, (MOST_LISTED,))
    rows = cursor.fetchall()
    cursor.execute(TOTALS)
    votes = {(poll, choice): number for poll, choice, number in cursor.fetchall()}
    found = []
    for *columns, opened_at, closed_at in rows:
        poll = _poll(columns)
        numbers = range(1, len(poll.choices) + 1)
        counts = tuple(votes.get((poll.name, number), 0) for number in numbers)
        found.append(Standing(poll, opened_at, closed_at, counts))
    return found


def find_poll(link: Link, name: str) -> Poll | None:
    """The poll of that name. Raises pymysql.MySQLError."""
    rows = link.select(FIND, name)
    return _poll(rows[0]) if rows else None


def list_polls(link: Link) -> tuple[Poll, ...]:
    """Polls, at most MOST_LISTED: open ones first, then the newest. Raises pymysql.MySQLError."""
    return tuple(_poll(row[:5]) for row in link.select(LIST, MOST_LISTED))


def name_polls(link: Link) -> list[str]:
    """The names of all polls, whatever a page may list. Raises pymysql.MySQLError."""
    return [name for (name,) in link.select(NAMES, MOST_NAMED)]


def _row(poll: Poll) -> tuple[str, str, str, bool]:
    return poll.name, poll.question, msgspec.json.encode(poll.choices).decode(), poll.once


def _poll(row: Any) -> Poll:
    name, question, choices, once, closed = row
    texts = msgspec.json.decode(choices, type=tuple[str, ...])
    return Poll(name, question, texts, bool(once), bool(closed))
