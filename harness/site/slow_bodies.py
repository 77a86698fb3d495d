"""Whoever sends a body too slowly is answered, and cut off, so that no thread waits for ever.

Theory of operation
    Granian limits how long the head of a request may take, not its body, and nothing ends a read
    that is under way but the end of its connection. Which connection that is, Granian tells
    nobody. But it lets any thread answer a request, even while its own still reads. So the answer
    is the mark: of the connections on which nothing had been written for as long as the body took,
    the one on which an answer of its size has just been written is the one to end.

    A connection that is taken for it by chance has just got an answer of the same size, whole,
    after as long a silence: its client connects anew, as after any pause.

Only on Linux: the process's own connections are found in /proc, and what was written on them is
asked of TCP_INFO. Elsewhere a slow body holds its thread.
"""

import math
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from threading import get_ident
from time import monotonic, sleep
from types import FrameType
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from harness.site import log, problem

HURRIED_S: Final = 1.0  # for a body, while more come than there are threads to spare
LOOK_S: Final = 0.25  # between two looks: a body may take so much longer
WRITTEN_S: Final = 0.05  # until an answer lies in its connection's buffer
MARK_BYTES: Final = 3000  # of an answer's body, padded: other problems have 200 to 300
HEAD_BYTES: Final = 1000  # of its head, at most


class Patience(NamedTuple):
    """How long a body may take, and what its sender is told when it takes longer."""

    limit_s: float
    tell: Callable[[], problem.Problem]


Turn: TypeAlias = list[Patience]
"""One body's. Empty once it is over: whoever takes the patience out, the reader or the watcher,
decides how it ended."""

_turns: Final[dict[int, Turn]] = {}
"""The last turn of each thread. On the path of every vote: nothing is locked, removed or timed."""

_DESCRIPTORS: Final = Path("/proc/self/fd")
_LAST_DATA_SENT_MS: Final = (struct.Struct("=I"), 44)  # where struct tcp_info has it
_BYTES_ACKED: Final = (struct.Struct("=Q"), 120)
_INFO_BYTES: Final = 128
_COUNT: Final = struct.Struct("=i")


class Overdue(NamedTuple):
    """A body that takes too long; its outcome is ours to tell."""

    thread: int
    turn: Turn
    told: problem.Problem


def read(stream: Any, size: int, patience: Patience) -> bytes:
    """What comes of a body, up to so many bytes. Raises Problem when that takes too long."""
    turn = [patience]
    _turns[get_ident()] = turn
    received: bytes = stream.read(size)
    try:
        turn.pop()
    except IndexError:  # the watcher was here
        raise patience.tell() from None
    return received


def discard(stream: Any, chunk: int, chunks: int, patience: Patience) -> None:
    """Read a body to its end, up to so many chunks. Raises Problem when that takes too long."""
    turn = [patience]
    _turns[get_ident()] = turn
    for _ in range(chunks):
        if len(stream.read(chunk)) < chunk or not turn:
            break
    if not turn:
        raise patience.tell()
    turn.clear()


class Watcher:
    """Looks at bodies that come to a port, and cuts off slow ones.

    `spare`: how many may come at a time without any hurry.
    """

    def __init__(self, port: int, spare: int) -> None:
        self._port = port
        self._spare = spare
        self._since: dict[int, tuple[Turn, float]] = {}  # by thread: when first seen, s

    def watch(self) -> None:
        """For ever."""
        while True:
            sleep(LOOK_S)
            try:
                overdue = self.look(monotonic())
                if overdue:
                    cut_off(overdue, self._port)
            except Exception as error:
                log.unforeseen("cutting off a slow body", error)

    def look(self, now_s: float) -> list[Overdue]:
        """Bodies that have taken too long; their readers will not go on."""
        before, self._since = self._since, {}
        for thread, turn in _turns.copy().items():
            if turn:
                seen, since_s = before.get(thread, (turn, now_s))
                self._since[thread] = turn, since_s if seen is turn else now_s
        limit_s = HURRIED_S if len(self._since) > self._spare else math.inf
        overdue = []
        for thread, (turn, since_s) in self._since.items():
            with suppress(IndexError):  # its reader was quicker
                if now_s - since_s >= min(limit_s, turn[0].limit_s):
                    overdue.append(Overdue(thread, turn, turn.pop().tell()))
        return overdue


def cut_off(overdue: list[Overdue], port: int) -> None:
    """Answer them, and end their connections, which are among those to the port."""
    found = [(_request_of(body), body.told) for body in overdue]
    requests = [(request, told) for request, told in found if request is not None]
    if not requests:  # no answer, no mark: whatever bore one by chance would be ended
        return
    before = dict(_silent(port))
    for request, told in requests:
        _answer(request, told)
    sleep(WRITTEN_S)
    for descriptor, written in before.items():
        with suppress(OSError), _connection(descriptor) as connection:
            if MARK_BYTES <= _written(connection) - written <= MARK_BYTES + HEAD_BYTES:
                connection.shutdown(socket.SHUT_RDWR)


def _request_of(overdue: Overdue) -> Any:
    """Granian's side of the request that is still read; None if it no longer is.

    A frame that has ended leads to none, so what is found is of the same request.
    """
    frame = sys._current_frames().get(overdue.thread)
    while frame and not _reads(frame, overdue.turn):
        frame = frame.f_back
    while frame and "proto" not in frame.f_locals:  # as `granian.wsgi` calls it
        frame = frame.f_back
    return frame.f_locals["proto"] if frame else None


def _reads(frame: FrameType, turn: Turn) -> bool:
    ours = frame.f_code in (read.__code__, discard.__code__)
    return ours and frame.f_locals.get("turn") is turn


def _answer(request: Any, told: problem.Problem) -> None:
    """Only the first answer to a request counts, so its own thread may be too late, or we."""
    headers = [("content-type", problem.MEDIA_TYPE), ("connection", "close")]
    body = msgspec.json.encode(told.details()).ljust(MARK_BYTES)  # JSON may end in blanks
    request.response_bytes(told.status, headers, body)


def _silent(port: int) -> Iterator[tuple[int, int]]:
    """By descriptor, connections to the port on which nothing was written for so long, and how
    many bytes were before."""
    for path in _DESCRIPTORS.iterdir():
        with suppress(OSError), _connection(int(path.name)) as connection:
            address = connection.getsockname()
            ours = isinstance(address, tuple) and address[1] == port
            if ours and _ask(connection, _LAST_DATA_SENT_MS) >= 1000 * HURRIED_S:
                yield int(path.name), _written(connection)


@contextmanager
def _connection(descriptor: int) -> Iterator[socket.socket]:
    """Granian's, which stays open. OSError within the block: it was none, or it is closed."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _written(connection: socket.socket) -> int:
    """Bytes written to it so far, arrived or not."""
    unsent: int = _COUNT.unpack(ioctl(connection, termios.TIOCOUTQ, bytes(_COUNT.size)))[0]
    return _ask(connection, _BYTES_ACKED) + unsent


def _ask(connection: socket.socket, field: tuple[struct.Struct, int]) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    value: int = field[0].unpack_from(info, field[1])[0]
    return value
