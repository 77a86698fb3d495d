"""A memcached that says what it is told to say, whatever it was asked, and no more."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

SILENCE_S = 0.4  # without an answer it holds its tongue for so long, and then hangs up


@contextmanager
def server(*pieces: bytes) -> Iterator[str]:
    """Answers the first request of each connection with the pieces, sent one by one; its address.

    Then it closes the connection.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    for piece in pieces:
                        connection.sendall(piece)
                        done.wait(0.02)
                    if not pieces:
                        done.wait(SILENCE_S)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def nobody() -> str:
    """An address where nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"
