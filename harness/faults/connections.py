"""`connections`: somebody else has taken all that MariaDB gives ("too many connections").

Connections are opened until the server refuses more. Those that site and flusher have they keep as
long as they use them; one that idles is ended, as a server does after its `wait_timeout`, and its
place is taken. Who comes back then is refused.
"""

import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from time import monotonic_ns
from typing import Final

import psutil
import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from harness.database.connections import connect
from harness.errors import ServiceError
from harness.fault import Fault
from harness.faults.fault import Met, Reach
from harness.faults.second_client import LOOK_S, TIMEOUT_S, our_mariadb, second_client, status

TOO_MANY: Final = 1040
GONE: Final = 1094  # no such thread: it has ended by itself
SPARE: Final = 10  # beyond the limit: MariaDB keeps one for the administrator
AT_ONCE: Final = 16  # opened side by side: a busy server takes its time with each
TAKES: Final = 20  # a connection that is ended takes milliseconds; somebody else may be quicker
SPARE_FILES: Final = 64  # that the harness opens for something else meanwhile
REFUSED: Final = "Connection_errors_max_connections"
IDLE: Final = """
SELECT id FROM information_schema.processlist WHERE command = 'Sleep'
AND id NOT IN (SELECT trx_mysql_thread_id FROM information_schema.innodb_trx)"""


class Held:
    """Connections that only take up room."""

    def __init__(self, url: str, most: int) -> None:
        self._url = url
        self._most = most
        self._opening = ThreadPoolExecutor(AT_ONCE)
        self._connections: list[Connection[Cursor]] = []
        self.refused = 0

    def fill(self) -> None:
        """Open more until the server refuses one. Raises pymysql.MySQLError, ServiceError."""
        before = self.refused
        while self.refused == before:
            if len(self._connections) > self._most:
                raise ServiceError(f"MariaDB gave {len(self._connections)} connections, and more")
            self._open_some(AT_ONCE)

    def take(self, places: int) -> None:
        """Open as many as are about to become free. Raises pymysql.MySQLError."""
        for _ in range(TAKES):
            if places <= 0:
                return
            places -= self._open_some(min(places, AT_ONCE))

    def _open_some(self, number: int) -> int:
        """Open at most so many, side by side; how many were not refused."""
        opened = [one for one in self._opening.map(lambda _: self._open(), range(number)) if one]
        self._connections += opened
        self.refused += number - len(opened)
        return len(opened)

    def _open(self) -> "Connection[Cursor] | None":
        """One more, or None if it is refused."""
        try:
            return connect(self._url, TIMEOUT_S)
        except pymysql.err.OperationalError as error:
            if error.args[0] != TOO_MANY:
                raise
            return None

    def ids(self) -> set[int]:
        """As the server numbers them."""
        return {_id_of(connection) for connection in self._connections}

    def close(self) -> None:
        self._opening.shutdown()
        for connection in self._connections:
            with suppress(pymysql.Error):
                connection.close()


def start(fault: Fault, reach: Reach) -> Met | None:
    """Take all connections until the time is over; None when nobody else was refused.

    Raises ServiceError when they cannot be had, or the database is not ours.
    """
    our_mariadb(reach)
    most = reach.plan.database.max_connections + SPARE + AT_ONCE
    held = Held(reach.database, most)
    with second_client(reach) as cursor, _room_for(most):
        try:
            before = status(cursor, REFUSED)
            held.fill()
            full_ns, ended = monotonic_ns(), 0
            while (left_s := fault.for_s - reach.since_s(full_ns)) > 0:
                now_ended = _end_idle(cursor, held)
                held.take(now_ended)
                ended += now_ended
                if reach.ended.wait(min(LOOK_S, left_s)):
                    break
            refused = status(cursor, REFUSED) - before - held.refused
        finally:
            held.close()
    if refused <= 0:
        return None
    detail = f"all connections taken, {ended:,} idle ones ended, {refused:,} new ones refused"
    return Met(detail, at_ns=full_ns)


def _end_idle(cursor: Cursor, held: Held) -> int:
    """End the others' connections that idle; how many."""
    ours = held.ids() | {_id_of(cursor.connection)}
    cursor.execute(IDLE)
    others = [number for (number,) in cursor.fetchall() if number not in ours]
    for number in others:
        try:
            cursor.execute("KILL CONNECTION %s", (number,))
        except pymysql.MySQLError as error:
            if error.args[0] != GONE:
                raise
    return len(others)


def _id_of(connection: "Connection[Cursor]") -> int:
    return int(connection.thread_id())  # type: ignore[no-untyped-call]


@contextmanager
def _room_for(connections: int) -> Iterator[None]:
    """Let this process have so many more files open. Raises ServiceError where it may not."""
    before, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = psutil.Process().num_fds() + connections + SPARE_FILES
    if limit != resource.RLIM_INFINITY and wanted > limit:
        raise ServiceError(f"this process may have {limit} files open, and {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, wanted), limit))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, limit))
