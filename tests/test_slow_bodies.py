"""Bodies that take too long: whose read is ended, by whom, and whose connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any

import pytest

from harness.site import problem, slow_bodies
from harness.site.slow_bodies import PATIENCE_S, claim_overdue, cut_off, read

SOON_S = 5.0


@pytest.fixture(autouse=True)
def no_other_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_bodies, "_turns", {})


class Gate:
    """A body that comes when it is let in."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def read(self, _size: int) -> bytes:
        assert self._open.wait(SOON_S)
        return b"late"

    def let_in(self) -> None:
        self._open.set()


class Reader(threading.Thread):
    """Reads bodies, one after the other, as a thread of Granian's does."""

    def __init__(self, *requests: Any, patience_s: float = PATIENCE_S) -> None:
        super().__init__(daemon=True)
        self._requests = requests
        self._patience_s = patience_s
        self.received: list[bytes] = []
        self.refusals: list[str] = []
        self.start()
        self.await_turn([])

    def await_turn(self, after: slow_bodies.Turn) -> slow_bodies.Turn:
        """The one that follows; it is reading then."""
        end_s = monotonic() + SOON_S
        while (turn := slow_bodies._turns.get(self.ident or 0, after)) is after:
            assert monotonic() < end_s
            sleep(0.001)
        return turn

    def run(self) -> None:
        for request in self._requests:
            self._callback(request)

    def _callback(self, proto: Any) -> None:
        until_s = monotonic() + self._patience_s
        try:
            self.received.append(read(proto, 100, until_s, problem.body_too_slow))
        except problem.Problem as told:
            self.refusals.append(told.kind)


def test_a_body_that_comes_in_time_is_nobodys_business() -> None:
    gate = Gate()
    reader = Reader(gate)
    assert claim_overdue(monotonic(), spare=1) == []
    gate.let_in()
    reader.join(SOON_S)
    assert reader.received == [b"late"]
    assert claim_overdue(monotonic() + 2 * PATIENCE_S, spare=1) == []


def test_a_read_that_was_claimed_gives_its_reader_nothing_of_the_body() -> None:
    gate = Gate()
    reader = Reader(gate)
    (overdue,) = claim_overdue(monotonic() + PATIENCE_S, spare=1)
    assert overdue.thread == reader.ident
    assert claim_overdue(monotonic() + PATIENCE_S, spare=1) == []  # only once
    gate.let_in()
    reader.join(SOON_S)
    assert (reader.received, reader.refusals) == ([], ["body-too-slow"])


def test_the_more_read_the_less_patience_there_is() -> None:
    gate = Gate()
    readers = [Reader(gate) for _ in range(3)]
    in_a_while_s = monotonic() + slow_bodies.HURRIED_S
    assert claim_overdue(in_a_while_s, spare=3) == []
    assert len(claim_overdue(in_a_while_s, spare=2)) == 3
    gate.let_in()
    for reader in readers:
        reader.join(SOON_S)


class Request:
    """A request as Granian has it, on a connection of ours; its body is what the client sends."""

    def __init__(self, listener: socket.socket) -> None:
        self.client = socket.create_connection(listener.getsockname())
        self.connection, _ = listener.accept()
        self.answers: list[int] = []

    def read(self, size: int) -> bytes:
        return self.connection.recv(size)

    def response_bytes(self, status: int, _headers: list[tuple[str, str]], body: bytes) -> None:
        self.answers.append(status)
        self.connection.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n" + body)

    def close(self) -> None:
        self.client.close()
        self.connection.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_only_the_connections_of_slow_bodies_are_ended(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_bodies, "HURRIED_S", 0.02)  # of silence before
    port = listener.getsockname()[1]
    with ExitStack() as closing:
        requests = [Request(listener) for _ in range(5)]
        for request in requests:
            closing.callback(request.close)
        slow, also_slow, idle, served, in_time = requests
        served.connection.sendall(b"an answer from before")
        readers = [Reader(request, patience_s=0.0) for request in (slow, also_slow)]
        reader_in_time = Reader(in_time)
        sleep(0.05)
        cut_off(claim_overdue(monotonic(), spare=3), port)
        for reader in readers:
            reader.join(SOON_S)  # nothing but the end of its connection ends its read
            assert reader.refusals == ["body-too-slow"]
        assert slow.answers == also_slow.answers == [408]
        assert slow.client.recv(100).startswith(b"HTTP/1.1 408")
        for request in (idle, served, in_time):
            request.client.sendall(b"still here")
        reader_in_time.join(SOON_S)
        assert reader_in_time.received == [b"still here"]
        assert idle.connection.recv(100) == b"still here"
        assert served.connection.recv(100) == b"still here"
        assert served.client.recv(100) == b"an answer from before"
        assert in_time.answers == idle.answers == []


def test_a_request_that_was_answered_meanwhile_is_left_alone_and_so_is_the_next(
    listener: socket.socket,
) -> None:
    request, following = Request(listener), Request(listener)
    reader = Reader(request, following, patience_s=0.0)
    (overdue,) = claimed = claim_overdue(monotonic(), spare=1)
    request.client.sendall(b"at last")
    reader.await_turn(overdue.turn)
    cut_off(claimed, listener.getsockname()[1])
    assert request.answers == following.answers == []
    following.client.sendall(b"in time")
    reader.join(SOON_S)
    assert (reader.received, reader.refusals) == ([b"in time"], ["body-too-slow"])
    request.close()
    following.close()
