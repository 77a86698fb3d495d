"""From a `mysql://` URL to a PyMySQL connection."""

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import pymysql
from pymysql.connections import Connection

from harness.errors import PlanError

DEFAULT_PORT: Final = 3306
READ_COMMITTED: Final = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"


def connect(url: str, timeout_s: float) -> "Connection[pymysql.cursors.Cursor]":
    """Connect to `mysql://user:password@host:port/name[?unix_socket=/path&ssl_disabled=1]`.

    A server that offers TLS is spoken to by TLS. Where that is disabled PyMySQL does not get ready
    for it either, which takes 20 ms of a core for each connection.

    A statement outside `begin` and `commit` commits by itself, and sees what was committed before
    it. Raises PlanError for a URL of another form, pymysql.err.OperationalError when the server
    does not answer in time.
    """
    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise PlanError(f"the port in the database's URL: {error}") from error
    if parts.scheme != "mysql" or not parts.hostname or not name:
        raise PlanError("the database's URL must be like mysql://user:password@host:port/name")
    options = parse_qs(parts.query)
    socket = options.get("unix_socket", [None])[0]
    return pymysql.connect(
        host=parts.hostname,
        port=port,
        unix_socket=socket,
        ssl_disabled="ssl_disabled" in options,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=name,
        charset="utf8mb4",
        autocommit=True,
        init_command=READ_COMMITTED,
        connect_timeout=max(1, round(timeout_s)),
        read_timeout=timeout_s,
        write_timeout=timeout_s,
    )
