"""Bodies that take too long: whose read is ended, by whom, and whose connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any

import pytest

from harness.site import problem, slow_bodies
from harness.site.slow_bodies import HURRIED_S, Overdue, Patience, Watcher, cut_off, discard, read

SOON_S = 5.0
LIMIT_S = 3.0  # of a body; the watcher's clock is ours


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

    def __init__(self, *requests: Any) -> None:
        super().__init__(daemon=True)
        self._requests = requests
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
        try:
            self.received.append(read(proto, 100, Patience(LIMIT_S, problem.body_too_slow)))
        except problem.Problem as told:
            self.refusals.append(told.kind)


@pytest.fixture
def watcher() -> Watcher:
    """One that has seen at 0 s who reads then."""
    return Watcher(port=0, spare=2)


def overdue_at(watcher: Watcher, *times_s: float) -> list[Overdue]:
    """What it finds at the last of these times."""
    *before, last = times_s
    for time_s in before:
        assert watcher.look(time_s) == []
    return watcher.look(last)


def test_a_body_that_comes_in_time_is_nobodys_business(watcher: Watcher) -> None:
    gate = Gate()
    reader = Reader(gate)
    assert overdue_at(watcher, 0.0, LIMIT_S - 0.1) == []
    gate.let_in()
    reader.join(SOON_S)
    assert reader.received == [b"late"]
    assert overdue_at(watcher, 2 * LIMIT_S) == []


def test_a_read_that_took_too_long_gives_its_reader_nothing_of_the_body(watcher: Watcher) -> None:
    gate = Gate()
    reader = Reader(gate)
    (overdue,) = overdue_at(watcher, 0.0, LIMIT_S)
    assert overdue.thread == reader.ident
    assert overdue_at(watcher, LIMIT_S) == []  # only once
    gate.let_in()
    reader.join(SOON_S)
    assert (reader.received, reader.refusals) == ([], ["body-too-slow"])


def test_the_body_after_a_threads_last_one_has_its_own_time(watcher: Watcher) -> None:
    first, second = Gate(), Gate()
    reader = Reader(first, second)
    overdue_at(watcher, 0.0)
    first.let_in()
    reader.await_turn(slow_bodies._turns[reader.ident or 0])
    assert overdue_at(watcher, LIMIT_S, 2 * LIMIT_S - 0.1) == []
    assert len(overdue_at(watcher, 2 * LIMIT_S)) == 1
    second.let_in()
    reader.join(SOON_S)


def test_the_more_read_the_less_patience_there_is(watcher: Watcher) -> None:
    gate = Gate()
    readers = [Reader(gate) for _ in range(2)]
    assert overdue_at(watcher, 0.0, HURRIED_S) == []
    readers.append(Reader(gate))
    assert len(overdue_at(watcher, HURRIED_S + 0.1)) == 2
    gate.let_in()
    for reader in readers:
        reader.join(SOON_S)


class Dripping:
    """A body without end; while it comes, time passes for the watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.reads = 0

    def read(self, size: int) -> bytes:
        self._watcher.look(float(self.reads))
        self.reads += 1
        return b" " * size


def test_all_chunks_of_a_body_that_is_discarded_have_one_time(watcher: Watcher) -> None:
    body = Dripping(watcher)
    with pytest.raises(problem.Problem, match="too long"):
        discard(body, 10, 100, Patience(LIMIT_S, problem.body_too_slow))
    assert body.reads == LIMIT_S + 1


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
    listener: socket.socket, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_bodies, "HURRIED_S", 0.02)  # of silence before
    port = listener.getsockname()[1]
    with ExitStack() as closing:
        requests = [Request(listener) for _ in range(5)]
        for request in requests:
            closing.callback(request.close)
        slow, also_slow, idle, served, in_time = requests
        served.connection.sendall(b"an answer from before")
        readers = [Reader(request) for request in (slow, also_slow)]
        watcher.look(0.0)
        reader_in_time = Reader(in_time)
        sleep(0.05)
        cut_off(watcher.look(LIMIT_S), port)
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


def test_a_request_that_was_answered_meanwhile_is_left_alone_and_so_are_all_others(
    listener: socket.socket, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    monkeypatch.setattr(slow_bodies, "_silent", lambda port: looked_at.append(port) or [])
    request, following = Request(listener), Request(listener)
    reader = Reader(request, following)
    (overdue,) = claimed = overdue_at(watcher, 0.0, LIMIT_S)
    request.client.sendall(b"at last")
    reader.await_turn(overdue.turn)
    cut_off(claimed, listener.getsockname()[1])
    assert request.answers == following.answers == looked_at == []
    following.client.sendall(b"in time")
    reader.join(SOON_S)
    assert (reader.received, reader.refusals) == ([b"in time"], ["body-too-slow"])
    request.close()
    following.close()
