"""Keep-alive connections to the site, shared by all voters of a process."""

import socket
from typing import Final

import gevent
import gevent.socket

from harness.load.answer import Answer, read_answer
from harness.load.request import Target

READABLE: Final = 1  # libev's event mask
PIECE_BYTES: Final = 64  # that a slow reader takes at once: an answer to a vote has some four


class NotSent(Exception):
    """No byte of the request reached the operating system: the site cannot have received it."""


class Connections:
    """The one used last is taken first, so there are about as many as requests at once.

    A connection is used again only after a whole answer; whatever interrupts it, closes it.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[Connection] = []

    def exchange(self, request: bytes, pause_s: float = 0.0) -> Answer:
        """Send a request and read its answer; with a pause, slowly: one before each piece.

        Raises NotSent, Nonsense, OSError, and whatever is thrown into the greenlet. A request
        that was written is never repeated: it may have been applied.
        """
        connection = self._send(request)
        try:
            answer = connection.receive_answer(pause_s)
        except BaseException:
            connection.close()
            raise
        if answer.keep_alive:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _send(self, request: bytes) -> "Connection":
        """A connection that the request has been written to."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_stale and connection.sends(request):
                return connection
            connection.close()
        connection = Connection(self._target)
        if connection.sends(request):
            return connection
        connection.close()
        raise NotSent("the connection broke before anything was written")


class Connection:
    """One TCP connection that never blocks; its greenlet waits in the hub instead.

    Its watcher stays in the event loop from the first byte to the last, which saves two system
    calls an answer, and notices a site that hangs up on an idle connection.
    """

    def __init__(self, target: Target) -> None:
        """Raises NotSent when the site takes no connection, also when the time-out strikes."""
        try:
            self._socket = gevent.socket.create_connection(target)
        except (OSError, gevent.Timeout) as error:
            raise NotSent(str(error)) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self.is_stale = False
        """Whether something came while nothing was asked: the site has closed it."""
        self._reader: gevent.Greenlet | None = None
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(self._socket.fileno(), READABLE)
        self._watcher.start(self._on_readable)

    def sends(self, request: bytes) -> bool:
        """Write the request; False if not a byte of it could be written."""
        try:
            written = self._socket.send(request)
        except OSError:
            return False
        if written < len(request):  # a request is far smaller than any send buffer
            self.close()
            raise ConnectionError("the connection took only a part of the request")
        return True

    def receive_answer(self, pause_s: float) -> Answer:
        """The answer, a small piece at a time if there is to be a pause before each."""
        if not pause_s:
            return read_answer(self._receive)

        def receive_slowly(most: int) -> bytes:
            self._watcher.stop()  # what comes meanwhile is no sign that the site hangs up
            gevent.sleep(pause_s)
            self._watcher.start(self._on_readable)
            return self._receive(min(most, PIECE_BYTES))

        return read_answer(receive_slowly)

    def close(self) -> None:
        self._watcher.close()
        self._socket.close()

    def _receive(self, most: int) -> bytes:
        self._reader = gevent.getcurrent()
        try:
            self._hub.switch()
        finally:
            self._reader = None
        data: bytes = self._socket.recv(most)
        return data

    def _on_readable(self) -> None:
        """Runs in the hub."""
        if self._reader:
            self._reader.switch()
        else:
            self.is_stale = True
            self._watcher.stop()
