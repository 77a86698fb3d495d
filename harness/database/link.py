"""One thread's connection, and how a transaction on it may end.

What the server refuses it has not written, because it rolls back what it cannot finish. Only when
the reply to what commits is lost does the outcome stay unknown.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from harness.database.connections import connect

ROLLED_BACK: Final = (1205, 1213)  # lock wait timeout, deadlock: try again
CLIENT_ERRORS: Final = range(2000, 3000)  # the connection's, not the server's: no answer was seen
UNSURE: Final = (1180,)  # an error during COMMIT, which does not say how far that had come
MAX_TRIES: Final = 3  # two processes that deadlock once rarely do so twice


class Failure(Enum):
    """Why a transaction has no result."""

    REFUSED = "refused"  # certainly not committed
    UNKNOWN = "unknown"  # the reply to the commit was lost


Result = TypeVar("Result")
Transaction: TypeAlias = Callable[["Connection[Cursor]"], Result]


class Link:
    """A connection that is opened when first used, and closed on any failure."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._connection: Connection[Cursor] | None = None

    def connected(self) -> "Connection[Cursor]":
        """Raises pymysql.MySQLError."""
        if self._connection is None:
            self._connection = connect(self._url, self._timeout_s)
        return self._connection

    def select(self, statement: str, argument: object) -> tuple[tuple[Any, ...], ...]:
        """The rows that it finds. Raises pymysql.MySQLError.

        A connection that lay idle may have ended with a server that was restarted meanwhile; to
        read is then tried again over a new one. Not after a time-out, which would double it.
        """
        idle = self._connection is not None
        try:
            return self._select(statement, argument)
        except pymysql.MySQLError as error:
            timed_out = isinstance(error.__context__, TimeoutError)
            if not idle or timed_out or error.args[0] not in CLIENT_ERRORS:
                raise
        return self._select(statement, argument)

    def _select(self, statement: str, argument: object) -> tuple[tuple[Any, ...], ...]:
        try:
            with self.connected().cursor() as cursor:
                cursor.execute(statement, (argument,))
                return tuple(cursor.fetchall())
        except BaseException:
            self.close()
            raise

    def attempt(self, transaction: Transaction[Result]) -> Result | Failure:
        """What it returns; it is run again if the server rolled it back by itself.

        A try that failed leaves nothing behind for the next: its connection is closed, which rolls
        back what the server had not, and the next try waits for the locks of the one before.
        """
        for _ in range(MAX_TRIES):
            try:
                connection = self.connected()
            except pymysql.MySQLError:
                return Failure.REFUSED
            try:
                return transaction(connection)
            except pymysql.MySQLError as error:
                self.close()
                code = error.args[0] if error.args else None
                if not isinstance(code, int) or code in CLIENT_ERRORS or code in UNSURE:
                    return Failure.UNKNOWN
                if code not in ROLLED_BACK:
                    return Failure.REFUSED
            except BaseException:
                self.close()
                raise
        return Failure.REFUSED

    def close(self) -> None:
        """Drop the connection, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection._force_close()  # type: ignore[attr-defined]  # close() would ask the server
