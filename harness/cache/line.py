"""One memcached daemon, spoken to by meta commands over the connection of a pymemcache client.

Connecting, time-outs, TLS and pools are pymemcache's; what is sent and read is ours, because its
own calls cannot tell a write that was refused from one whose reply was lost, nor ask for a lease.
As everywhere here nothing is repeated that might have been carried out.
"""

from collections.abc import Iterator, Sequence
from socket import socket
from typing import Final

from pymemcache.client.base import Client, PooledClient

from harness.cache.answer import Answer, answer_at
from harness.cache.breaker import Breaker
from harness.cache.meta_client import (
    CHUNK_BYTES,
    CHUNK_COMMANDS,
    CHUNK_RECEIVE_BYTES,
    MAX_REPLY_BYTES,
    RECEIVE_BYTES,
    MetaClient,
    give_up,
    why_not_ready,
)
from harness.protocol.commands import Status

SHOWN_BYTES: Final = 60  # of an answer that is none


class Line:
    """A daemon behind one client: for one thread at a time."""

    def __init__(self, client: Client) -> None:
        self.daemon = daemon_of(client)
        self._client = client
        self._breaker: Breaker | None = client.breaker if isinstance(client, MetaClient) else None

    def ask(self, request: bytes) -> Answer:
        """Its answer; `UNREACHABLE` or `LOST`, with the reason, if there is none."""
        found = self._ask(request)
        return found if isinstance(found, Answer) else self._lost(found)

    def read(self, request: bytes) -> Answer:
        """As `ask`, for what changes nothing there: asked again if the connection lay idle, and
        was found broken. The daemon may have been started anew meanwhile.
        """
        idle = self._client.sock is not None
        found = self._ask(request)
        if isinstance(found, Answer):
            return found
        lost = self._lost(found)
        return self.ask(request) if idle and isinstance(found, ConnectionError) else lost

    def ask_all(self, requests: Sequence[bytes]) -> list[Answer]:
        """An answer to each; all of a chunk are sent before the first answer is read.

        When the connection breaks, the chunk's unanswered requests are `LOST`; what had not been
        sent yet is `UNREACHABLE`.
        """
        answers: list[Answer] = []
        for chunk in chunks_of(requests):
            reason = why_not_ready(self._client, self._breaker)
            if reason:
                break
            answers += self._converse(chunk)
            if self._client.sock is None:
                reason = answers[-1].why
                break
        else:
            return answers
        unsent = self._failed(Status.UNREACHABLE, f"cannot be reached: {reason}")
        return answers + [unsent] * (len(requests) - len(answers))

    def close(self) -> None:
        self._client.close()

    def _ask(self, request: bytes) -> Answer | OSError | ValueError:
        client = self._client
        if client.sock is None or self._breaker:
            reason = why_not_ready(client, self._breaker)
            if reason:
                return self._failed(Status.UNREACHABLE, f"cannot be reached: {reason}")
        try:
            connection = client.sock
            assert connection is not None
            connection.sendall(request)
            received = connection.recv(RECEIVE_BYTES)
            while (found := answer_at(received, 0)) is None:
                received = _more(connection, received)
            answer, end = found
            if end != len(received):
                raise ValueError("more than one answer")
        except (OSError, ValueError) as error:
            return error
        except BaseException:  # the next answer on this connection would be to this request
            client.close()
            raise
        if self._breaker and self._breaker.is_open:
            self._breaker.reset()
        return self._named(answer)

    def _converse(self, requests: Sequence[bytes]) -> list[Answer]:
        answers: list[Answer] = []
        received, start = b"", 0
        try:
            connection = self._client.sock
            assert connection is not None
            connection.sendall(b"".join(requests))
            while len(answers) < len(requests):
                while (found := answer_at(received, start)) is None:
                    received, start = _more(connection, received[start:]), 0
                answer, start = found
                answers.append(self._named(answer))
            if start != len(received):
                raise ValueError("more answers than requests")
        except (OSError, ValueError) as error:
            lost = self._lost(error)
            return answers + [lost] * (len(requests) - len(answers))
        except BaseException:
            self._client.close()
            raise
        if self._breaker and self._breaker.is_open:
            self._breaker.reset()
        return answers

    def _lost(self, error: OSError | ValueError) -> Answer:
        give_up(self._client, self._breaker, error)
        if isinstance(error, BlockingIOError | TimeoutError):
            return self._failed(Status.LOST, "did not answer in time")
        if "ERROR" in str(error):
            error = ValueError(f"{error}; is it memcached, 1.6 or later?")
        return self._failed(Status.LOST, f"did not answer: {error}")

    def _named(self, answer: Answer) -> Answer:
        if not answer.why:
            return answer
        return answer._replace(why=f"memcached at {self.daemon} refused: {answer.why}")

    def _failed(self, status: Status, what: str) -> Answer:
        return Answer(status, why=f"memcached at {self.daemon} {what}")


class PooledLine:
    """A daemon behind a pool of clients: for any number of threads."""

    def __init__(self, client: PooledClient) -> None:
        self.daemon = daemon_of(client)
        self._client = client

    def ask(self, request: bytes) -> Answer:
        with self._client.client_pool.get_and_release(destroy_on_fail=True) as client:
            return Line(client).ask(request)

    def read(self, request: bytes) -> Answer:
        with self._client.client_pool.get_and_release(destroy_on_fail=True) as client:
            return Line(client).read(request)

    def ask_all(self, requests: Sequence[bytes]) -> list[Answer]:
        with self._client.client_pool.get_and_release(destroy_on_fail=True) as client:
            return Line(client).ask_all(requests)

    def close(self) -> None:
        self._client.close()


def _more(connection: socket, received: bytes) -> bytes:
    piece = connection.recv(CHUNK_RECEIVE_BYTES)
    if not piece:
        raise ConnectionError("it closed the connection")
    if len(received) > MAX_REPLY_BYTES:
        raise ValueError(f"an answer without end: {received[:SHOWN_BYTES]!r}")
    return received + piece


def line_to(client: Client | PooledClient) -> Line | PooledLine:
    """Raises TypeError for a client that hides what becomes of a command."""
    if isinstance(client, PooledClient):
        return PooledLine(client)
    if isinstance(client, Client):
        return Line(client)
    raise TypeError(
        f"{type(client).__name__} is no Client or PooledClient of pymemcache. HashClient answers "
        "False or None for a daemon that is down, RetryingClient repeats what was carried out; "
        "give one client for each daemon, and say whether keys may move"
    )


def daemon_of(client: Client | PooledClient) -> str:
    """As `host:port`, or the path of its socket."""
    server = client.server
    return f"{server[0]}:{server[1]}" if isinstance(server, tuple) else str(server)


def chunks_of(requests: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The requests in turn, as many together as may be sent before an answer is read."""
    start = size = 0
    for number, request in enumerate(requests):
        full = size + len(request) > CHUNK_BYTES or number - start == CHUNK_COMMANDS
        if full and number > start:
            yield requests[start:number]
            start, size = number, 0
        size += len(request)
    if start < len(requests):
        yield requests[start:]
