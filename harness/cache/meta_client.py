"""memcached's meta commands, which return the CAS of what they wrote or read.

pymemcache has no meta commands but `raw_command`, and that loses data when a reply arrives in two
pieces: it looks for the end token in each piece alone. A reply that a slow network cuts in half
would then be waited for until the time-out. So this client frames the replies itself.
"""

import socket
import struct
from typing import Final

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from harness.protocol.commands import Reply, Status

RECEIVE_BYTES: Final = 4096  # nearly every reply; more would cost an allocation each time
TIMEVAL: Final = struct.Struct("ll")
MAX_REPLY_BYTES: Final = 2_097_152  # twice memcached's largest item; more is no reply of ours

UNREACHABLE: Final = Reply(Status.UNREACHABLE)
LOST: Final = Reply(Status.LOST)
MISSING: Final = Reply(Status.MISSING)
REFUSED: Final = Reply(Status.REFUSED)


class MetaClient(Client):
    """pymemcache's plain client with `mg`, `ms` and `ma`; one thread, one server, one socket.

    Nothing is ever repeated, and no failure raises: a reply says whether the command was refused,
    certainly not applied (`UNREACHABLE`), or nobody knows (`LOST`). The connection is closed on any
    failure, interrupts included, because the next command would read this one's reply.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        host, _, port = address.rpartition(":")
        super().__init__(
            (host, int(port)),
            connect_timeout=timeout_s,
            timeout=timeout_s,
            no_delay=True,  # otherwise Nagle and delayed ACK cost 44 ms after a noreply
            default_noreply=False,  # otherwise add() always says True
        )
        self._limit = TIMEVAL.pack(int(timeout_s), int(timeout_s % 1 * 1e6))

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
        return self._ask(b"mg %s v c\r\n" % key.encode())

    def meta_set(self, key: str, value: bytes) -> Reply:
        """Store without a lifetime; the CAS of the write."""
        return self._ask(b"ms %s %d c\r\n%s\r\n" % (key.encode(), len(value), value))

    def meta_incr(self, key: str) -> Reply:
        """Add 1; the new number, and the CAS of the write."""
        return self._ask(b"ma %s v c\r\n" % key.encode())

    def _ask(self, request: bytes) -> Reply:
        if self.sock is None:
            try:
                self._connect()
            except (OSError, MemcacheError):
                return UNREACHABLE
        try:
            connection = self.sock
            assert connection is not None
            connection.sendall(request)
            answer = connection.recv(RECEIVE_BYTES)
            while not is_whole(answer):
                piece = connection.recv(RECEIVE_BYTES)
                if not piece or len(answer) > MAX_REPLY_BYTES:
                    raise ConnectionError("half a reply")
                answer += piece
            reply = parse(answer)
        except (OSError, ValueError):  # broken, or no reply of memcached's
            reply = LOST
        except BaseException:
            self.close()
            raise
        if reply is LOST:
            self.close()
        return reply


def is_whole(answer: bytes) -> bool:
    """Whether a meta command's reply has arrived completely. Raises ValueError for nonsense."""
    line_end = answer.find(b"\r\n")
    if line_end < 0:
        return not answer  # no bytes at all: the server closed, and nothing more will come
    if not answer.startswith(b"VA "):
        return True
    return len(answer) >= line_end + 4 + int(answer[3:line_end].split(b" ", 1)[0])


def parse(answer: bytes) -> Reply:
    """A whole reply; `LOST` or ValueError for bytes that are none: the connection is unusable."""
    line_end = answer.find(b"\r\n")
    code = answer[:2]
    if code == b"VA":
        size, _, flags = answer[3:line_end].partition(b" ")
        value = answer[line_end + 2 : -2]
        if len(value) != int(size):
            return LOST
        return Reply(Status.OK, int(value) if value.isdigit() else 0, value, _cas(flags))
    if code == b"HD":
        return Reply(Status.OK, cas=_cas(answer[3:line_end]))
    if code in (b"NF", b"EN"):
        return MISSING
    if code == b"NS" or answer.startswith((b"SERVER_ERROR", b"CLIENT_ERROR")):
        return REFUSED
    return LOST


def _cas(flags: bytes) -> int:
    """The number behind `c`, the only flag that we ask to be returned."""
    return int(flags[1:]) if flags.startswith(b"c") else 0
