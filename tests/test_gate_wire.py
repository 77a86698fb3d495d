"""Taps: what is counted of the bytes that pass, however they are cut."""

import itertools
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.gate.wire import DatabaseCommands, MemcachedCommands, Tally, Tap, tapped

NOBODY = 1  # a port below all that are given out
MEMCACHED = (
    b"mg key v c\r\n"
    b"ms key 12 c\r\nget x\r\nset y\r\n"  # a block that looks like commands
    b"set key 0 0 3\r\nabc\r\n"
    b"incr key 1\r\n"
    b"add key 0 60 0\r\n\r\n"
    b"md key C7\r\n"
)
QUERY = b"\x03SELECT 1"
SQL = (
    len(QUERY).to_bytes(3, "little") + b"\x00" + QUERY
    + (5).to_bytes(3, "little") + b"\x01login"  # an answer to the greeting: no command
    + (0).to_bytes(3, "little") + b"\x00"
)  # fmt: skip


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.lists(st.integers(0, 500), max_size=12))
def test_memcached_commands_are_counted_however_they_are_cut(cuts: list[int]) -> None:
    counter = MemcachedCommands()
    assert sum(counter.feed(piece) for piece in pieces(MEMCACHED, cuts)) == 6


@given(st.lists(st.integers(0, 500), max_size=12))
def test_statements_are_counted_however_they_are_cut(cuts: list[int]) -> None:
    counter = DatabaseCommands()
    assert sum(counter.feed(piece) for piece in pieces(SQL, cuts)) == 2


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture
def echo() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_tap_passes_on_and_counts_commands_and_turns(echo: int) -> None:
    tap = Tap("127.0.0.1", echo, MemcachedCommands)
    with tapped(tap), socket.create_connection(("127.0.0.1", tap.port), timeout=5) as client:
        talk = client.makefile("rwb")
        talk.write(b"mg a v\r\n")
        talk.flush()
        assert talk.readline() == b"mg a v\r\n"
        talk.write(b"mg a v\r\nmg b v\r\n")
        talk.flush()
        assert [talk.readline(), talk.readline()] == [b"mg a v\r\n", b"mg b v\r\n"]
        assert tap.tally() == Tally(commands=3, round_trips=2)


def test_a_tap_in_front_of_nothing_ends_the_connection() -> None:
    tap = Tap("127.0.0.1", NOBODY, MemcachedCommands)
    with tapped(tap), socket.create_connection(("127.0.0.1", tap.port), timeout=5) as client:
        assert client.recv(1) == b""
