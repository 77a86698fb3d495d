"""Counts what goes over the wire to memcached and the database: commands, and round trips.

A tap passes bytes on between a site and a service. A round trip is a turn of the talk: the client
speaks after the server has. So commands that are sent together are one. Of memcached's commands
the lines are counted, without the blocks of data that some announce; of the database's, the
packets that begin a command.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, Protocol

from harness.errors import ServiceError

LOOPBACK: Final = "127.0.0.1"
CHUNK_BYTES: Final = 65_536
START_S: Final = 5.0
CRLF: Final = b"\r\n"
HEADER_BYTES: Final = 4  # of a packet: three of length, one of sequence


class Parser(Protocol):
    """Counts the commands that begin in one connection's bytes, however they are cut."""

    def feed(self, data: bytes) -> int:
        """How many begin in these."""


class Tally(NamedTuple):
    """Since the tap was opened."""

    commands: int
    round_trips: int


class MemcachedCommands:
    """The lines of memcached's protocol, without the blocks of data that some announce."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0  # bytes of a block of data that are still to come

    def feed(self, data: bytes) -> int:
        data, begun = self._rest + data, 0
        while data:  # each time a block or a line is taken off the front
            if self._skip:
                taken = min(self._skip, len(data))
                data, self._skip = data[taken:], self._skip - taken
                continue
            line, found, rest = data.partition(CRLF)
            if not found:
                break
            begun += 1
            size = _block_bytes(line.split())
            self._skip, data = (size + len(CRLF) if size is not None else 0), rest
        self._rest = data
        return begun


class DatabaseCommands:
    """The packets of MySQL's protocol whose sequence begins at 0."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> int:
        data, begun = self._rest + data, 0
        while len(data) >= HEADER_BYTES:
            size = int.from_bytes(data[:3], "little")
            if len(data) < HEADER_BYTES + size:
                break
            begun += data[3] == 0
            data = data[HEADER_BYTES + size :]
        self._rest = data
        return begun


def _block_bytes(words: list[bytes]) -> int | None:
    """The size of the block of data that follows a command's line; None if none does."""
    with suppress(ValueError, IndexError):
        if words[0] == b"ms":
            return int(words[2])
        if words[0] in (b"set", b"add", b"replace", b"append", b"prepend", b"cas"):
            return int(words[4])
    return None


class Tap:
    """One listening port that leads to a service."""

    def __init__(self, host: str, port: int, parser: Callable[[], Parser]) -> None:
        self._host = host
        self._port = port
        self._parser = parser
        self._commands = 0
        self._round_trips = 0
        self.port = 0

    def tally(self) -> Tally:
        """Read from another thread than the tap's: each number is whole."""
        return Tally(self._commands, self._round_trips)

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, near: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            far, to_server = await asyncio.open_connection(self._host, self._port)
        except OSError:
            to_client.close()
            return
        parser, asked = self._parser(), [False]

        async def onwards() -> None:
            while data := await near.read(CHUNK_BYTES):
                self._commands += parser.feed(data)
                self._round_trips += not asked[0]
                asked[0] = True
                to_server.write(data)
                await to_server.drain()

        async def back() -> None:
            while data := await far.read(CHUNK_BYTES):
                asked[0] = False
                to_client.write(data)
                await to_client.drain()

        ways = [asyncio.create_task(onwards()), asyncio.create_task(back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (to_client, to_server):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()


@contextmanager
def tapped(*taps: Tap) -> Iterator[None]:
    """The taps at work in a thread of their own; all connections end with the block.

    Raises ServiceError when they cannot listen.
    """
    listening = threading.Event()
    ends: list[Callable[[], object]] = []

    async def serve() -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(over.set))
        servers = [await tap.listen() for tap in taps]
        listening.set()
        await over.wait()
        for server in servers:
            server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    if not listening.wait(START_S):
        raise ServiceError("the taps on memcached and the database cannot listen on loopback")
    try:
        yield
    finally:
        for end in ends:
            end()
        thread.join(START_S)
