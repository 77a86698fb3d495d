"""Heads: how far each epoch of a queue has been drained, as the last ticket that was.

`Heads` issues epochs and remembers which may still be in use. `move` belongs into the transaction
that counts what lies between the old head and the new one.
"""

from collections.abc import Sequence
from typing import Final

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from harness.database.link import Failure, Link
from harness.protocol.commands import Move
from harness.protocol.ticket import epoch_of, first_of

REMEMBERED_S: Final = 120
"""So long an epoch that is no longer current is drained. A voter who found no pointer makes one
within 30 s of the epoch's issue or not at all, and the others are done long before."""

COUNT_UP: Final = """
INSERT INTO pollstorm_epochs (queue, issued) VALUES (%s, 1)
ON DUPLICATE KEY UPDATE issued = issued + 1"""
ISSUED: Final = "SELECT issued FROM pollstorm_epochs WHERE queue = %s"
NEW_HEAD: Final = "INSERT INTO pollstorm_heads (queue, epoch, head) VALUES (%s, %s, %s)"

ADOPT_NUMBER: Final = """
INSERT INTO pollstorm_epochs (queue, issued) VALUES (%s, %s)
ON DUPLICATE KEY UPDATE issued = GREATEST(issued, VALUES(issued))"""
ADOPT_HEAD: Final = NEW_HEAD + " ON DUPLICATE KEY UPDATE head = head"

MOVE: Final = """
UPDATE pollstorm_heads SET head = %s WHERE queue = %s AND epoch = %s AND head = %s"""

# In UTC, because the hour in which a server's own time is set back would be remembered twice.
REMEMBERED: Final = f"""
SELECT epoch, head, superseded_at IS NOT NULL FROM pollstorm_heads
WHERE queue = %s AND (
    epoch = %s OR superseded_at IS NULL
    OR superseded_at > UTC_TIMESTAMP(6) - INTERVAL {REMEMBERED_S} SECOND)
ORDER BY epoch"""
SUPERSEDE: Final = """
UPDATE pollstorm_heads SET superseded_at = UTC_TIMESTAMP(6)
WHERE queue = %s AND epoch <> %s AND superseded_at IS NULL"""
REINSTATE: Final = "UPDATE pollstorm_heads SET superseded_at = NULL WHERE queue = %s AND epoch = %s"


class Heads:
    """The epochs of all queues, over one thread's connection."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def issue(self, queue: str) -> int | Failure:
        """The number of a new epoch, with its head before the first ticket.

        Counting up locks the queue's row until the commit, so no two can get the same number, and
        nobody waits for more than that one row.
        """

        def transaction(connection: "Connection[Cursor]") -> int:
            connection.begin()
            with connection.cursor() as cursor:
                cursor.execute(COUNT_UP, (queue,))
                cursor.execute(ISSUED, (queue,))
                (epoch,) = cursor.fetchone() or (0,)
                cursor.execute(NEW_HEAD, (queue, epoch, first_of(epoch)))
            connection.commit()
            return int(epoch)

        return self._link.attempt(transaction)

    def read(self, queue: str, current: int) -> list[int] | Failure:
        """The heads of all epochs that may be in use, oldest first.

        The others than the current one count as superseded from now on, if they did not already;
        a current epoch of 0 is not known, and changes nothing. One that was never issued here is
        that of another database, whose memcached has outlived it: it is drained from its start.
        """

        def transaction(connection: "Connection[Cursor]") -> list[int]:
            with connection.cursor() as cursor:
                cursor.execute(REMEMBERED, (queue, current))
                rows = cursor.fetchall()
                if current and all(epoch != current for epoch, _, _ in rows):
                    _adopt(connection, queue, current)
                    cursor.execute(REMEMBERED, (queue, current))
                    rows = cursor.fetchall()
                if current and any(epoch != current and not marked for epoch, _, marked in rows):
                    cursor.execute(SUPERSEDE, (queue, current))
                if any(epoch == current and marked for epoch, _, marked in rows):
                    cursor.execute(REINSTATE, (queue, current))
            return [int(head) for _, head, _ in rows]

        return self._link.attempt(transaction)


def _adopt(connection: "Connection[Cursor]", queue: str, epoch: int) -> None:
    """Give a strange epoch a head, and never issue its number."""
    connection.begin()
    with connection.cursor() as cursor:
        cursor.execute(ADOPT_NUMBER, (queue, epoch))
        cursor.execute(ADOPT_HEAD, (queue, epoch, first_of(epoch)))
    connection.commit()


def move(cursor: Cursor, moves: Sequence[Move]) -> bool:
    """Move the heads; False as soon as one is not where it is to move from, or does not move.

    In order of queue and ticket, so that two transactions lock them in the same order.
    """
    return all(
        cursor.execute(MOVE, (new, queue, epoch_of(old), old)) == 1
        for queue, old, new in sorted(moves)
    )
