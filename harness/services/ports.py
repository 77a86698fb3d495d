"""Free ports on the loopback interface."""

import os
import socket
from collections.abc import Callable
from typing import Final, TypeVar

from harness.errors import PlanError, ServiceError

LOOPBACK: Final = "127.0.0.1"
ATTEMPTS: Final = 5  # a port is lost to another process in the few ms before it is used: rare
TAKEN: Final = "ddress already in use"  # as memcached, MariaDB and Python spell it

Server = TypeVar("Server")


def free_port() -> int:
    """A TCP port that nobody listens on now; soon somebody might."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(host: str, port: int) -> None:
    """Raises PlanError when the port that the user asked for cannot be listened on."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        cause = os.strerror(error.errno or 0)  # create_server's own text repeats the address
        raise PlanError(
            f"cannot listen on {host}:{port}: {cause}; choose another port, or 0 for any free one"
        ) from error


def on_free_port(start: Callable[[int], Server]) -> Server:
    """Start a server on a free port, and on another one when the first was lost to a race."""
    for _ in range(ATTEMPTS - 1):
        try:
            return start(free_port())
        except ServiceError as error:
            if TAKEN not in str(error):
                raise
    return start(free_port())
