"""Polls as the database keeps them."""

from typing import Final

import msgspec
from pymysql.cursors import Cursor

from harness.database.link import Link
from harness.vote import Poll

KEEP: Final = """
INSERT INTO pollstorm_polls (name, question, choices, once) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE
    question = VALUES(question), choices = VALUES(choices), once = VALUES(once)"""
FIND: Final = """
SELECT question, choices, once, closed_at IS NOT NULL FROM pollstorm_polls WHERE name = %s"""


def keep(cursor: Cursor, poll: Poll) -> None:
    """Create the poll, or change the one of that name. Raises pymysql.MySQLError."""
    choices = msgspec.json.encode(poll.choices).decode()
    cursor.execute(KEEP, (poll.name, poll.question, choices, poll.once))


def find_poll(link: Link, name: str) -> Poll | None:
    """The poll of that name. Raises pymysql.MySQLError."""
    for question, choices, once, closed in link.select(FIND, name):
        texts = msgspec.json.decode(choices, type=tuple[str, ...])
        return Poll(name, question, texts, bool(once), bool(closed))
    return None
