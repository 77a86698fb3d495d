"""A site for generators to vote at, that answers whatever a test wants."""

import json
import socket
import threading
from collections.abc import Callable

LIMIT_S = 20.0  # until a thread has noticed that its connection was shut down

Reply = Callable[[int, socket.socket], bytes | None]
"""From a vote's sequence number (-1: none) to the answer; None: hang up."""


class FakeSite:
    """One thread per connection; what it answers is up to `reply`."""

    def __init__(self, reply: Reply, host: str = "127.0.0.1") -> None:
        self._reply = reply
        self._listener = socket.create_server((host, 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.connections = 0
        self.seen: list[int] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while request := _receive(connection):
                body = request.partition(b"\r\n\r\n")[2]
                vote = int(json.loads(body)["vote"], 16) % 2**48 if body else -1
                self.seen.append(vote)
                answer = self._reply(vote, connection)
                if answer is None:
                    return
                try:
                    connection.sendall(answer)
                except OSError:
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already
        for thread in self._threads:
            thread.join(LIMIT_S)


def _receive(connection: socket.socket) -> bytes:
    """A request; small ones come in one piece over loopback."""
    try:
        return connection.recv(65_536)
    except OSError:
        return b""
