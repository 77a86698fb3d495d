"""A client that always has the same number of requests under way: for measuring a server's most.

No model of voters: a closed loop hides stalls, so no latency is taken from it.
"""

import itertools
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from time import perf_counter
from typing import Final

from harness.vote import mint

RECEIVE_BYTES: Final = 65_536
ANSWER_S: Final = 10.0  # no answer for so long: the server has stopped


def votes(poll: str, generator: int) -> Iterator[bytes]:
    """Requests that each carry a vote of their own."""
    for number in itertools.count():
        vote = mint(generator, number)
        body = b'{"vote":"%016x","choice":%d,"voter":"v%016x"}' % (vote, 1 + number % 3, vote)
        yield _post(b"/polls/%s/votes" % poll.encode(), body)


def voids() -> Iterator[bytes]:
    """Requests of the same size to the route that does nothing."""
    body = b'{"vote":"%016x","choice":1,"voter":"v%016x"}' % (0, 0)
    return itertools.repeat(_post(b"/void", body))


def answered_per_s(
    host: str, port: int, requests: Iterator[bytes], connections: int, lasts_s: float
) -> float:
    """Requests answered with 2xx per second. Raises RuntimeError for any other answer."""
    with ExitStack() as closing, selectors.DefaultSelector() as ready:
        for _ in range(connections):
            connection = closing.enter_context(socket.create_connection((host, port)))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(connection, selectors.EVENT_READ)
            connection.sendall(next(requests))
        answered = 0
        begin_s = now_s = perf_counter()
        while now_s - begin_s < lasts_s:
            events = ready.select(ANSWER_S)
            if not events:
                raise RuntimeError(f"no answer within {ANSWER_S:g} s")
            for key, _ in events:
                answer = key.fileobj.recv(RECEIVE_BYTES)  # type: ignore[union-attr]
                if not answer.startswith(b"HTTP/1.1 2"):
                    raise RuntimeError(f"the server answered {answer[:200]!r}")
                answered += 1
                key.fileobj.sendall(next(requests))  # type: ignore[union-attr]
            now_s = perf_counter()
        return answered / (now_s - begin_s)


def _post(path: bytes, body: bytes) -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n" % path
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
