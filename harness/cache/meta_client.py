"""memcached's meta commands, which return the CAS of what they wrote or read.

pymemcache has no meta commands but `raw_command`, and that loses data when a reply arrives in two
pieces: it looks for the end token in each piece alone. A reply that a slow network cuts in half
would then be waited for until the time-out. So this client frames the replies itself.
"""

import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from harness.cache.breaker import Breaker
from harness.protocol.commands import Add, Delete, Get, Incr, MemcachedCommand, Reply, Set, Status

RECEIVE_BYTES: Final = 4096  # nearly every reply; more would cost an allocation each time
TIMEVAL: Final = struct.Struct("ll")
MAX_REPLY_BYTES: Final = 2_097_152  # twice memcached's largest item; more is no reply of ours
MAX_DIGITS: Final = 20  # of a 64-bit number

CHUNK_BYTES: Final = 16_384
"""Of requests sent before their replies are read. memcached stops reading while it cannot write,
and we do not read while we send: with both sockets' buffers full neither would ever go on. So much
fits into the smallest buffers that Linux gives a connection (16 KiB to send, 64 KiB to receive),
and sending ends though nobody reads. A longer command goes alone: it is read before it is answered.
"""
CHUNK_COMMANDS: Final = 512  # so many at most are lost with a connection; 16 KiB are some 430 reads
CHUNK_RECEIVE_BYTES: Final = 65_536

GET: Final = b"mg %s v c\r\n"
SET: Final = b"ms %s %d c\r\n%s\r\n"
ADD: Final = b"ms %s %d T%d ME c\r\n%s\r\n"
INCR: Final = b"ma %s v c\r\n"
DELETE: Final = b"md %s\r\n"
DELETE_THIS: Final = b"md %s C%d\r\n"

UNREACHABLE: Final = Reply(Status.UNREACHABLE)
LOST: Final = Reply(Status.LOST)
MISSING: Final = Reply(Status.MISSING)
REFUSED: Final = Reply(Status.REFUSED)
EXISTS: Final = Reply(Status.EXISTS)
MISREAD: Final = Reply(Status.REFUSED)
"""memcached could not read the command's line, and takes what follows for a command of its own."""


class MetaClient(Client):
    """pymemcache's plain client with meta commands; one thread, one server, one socket.

    Nothing is ever repeated, and no failure raises: a reply says whether the command was refused,
    certainly not applied (`UNREACHABLE`), or nobody knows (`LOST`). The connection is closed on any
    failure, interrupts included, because the next command would read this one's reply.
    """

    def __init__(self, address: str, timeout_s: float, breaker: Breaker | None = None) -> None:
        host, _, port = address.rpartition(":")
        super().__init__(
            (host.strip("[]"), int(port)),
            connect_timeout=timeout_s,
            timeout=timeout_s,
            no_delay=True,  # otherwise Nagle and delayed ACK cost 44 ms after a noreply
            default_noreply=False,  # otherwise add() always says True
        )
        self._limit = TIMEVAL.pack(int(timeout_s), int(timeout_s % 1 * 1e6))
        self.breaker = breaker

    def _connect(self) -> None:
        """Connect, and leave the time-out to the kernel: Python's own asks it before each reply
        whether there is one, which makes a command a tenth slower.
        """
        super()._connect()
        assert self.sock is not None
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, self._limit)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, self._limit)

    def meta_get(self, key: str) -> Reply:
        """The value, and the CAS of the write that it came from."""
        return self._ask(GET % key.encode())

    def meta_set(self, key: str, value: bytes) -> Reply:
        """Store without a lifetime; the CAS of the write."""
        return self._ask(SET % (key.encode(), len(value), value))

    def meta_add(self, key: str, value: bytes, lifetime_s: int = 0) -> Reply:
        """Store where nothing is, for so long (0: for good); the CAS of the write, or `EXISTS`."""
        return self._ask(ADD % (key.encode(), len(value), lifetime_s, value), EXISTS)

    def meta_incr(self, key: str) -> Reply:
        """Add 1; the new number, and the CAS of the write."""
        return self._ask(INCR % key.encode())

    def meta_delete(self, key: str, cas: int = 0) -> Reply:
        """Remove the item; with a CAS only the one that was written so, otherwise `EXISTS`."""
        return self._ask(DELETE_THIS % (key.encode(), cas) if cas else DELETE % key.encode())

    def pipeline(self, commands: Sequence[MemcachedCommand]) -> list[Reply]:
        """A reply to each command; all of a chunk are sent before the first reply is read.

        When the connection breaks, the chunk's unanswered commands are `LOST`; what had not been
        sent yet is `UNREACHABLE`.
        """
        replies: list[Reply] = []
        for chunk, requests in chunks(commands):
            if not self._is_ready():
                break
            replies += self._converse(chunk, requests)
            if self.sock is None:
                break
        return replies + [UNREACHABLE] * (len(commands) - len(replies))

    def _ask(self, request: bytes, not_stored: Reply = REFUSED) -> Reply:
        if (self.sock is None or self.breaker) and not self._is_ready():
            return UNREACHABLE
        try:
            connection = self.sock
            assert connection is not None
            connection.sendall(request)
            answer = connection.recv(RECEIVE_BYTES)
            while (found := reply_at(answer, 0, not_stored)) is None:
                piece = connection.recv(RECEIVE_BYTES)
                if not piece or len(answer) > MAX_REPLY_BYTES:
                    raise ConnectionError("half a reply")
                answer += piece
            reply, end = found
            if reply is MISREAD:
                self.close()
            elif end != len(answer):
                raise ValueError("more than one reply")
        except (OSError, ValueError) as error:  # broken, or no reply of memcached's
            self._break(error)
            return LOST
        except BaseException:
            self.close()
            raise
        if self.breaker and self.breaker.is_open:
            self.breaker.reset()
        return reply

    def _converse(self, commands: Sequence[MemcachedCommand], requests: bytes) -> list[Reply]:
        """Send one chunk, and read the reply to each of its commands."""
        replies: list[Reply] = []
        try:
            connection = self.sock
            assert connection is not None
            connection.sendall(requests)
            answer, start = b"", 0
            for command in commands:
                not_stored = EXISTS if type(command) is Add else REFUSED
                while (found := reply_at(answer, start, not_stored)) is None:
                    piece = connection.recv(CHUNK_RECEIVE_BYTES)
                    if not piece or len(answer) - start > MAX_REPLY_BYTES:
                        raise ConnectionError("half a reply")
                    answer, start = answer[start:] + piece, 0
                reply, start = found
                replies.append(reply)
                if reply is MISREAD:
                    self.close()
                    break
            else:
                if start != len(answer):
                    raise ValueError("more replies than commands")
        except (OSError, ValueError) as error:
            self._break(error)
        except BaseException:
            self.close()
            raise
        if replies and self.breaker and self.breaker.is_open and self.sock is not None:
            self.breaker.reset()
        return replies + [LOST] * (len(commands) - len(replies))

    def _is_ready(self) -> bool:
        return not why_not_ready(self, self.breaker)

    def _break(self, error: Exception) -> None:
        give_up(self, self.breaker, error)


def why_not_ready(client: Client, breaker: Breaker | None) -> str:
    """Why nothing can be sent now; empty when it can, after connecting if need be."""
    if breaker and breaker.is_open and not breaker.admits():
        return "it did not answer a moment ago"
    if client.sock is None:
        try:
            client._connect()
        except (OSError, MemcacheError) as error:
            if breaker:
                breaker.trip()
            return str(error) or type(error).__name__
    return ""


def give_up(client: Client, breaker: Breaker | None, error: Exception) -> None:
    """Close the connection, on which anything may come now, and remember if time was out.

    The kernel says `BlockingIOError` then, Python's own time-out `TimeoutError`.
    """
    client.close()
    if breaker and (breaker.is_open or isinstance(error, BlockingIOError | TimeoutError)):
        breaker.trip()


def chunks(
    commands: Sequence[MemcachedCommand],
) -> Iterator[tuple[Sequence[MemcachedCommand], bytes]]:
    """The commands in turn, as many together as may be sent before a reply is read, and encoded."""
    start, requests, size = 0, list[bytes](), 0
    for number, command in enumerate(commands):
        request = encode(command)
        full = size + len(request) > CHUNK_BYTES or len(requests) == CHUNK_COMMANDS
        if requests and full:
            yield commands[start:number], b"".join(requests)
            start, requests, size = number, [], 0
        requests.append(request)
        size += len(request)
    if requests:
        yield commands[start:], b"".join(requests)


def encode(command: MemcachedCommand) -> bytes:
    """The command as it is sent."""
    key = command.key.name.encode()
    if isinstance(command, Get):
        return GET % key
    if isinstance(command, Add):
        return ADD % (key, len(command.value), command.lifetime_s, command.value)
    if isinstance(command, Delete):
        return DELETE_THIS % (key, command.cas) if command.cas else DELETE % key
    if isinstance(command, Set):
        return SET % (key, len(command.value), command.value)
    assert isinstance(command, Incr)
    return INCR % key


def reply_at(answer: bytes, start: int, not_stored: Reply) -> tuple[Reply, int] | None:
    """The reply that begins at `start`, and where it ends; None while it is not all there.

    `not_stored`: what it means for the command asked that nothing was stored. Raises ValueError
    for bytes that are no reply: the connection is unusable.
    """
    line_end = answer.find(b"\r\n", start)
    if line_end < 0:
        return None
    end = line_end + 2
    code = answer[start : start + 2]
    if code == b"VA":
        size, _, flags = answer[start + 3 : line_end].partition(b" ")
        value_at, end = end, end + int(size) + 2
        if len(answer) < end:
            return None
        if answer[end - 2 : end] != b"\r\n":
            raise ValueError("a value of another length than it says")
        value = answer[value_at : end - 2]
        number = int(value) if value.isdigit() and len(value) <= MAX_DIGITS else 0
        return Reply(Status.OK, number, value, _cas(flags)), end
    if code == b"HD":
        return Reply(Status.OK, 0, b"", _cas(answer[start + 3 : line_end])), end
    if code in (b"EN", b"NF"):
        return MISSING, end
    if code == b"NS":
        return not_stored, end
    if code == b"EX":
        return EXISTS, end
    if answer.startswith(b"CLIENT_ERROR bad", start):
        return MISREAD, end
    if answer.startswith((b"SERVER_ERROR", b"CLIENT_ERROR"), start):
        return REFUSED, end
    raise ValueError(f"no reply: {answer[start:line_end]!r}")


def _cas(flags: bytes) -> int:
    """The number behind `c`, the only flag that we ask to be returned."""
    return int(flags[1:]) if flags.startswith(b"c") else 0
