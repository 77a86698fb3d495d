"""The bytes that a voter sends, with all that can be known beforehand already in place."""

import ipaddress
import os
import socket
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from harness.errors import PlanError
from harness.load.answer import outcome_of
from harness.plan import TargetPlan, Voters
from harness.vote import FIRST_CAST, MAX_CHOICES, Outcome, Poll, VoteId, voter_number

ALLOW_TARGET: Final = "POLLSTORM_ALLOW_TARGET"
"""Names the hosts off loopback that may be loaded, with commas between them."""


class Target(NamedTuple):
    """Where the site listens."""

    host: str
    port: int

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """The target of `http://host[:port]`. Raises PlanError for anything else."""
        try:
            parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
            port = parts.port or 80
        except ValueError as error:
            raise PlanError(f"host {url!r}: {error}") from None
        if parts.scheme != "http" or not parts.hostname:
            raise PlanError(f"host {url!r}: give it as http://127.0.0.1:8000")
        if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
            raise PlanError(
                f"host {url!r}: give no more than http://host:port; paths and headers are for the "
                "plan's table [target]"
            )
        return cls(parts.hostname, port)

    def require_allowed(self) -> None:
        """A load test of somebody else's site is an attack. Raises PlanError off loopback."""
        if self.host in allowed_hosts():
            return
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise PlanError(f"host {self.host!r} is unknown: {error.strerror}") from None
        if not all(ipaddress.ip_address(address[4][0]).is_loopback for address in found):
            raise PlanError(
                f"{self.host} is not this machine; if it is yours to load, name it with "
                f"--allow-target {self.host}, or set {ALLOW_TARGET}={self.host}"
            )


def allowed_hosts() -> frozenset[str]:
    """Those that `ALLOW_TARGET` names."""
    named = os.environ.get(ALLOW_TARGET, "").split(",")
    return frozenset(host.strip() for host in named if host.strip())


class Requests:
    """The requests of one load: a vote's differs from the next by its id and its voter only.

    Voters are named as `voter_of` has it, among so many generators.
    """

    def __init__(self, target: Target, poll: Poll, voters: Voters, generators: int) -> None:
        self._votes_each = voters.votes_each
        self._generators = generators
        self._common = (
            f"Host: {target.host}:{target.port}\r\n"
            "User-Agent: pollstorm\r\n"
            f"Connection: {'keep-alive' if voters.keep_alive else 'close'}\r\n"
        )
        self.votes_path = f"/polls/{poll.name}/votes"
        self.results_path = f"/polls/{poll.name}/results"
        self.results = f"GET {self.results_path} HTTP/1.1\r\n{self._common}\r\n".encode()
        self._vote_on = [self._template(choice) for choice in range(MAX_CHOICES + 1)]

    def outcome_of(self, status: int) -> Outcome:
        """What an HTTP status tells the voter about the vote."""
        return outcome_of(status)

    def vote(self, vote_id: VoteId, choice: int) -> bytes:
        """A vote with its id, and the name of its voter."""
        if self._votes_each == 1:  # as `voter_number` has it, without a call
            return self._vote_on[choice] % (vote_id, vote_id & FIRST_CAST)
        voter = voter_number(vote_id, self._votes_each, self._generators)
        return self._vote_on[choice] % (vote_id, voter)

    def _template(self, choice: int) -> bytes:
        body = f'{{"vote":"%016x","choice":{choice},"voter":"v%016x"}}'
        length = len(body % (0, 0))
        head = (
            f"POST {self.votes_path} HTTP/1.1\r\n{self._common}"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
        return (head + body).encode()


class ForeignRequests(Requests):
    """The requests as somebody else's server takes them."""

    def __init__(
        self, target: Target, poll: Poll, voters: Voters, generators: int, server: TargetPlan
    ) -> None:
        super().__init__(target, poll, voters, generators)
        self._poll = poll.name
        self._body = server.body
        self._acknowledged = frozenset(server.acknowledged)
        self._unknown = frozenset(server.unknown)
        own = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items())
        self._head = f"{self._common}{own}Content-Type: {server.content_type}\r\n"
        self.votes_path = server.vote_path.replace("{poll}", poll.name)
        self.results_path = server.results_path.replace("{poll}", poll.name)
        self.results = f"GET {self.results_path} HTTP/1.1\r\n{self._common}{own}\r\n".encode()

    def outcome_of(self, status: int) -> Outcome:
        if status in self._acknowledged:
            return Outcome.ACKNOWLEDGED
        return Outcome.UNKNOWN if status in self._unknown else outcome_of(status)

    def vote(self, vote_id: VoteId, choice: int) -> bytes:
        voter = voter_number(vote_id, self._votes_each, self._generators)
        values = {
            "{poll}": self._poll,
            "{vote}": f"{vote_id:016x}",
            "{number}": str(vote_id),
            "{choice}": str(choice),
            "{voter}": f"v{voter:016x}",
        }
        path, body = _filled(self.votes_path, values), _filled(self._body, values).encode()
        head = f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


def _filled(text: str, values: dict[str, str]) -> str:
    for place, value in values.items():
        text = text.replace(place, value)
    return text


class VoidRequests(Requests):
    """The same votes to a route that does nothing: what the generator itself can send."""

    def __init__(self, target: Target, poll: Poll, voters: Voters, generators: int) -> None:
        super().__init__(target, poll, voters, generators)
        self._vote_on = [
            template.replace(self.votes_path.encode(), b"/void", 1) for template in self._vote_on
        ]
        self.votes_path = "/void"
