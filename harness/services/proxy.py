"""A small TCP proxy between site or flusher and a memcached or MariaDB, for faults of the network.

`python -m harness.services.proxy PORT CONTROL UPSTREAM [greets]`. It listens on loopback; UPSTREAM
is host:port or the path of a Unix socket; `greets` says that the server speaks first, as MariaDB
does. What is wrong with the network is said on the Unix socket CONTROL:

    asked      Trouble as a line of JSON          an empty line, or the connection's end
    answered   Touched, once it has begun         Touched, once it is healed

A trouble lasts as long as its control connection, so none outlives whoever asked for it. Several
can be under way. The proxy knows no protocol: what a client sends between two replies is a request.

    latency        to ──── wait ──── ▶ server      stall    to and from wait until it is healed
    drop-request   to ──── ✕                       reset    RST to all, then nobody is let in
    drop-reply     to ───────────────▶ server      cut      one direction's bytes vanish, for good
                   ✕ ──── from ─────── server               for a connection that has lost some
"""

import asyncio
import contextlib
import random
import resource
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from harness.services.ports import LOOPBACK

Direction: TypeAlias = Literal["to", "from"]
TroubleKind: TypeAlias = Literal["latency", "stall", "reset", "drop-request", "drop-reply", "cut"]

CHUNK_BYTES: Final = 65_536  # read at once; as much again waits in each direction, then TCP holds
BACKLOG: Final = 1024  # connections at once that a site of many threads makes after a reset
QUIET_S: Final = 0.02  # a server on this machine that has begun to answer does not pause so long
MOST_SWALLOWED: Final = 4096  # chunks of one reply: 256 MiB, more than any of ours
_RST: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets


class Trouble(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the network does to requests from now on."""

    kind: TroubleKind
    delay_s: float = 0.0  # latency: before a request is passed on
    jitter_s: float = 0.0  # latency: up to so much more or less, uniformly
    share: float = 1.0  # drop-request, drop-reply: of the requests
    direction: Direction = "to"  # cut: the bytes to the server, or those from it
    refuse: bool = False  # reset: nobody is let in until it is healed
    seed: int = 0  # of jitter and share


class Touched(msgspec.Struct, frozen=True, kw_only=True):
    """What a trouble did something to."""

    requests: int
    connections: int


class Active:
    """A trouble under way."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self.healed = asyncio.Event()
        self._chance = random.Random(trouble.seed)
        self._requests = 0
        self._last: dict[int, int] = {}

    def touch(self, conversation: "Conversation") -> None:
        """It did something to the conversation's request, which counts once."""
        if self._last.get(conversation.number) != conversation.requests:
            self._last[conversation.number] = conversation.requests
            self._requests += 1

    def strikes(self) -> bool:
        """Whether it is this request's turn."""
        return self._chance.random() < self.trouble.share

    def delay_s(self) -> float:
        jitter_s = self.trouble.jitter_s
        return max(0.0, self.trouble.delay_s + self._chance.uniform(-jitter_s, jitter_s))

    def touched(self) -> Touched:
        return Touched(requests=self._requests, connections=len(self._last))


class Conversation:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(
        self,
        number: int,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        active: Callable[[TroubleKind], list[Active]],
        greets: bool,
    ) -> None:
        self.number = number
        self.requests = 0
        self._client_in, self._client_out = client
        self._server_in, self._server_out = server
        self._active = active
        self._greets = greets
        self._unanswered = False
        self._swallowed_by: Active | None = None
        self._vanished: set[Direction] = set()

    async def run(self) -> None:
        """Pass on in both directions until both have ended."""
        try:
            await asyncio.gather(self._pass_requests(), self._pass_replies())
        finally:
            self.end()

    def end(self) -> None:
        self._client_out.close()
        self._server_out.close()

    def reset(self) -> None:
        """An RST to both sides, whatever is still on its way."""
        _reset(self._client_out)
        _reset(self._server_out)

    async def _pass_requests(self) -> None:
        with contextlib.suppress(OSError):  # a side is gone; the other direction ends by itself
            while chunk := await self._client_in.read(CHUNK_BYTES):
                if not self._unanswered:
                    self._unanswered = True
                    self.requests += 1
                    await self._stall()
                    await self._delay()
                    if self._is_dropped():
                        self.end()
                        return
                await self._stall()
                if not self._vanishes("to"):
                    self._server_out.write(chunk)
                    await self._server_out.drain()
            await self._stall()
            await self._until_uncut("to")
            self._server_out.write_eof()

    async def _pass_replies(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := await self._server_in.read(CHUNK_BYTES):
                await self._stall()
                swallower, self._swallowed_by = self._swallowed_by, None
                if swallower and not swallower.healed.is_set():
                    swallower.touch(self)
                    await self._swallow()
                    self.end()
                    return
                self._unanswered = False
                if not self._vanishes("from"):
                    self._client_out.write(chunk)
                    await self._client_out.drain()
            await self._stall()
            await self._until_uncut("from")
        self._client_out.close()  # the server is gone; what it sent is still passed on

    async def _stall(self) -> None:
        while stalls := self._active("stall"):
            stalls[0].touch(self)
            await stalls[0].healed.wait()

    async def _delay(self) -> None:
        for latency in self._active("latency"):
            latency.touch(self)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(latency.healed.wait(), latency.delay_s())

    def _is_dropped(self) -> bool:
        """Whether the request gets no further; if its reply is to be dropped, remember that."""
        if self._greets and self.requests == 1:
            return False  # the answer to the greeting: without it there is no connection yet
        for drop in self._active("drop-request"):
            if drop.strikes():
                drop.touch(self)
                return True
        self._swallowed_by = next(
            (drop for drop in self._active("drop-reply") if drop.strikes()), None
        )
        return False

    async def _swallow(self) -> None:
        """Read the rest of a reply: when it has been written, all of the request was applied."""
        with contextlib.suppress(TimeoutError):
            for _ in range(MOST_SWALLOWED):
                if not await asyncio.wait_for(self._server_in.read(CHUNK_BYTES), QUIET_S):
                    break

    def _vanishes(self, direction: Direction) -> bool:
        """Whether bytes vanish now. Nothing follows bytes that have vanished: a stream with a
        hole in it is what TCP never delivers."""
        for cut in self._cuts(direction):
            cut.touch(self)
            self._vanished.add(direction)
        return direction in self._vanished

    async def _until_uncut(self, direction: Direction) -> None:
        """The end of a connection does not get through a cut either."""
        while cuts := self._cuts(direction):
            await cuts[0].healed.wait()

    def _cuts(self, direction: Direction) -> list[Active]:
        return [cut for cut in self._active("cut") if cut.trouble.direction == direction]


class Proxy:
    """All conversations, and what is wrong with the network."""

    def __init__(self, port: int, upstream: str, greets: bool) -> None:
        self._upstream = upstream
        self._greets = greets
        self._port = port
        self._held = _bound(port)  # nobody else gets the port while nobody is let in
        self._conversations: set[Conversation] = set()
        self._accepted = 0
        self._active: list[Active] = []
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(
            self._converse, sock=_bound(self._port), limit=CHUNK_BYTES, backlog=BACKLOG
        )

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One trouble, from its line to the next one or the connection's end."""
        with contextlib.closing(writer), contextlib.suppress(OSError):
            line = await reader.readline()
            if not line:
                return  # somebody looked whether we are there
            active = Active(msgspec.json.decode(line, type=Trouble))
            self._begin(active)
            try:
                await _say(writer, active.touched())
                await reader.readline()
            finally:
                await self._heal(active)
            await _say(writer, active.touched())

    def _begin(self, active: Active) -> None:
        self._active.append(active)
        if active.trouble.kind == "reset":
            if active.trouble.refuse and self._server:
                self._server.close()
                self._server = None
            for conversation in self._conversations:
                active.touch(conversation)
                conversation.reset()

    async def _heal(self, active: Active) -> None:
        self._active.remove(active)
        active.healed.set()
        if self._server is None and not any(each.trouble.refuse for each in self._active):
            await self.listen()

    def _of(self, kind: TroubleKind) -> list[Active]:
        return [active for active in self._active if active.trouble.kind == kind]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        number = self._accepted
        try:
            server = await _connect(self._upstream)
        except OSError:
            _reset(writer)  # as near to a refused connection as a proxy gets
            return
        conversation = Conversation(number, (reader, writer), server, self._of, self._greets)
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)


def _bound(port: int) -> socket.socket:
    """A socket on the port, which several may have as long as none listens."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((LOOPBACK, port))
    return bound


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()


async def _connect(upstream: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if "/" in upstream:
        return await asyncio.open_unix_connection(upstream, limit=CHUNK_BYTES)
    host, _, port = upstream.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), limit=CHUNK_BYTES)


async def _say(writer: asyncio.StreamWriter, touched: Touched) -> None:
    writer.write(msgspec.json.encode(touched) + b"\n")
    await writer.drain()


async def serve(port: int, control: Path, upstream: str, greets: bool) -> None:
    """Until the process is ended. Raises OSError when it cannot listen."""
    proxy = Proxy(port, upstream, greets)
    await proxy.listen()
    questions = await asyncio.start_unix_server(proxy.control, control)
    await questions.serve_forever()


def main(arguments: list[str]) -> int:
    port, control, upstream, *rest = arguments
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two for each conversation
    try:
        asyncio.run(serve(int(port), Path(control), upstream, "greets" in rest))
    except OSError as error:
        print(f"proxy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
