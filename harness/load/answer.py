"""What came back from the site, and what it means for the voter."""

import http.client
import io
from collections.abc import Callable
from typing import Final, NamedTuple

from harness.vote import Outcome

RECEIVE_BYTES: Final = 65_536
# A results page has at most 100 choices; 4 MiB is far beyond any, and bounds what one answer takes.
MAX_ANSWER_BYTES: Final = 4 * 2**20
MAX_HEAD_BYTES: Final = 65_536  # as the standard library has it for one line

CERTAINLY_NOT_WRITTEN: Final = frozenset(
    {400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 429, 503}
)
"""These promise that the vote was written nowhere; every other failure leaves it open."""


class Nonsense(Exception):
    """The answer was no HTTP."""


class Answer(NamedTuple):
    """One HTTP answer, read to its end."""

    status: int
    length: int  # bytes
    keep_alive: bool
    retry_after_s: float | None = None


def outcome_of(status: int) -> Outcome:
    """What an HTTP status tells the voter about the vote."""
    if 200 <= status < 300:
        return Outcome.ACKNOWLEDGED
    return Outcome.REFUSED if status in CERTAINLY_NOT_WRITTEN else Outcome.UNKNOWN


def read_answer(receive: Callable[[int], bytes]) -> Answer:
    """Read one answer; `receive(n)` gives up to n bytes, none at the end of the connection.

    Raises Nonsense, and ConnectionError when the connection ends before the answer does.
    """
    data = receive(RECEIVE_BYTES)
    while b"\r\n\r\n" not in data:  # nor would the standard library notice half a head
        if data[:5] != b"HTTP/"[: len(data)] or len(data) > MAX_HEAD_BYTES:
            raise Nonsense(f"no HTTP: {data[:80]!r}")
        more = receive(RECEIVE_BYTES)
        if not more:
            raise ConnectionError("the connection ended before the answer")
        data += more
    return _in_one_piece(data) or _piece_by_piece(data, receive)


def _in_one_piece(data: bytes) -> Answer | None:
    """The answer, if it is plain success and all there: nearly every one, in a microsecond."""
    head, blank_line, body = data.partition(b"\r\n\r\n")
    if not (blank_line and head.startswith(b"HTTP/1.1 20")):
        return None
    lower = head.lower()
    _, found, rest = lower.partition(b"\r\ncontent-length: ")
    length = rest.partition(b"\r\n")[0]
    if not (found and length.isdigit() and int(length) == len(body)):
        return None
    if b"\r\ntransfer-encoding:" in lower or b"\r\nconnection:" in lower:
        return None
    return Answer(int(head[9:12]), len(data), keep_alive=True)


def _piece_by_piece(first: bytes, receive: Callable[[int], bytes]) -> Answer:
    """The answer through the standard library's parser: any framing, any number of pieces."""
    stream = _Stream(first, receive)
    response = http.client.HTTPResponse(stream)  # type: ignore[arg-type]  # needs makefile only
    try:
        response.begin()
        while response.read(RECEIVE_BYTES):
            if stream.taken > MAX_ANSWER_BYTES:
                raise Nonsense(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    except http.client.IncompleteRead as error:
        raise ConnectionError("the connection ended within the answer") from error
    except (http.client.HTTPException, ValueError) as error:
        raise Nonsense(repr(error)) from error
    if stream.ended and response.length:
        raise ConnectionError("the connection ended within the answer")
    return Answer(
        response.status,
        stream.taken,
        keep_alive=not response.will_close and not stream.ended,
        retry_after_s=_seconds(response.getheader("Retry-After")),
    )


class _Stream(io.RawIOBase):
    """What `http.client` reads from: the bytes already received, then the connection's."""

    def __init__(self, first: bytes, receive: Callable[[int], bytes]) -> None:
        self._pending = first
        self._receive = receive
        self.taken = len(first)
        self.ended = not first

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not (self._pending or self.ended):
            self._pending = self._receive(len(buffer))
            self.taken += len(self._pending)
            self.ended = not self._pending
        piece, self._pending = self._pending[: len(buffer)], self._pending[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left alone."""
    return float(retry_after) if retry_after and retry_after.isdigit() else None
