"""A client of the trial's database beside site and flusher, and what it can ask there."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import pymysql
from pymysql.cursors import Cursor

from harness.database.connections import connect
from harness.errors import ServiceError
from harness.faults.fault import Reach
from harness.services.mariadb import MariadbServer

TIMEOUT_S: Final = 10.0  # to a question; longer than anything that it may wait for
LOOK_S: Final = 0.02  # between two looks at the server: some 50 a second do not disturb it


@contextmanager
def second_client(reach: Reach) -> Iterator[Cursor]:
    """A cursor of its own, past any proxy. Raises ServiceError for what the database says."""
    try:
        with (
            closing(connect(reach.database, TIMEOUT_S)) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor
    except pymysql.MySQLError as error:
        raise ServiceError(
            f"the database says: {error.args[-1] if error.args else error}"
        ) from error


def our_mariadb(reach: Reach) -> MariadbServer:
    """Raises ServiceError when the database is an existing one, which others may use."""
    if reach.stack.mariadb is None:
        raise ServiceError("the database is not ours; this is only done to a private one")
    return reach.stack.mariadb


def status(cursor: Cursor, name: str) -> int:
    """A counter or gauge of the whole server."""
    cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
    row = cursor.fetchone()
    assert row is not None, f"MariaDB has no status {name}"
    return int(row[1])
