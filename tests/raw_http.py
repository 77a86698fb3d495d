"""HTTP as bytes on a socket: what is sent is sent as it is, and what comes back is taken apart."""

import socket
from enum import Enum
from time import monotonic
from typing import NamedTuple

RECEIVE_BYTES = 65_536
MAX_ANSWER_BYTES = 4 << 20  # a results page has some 10 KiB; more is a site gone mad
SHORTEST_HEAD = len(b"HTTP/1.1 200")


class End(Enum):
    """How the conversation ended."""

    CLOSED = "closed"  # by the site, in order or not
    SILENT = "silent"  # the site said nothing more within the limit


class Answer(NamedTuple):
    """One HTTP answer. Names of headers are in lower case, in the order of the wire."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class Exchange(NamedTuple):
    """All that came back, and whether the site ended the connection."""

    answers: tuple[Answer, ...]
    end: End


def exchange(port: int, sent: bytes, limit_s: float) -> Exchange:
    """Send these bytes over a connection of their own; listen until its end, or for `limit_s`.

    Raises ValueError when what comes back is no HTTP.
    """
    until_s = monotonic() + limit_s
    received = bytearray()
    end = End.CLOSED
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as connection:
        try:
            connection.sendall(sent)
        except TimeoutError:
            end = End.SILENT
        except OSError:
            pass  # it hung up before it had read everything, and may have said why
        while len(received) <= MAX_ANSWER_BYTES:
            connection.settimeout(max(0.001, until_s - monotonic()))
            try:
                piece = connection.recv(RECEIVE_BYTES)
            except TimeoutError:
                end = End.SILENT
                break
            except OSError:
                break
            if not piece:
                break
            received += piece
    return Exchange(tuple(answers_in(bytes(received))), end)


def answers_in(received: bytes) -> list[Answer]:
    """The answers, one behind the other; half an answer at the end is none.

    Raises ValueError for bytes that begin no answer.
    """
    answers = []
    while len(received) >= SHORTEST_HEAD:
        head, blank_line, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, _, words = status_line.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not words[:3].isdigit():
            raise ValueError(f"no HTTP: {received[:200]!r}")
        if not blank_line:
            break
        pairs = (line.partition(":")[::2] for line in lines)
        headers = tuple((name.lower(), value.strip()) for name, value in pairs)
        status = int(words[:3])
        body, received = _body(dict(headers), status, rest)
        if status >= 200:
            answers.append(Answer(status, headers, body))
    return answers


def _body(headers: dict[str, str], status: int, rest: bytes) -> tuple[bytes, bytes]:
    """The body, and what comes after it. An answer to HEAD has a length, and no body.

    Raises KeyError where none is given: the site knows how long its answers are.
    """
    if status < 200 or status == 204 or not rest or rest.startswith(b"HTTP/1."):
        return b"", rest
    length = int(headers["content-length"])
    return rest[:length], rest[length:]
