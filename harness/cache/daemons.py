"""Several memcached daemons as one: the ring says on which of them a key lies.

With rehashing, a command that certainly was not carried out is tried once more on each daemon that
its key moves to. One that was sent and not answered is not, since nobody knows what it did.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pymemcache.client.base import Client, PooledClient

from harness.cache.answer import Answer
from harness.cache.line import Line, PooledLine, line_to
from harness.cache.ring import Ring
from harness.errors import CacheError
from harness.protocol.commands import UNANSWERED, Status


class DaemonDown(CacheError):
    """A memcached cannot be reached, or did not answer: start it, or see to the way to it."""


class Request(NamedTuple):
    """A meta command, and the key by which its daemon is found."""

    name: str
    command: bytes


class Daemons:
    """One daemon, or several with their ring."""

    def __init__(self, clients: Sequence[Client | PooledClient], ring: Ring | None) -> None:
        self._lines = [line_to(client) for client in clients]
        self._ring = ring
        self._only = self._lines[0] if len(self._lines) == 1 else None

    def ask(self, request: Request) -> Answer:
        """The answer of the daemon that has the key, or the reason why there is none."""
        if self._only is not None:
            return self._only.ask(request.command)
        return self._ask_ring(request, lambda line: line.ask(request.command))

    def read(self, request: Request) -> Answer:
        """What is there; `OK` or `MISSING`. The request must change nothing.

        Raises DaemonDown without an answer, CacheError when it is refused.
        """
        if self._only is not None:
            return answered(self._only.read(request.command))
        return answered(self._ask_ring(request, lambda line: line.read(request.command)))

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer to each: one round trip to each daemon that has some, or a few if many."""
        if self._only is not None:
            return self._only.ask_all([each.command for each in requests])
        answers: dict[int, Answer] = {}
        left = list(range(len(requests)))
        while left:  # each time one daemon's are answered, or it is found dead
            daemon = self._daemon_of(requests[left[0]].name)
            mine = [n for n in left if self._daemon_of(requests[n].name) == daemon]
            found = self._lines[daemon].ask_all([requests[n].command for n in mine])
            moved = any(each.status in UNANSWERED for each in found) and self._mark_dead(daemon)
            for n, answer in zip(mine, found, strict=True):
                if answer.status is not Status.UNREACHABLE or not moved:
                    answers[n] = answer
                    left.remove(n)
        return [answers[n] for n in range(len(requests))]

    def read_all(self, requests: Sequence[Request]) -> list[Answer]:
        """As `ask_all`, for requests that change nothing. Raises as `read`."""
        return [answered(each) for each in self.ask_all(requests)]

    def close(self) -> None:
        """Close all connections; they are opened again when needed."""
        for line in self._lines:
            line.close()

    def _ask_ring(self, request: Request, ask: Callable[[Line | PooledLine], Answer]) -> Answer:
        while True:  # at most once for each daemon: an alive one is left, or else it ends
            daemon = self._daemon_of(request.name)
            answer = ask(self._lines[daemon])
            moved = answer.status in UNANSWERED and self._mark_dead(daemon)
            if answer.status is not Status.UNREACHABLE or not moved:
                return answer

    def _daemon_of(self, name: str) -> int:
        assert self._ring is not None
        return self._ring.daemon_of(name)

    def _mark_dead(self, daemon: int) -> bool:
        assert self._ring is not None
        return self._ring.mark_dead(daemon)


def answered(answer: Answer) -> Answer:
    """The answer, if it is one. Raises DaemonDown if not, CacheError when it is refused."""
    if answer.status in UNANSWERED:
        raise DaemonDown(answer.why)
    if answer.status is Status.REFUSED:
        raise CacheError(answer.why)
    return answer
