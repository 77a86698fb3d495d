"""Whom we may load: this machine, and what the user has named."""

import ipaddress
import socket
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from harness.credentials import told_url
from harness.errors import PlanError
from harness.plan import host_of


class Existing(NamedTuple):
    """Services instead of private ones: host:port of each memcached, mysql:// URL of a database."""

    memcached: tuple[str, ...] = ()
    database: str | None = None

    def with_secrets(self) -> "Existing":
        """With the password that the environment has, if the URL names one. Raises PlanError."""
        if self.database is None:
            return self
        return self._replace(database=told_url(self.database, "--database"))

    def require_allowed(self, allowed: tuple[str, ...]) -> None:
        """Raises PlanError for an address that cannot be read, or is elsewhere and not allowed."""
        for address in self.memcached:
            require_loopback(host_of(address, "memcached"), allowed)
        if self.database is not None:
            self.with_secrets()  # refused now rather than when services start
            parts = urlsplit(self.database)
            if parts.scheme != "mysql" or not parts.hostname:
                raise PlanError("--database: write mysql://user:password@host:port/name")
            if "unix_socket" not in parse_qs(parts.query):
                require_loopback(parts.hostname, allowed)


def require_loopback(host: str, allowed: tuple[str, ...]) -> None:
    """Raises PlanError for a host that is neither this machine's loopback nor in `allowed`."""
    if host not in allowed and not is_loopback(host):
        raise PlanError(
            f"{host} is not on this machine; name it with --allow-target {host} "
            "if it is yours to load"
        )


def is_loopback(host: str) -> bool:
    """Whether the name stands for loopback addresses only; one that nobody knows does not."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)
