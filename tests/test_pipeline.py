"""Pipelines and replies of memcached's, byte by byte, from a socket that is a script."""

import errno
from collections.abc import Sequence

import pytest

from harness.cache import meta_client
from harness.cache.meta_client import CHUNK_BYTES, CHUNK_COMMANDS, MetaClient, chunks
from harness.protocol.commands import (
    Add,
    Delete,
    Get,
    Incr,
    Key,
    KeyKind,
    MemcachedCommand,
    Reply,
    Set,
    Status,
)


def key(name: str) -> Key:
    return Key(name, KeyKind.SLOT)


COMMANDS: tuple[MemcachedCommand, ...] = (
    Get(key("a")),
    Set(key("b"), b"x"),
    Add(key("c"), b"y", 60),
    Add(key("c"), b"y"),
    Incr(key("d")),
    Incr(key("e")),
    Delete(key("f"), 7),
    Delete(key("g")),
    Get(key("h")),
    Set(key("i"), b"z"),
    Delete(key("j")),
)
REQUESTS = (
    b"mg a v c\r\nms b 1 c\r\nx\r\nms c 1 T60 ME c\r\ny\r\nms c 1 T0 ME c\r\ny\r\n"
    b"ma d v c\r\nma e v c\r\nmd f C7\r\nmd g\r\nmg h v c\r\nms i 1 c\r\nz\r\nmd j\r\n"
)
ANSWERS = (
    b"VA 6 c11\r\nq\r\nMN\r\r\n",
    b"HD c12\r\n",
    b"HD c13\r\n",
    b"NS c0\r\n",
    b"VA 2 c14\r\n42\r\n",
    b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    b"EX\r\n",
    b"HD\r\n",
    b"EN\r\n",
    b"SERVER_ERROR object too large for cache\r\n",
    b"NF\r\n",
)
REPLIES = [
    Reply(Status.OK, 0, b"q\r\nMN\r", 11),
    Reply(Status.OK, cas=12),
    Reply(Status.OK, cas=13),
    Reply(Status.EXISTS),
    Reply(Status.OK, 42, b"42", 14),
    Reply(Status.REFUSED),
    Reply(Status.EXISTS),
    Reply(Status.OK),
    Reply(Status.MISSING),
    Reply(Status.REFUSED),
    Reply(Status.MISSING),
]
LOST = Reply(Status.LOST)
UNREACHABLE = Reply(Status.UNREACHABLE)


class ScriptedSocket:
    """Gives these pieces, one at a time, then an end of the stream."""

    def __init__(self, pieces: Sequence[bytes], *, ends: BaseException | None = None) -> None:
        self.pieces = list(pieces)
        self.sent: list[bytes] = []
        self.closed = False
        self._ends = ends

    def sendall(self, request: bytes) -> None:
        self.sent.append(request)

    def recv(self, _: int) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self._ends:
            raise self._ends
        return b""

    def close(self) -> None:
        self.closed = True


def connected(script: ScriptedSocket) -> MetaClient:
    client = MetaClient("127.0.0.1:1", 1.0)
    client.sock = script
    return client


@pytest.mark.parametrize("at", range(1, len(b"".join(ANSWERS))))
def test_replies_cut_at_any_byte_are_put_together(at: int):
    answer = b"".join(ANSWERS)
    script = ScriptedSocket([answer[:at], answer[at:]])
    assert connected(script).pipeline(COMMANDS) == REPLIES
    assert script.sent == [REQUESTS]
    assert not script.closed


def test_replies_that_come_byte_by_byte_are_put_together():
    script = ScriptedSocket([bytes([byte]) for byte in b"".join(ANSWERS)])
    assert connected(script).pipeline(COMMANDS) == REPLIES


@pytest.mark.parametrize("length", range(len(b"".join(ANSWERS))))
def test_what_came_whole_before_the_connection_broke_is_known_and_the_rest_is_lost(length: int):
    answer = b"".join(ANSWERS)[:length]
    whole = max(n for n in range(len(ANSWERS)) if len(b"".join(ANSWERS[:n])) <= length)
    script = ScriptedSocket([answer] if answer else [])
    client = connected(script)
    assert client.pipeline(COMMANDS) == REPLIES[:whole] + [LOST] * (len(COMMANDS) - whole)
    assert script.closed
    assert client.sock is None


@pytest.mark.parametrize(
    ("command", "answer", "reply"), list(zip(COMMANDS, ANSWERS, REPLIES, strict=True))
)
def test_a_command_alone_is_answered_as_in_a_pipeline(
    command: MemcachedCommand, answer: bytes, reply: Reply
):
    script = ScriptedSocket([answer])
    client = connected(script)
    name = command.key.name
    asked = {
        Get: lambda: client.meta_get(name),
        Set: lambda: client.meta_set(name, command.value),
        Add: lambda: client.meta_add(name, command.value, command.lifetime_s),
        Incr: lambda: client.meta_incr(name),
        Delete: lambda: client.meta_delete(name, command.cas),
    }[type(command)]()
    assert asked == reply
    assert script.sent == [meta_client.encode(command)]
    assert not script.closed


def test_nothing_stored_means_refused_to_a_set():
    assert connected(ScriptedSocket([b"NS c0\r\n"])).meta_set("k", b"v").status is Status.REFUSED
    script = ScriptedSocket([b"NS c0\r\n"])
    assert connected(script).pipeline([Set(key("k"), b"v")]) == [Reply(Status.REFUSED)]


@pytest.mark.parametrize("failure", [None, BlockingIOError(errno.EAGAIN, "time is out")])
def test_chunks_that_were_never_sent_are_certainly_not_applied(failure: BaseException | None):
    commands = [Get(key(f"k{n}")) for n in range(CHUNK_COMMANDS + 3)]
    script = ScriptedSocket([b"EN\r\n" * 5], ends=failure)
    client = connected(script)
    again = ScriptedSocket([b"EN\r\n" * 3])  # a server that would answer on a new connection
    client._connect = lambda: setattr(client, "sock", again)  # type: ignore[method-assign]
    replies = client.pipeline(commands)
    assert replies == (
        [Reply(Status.MISSING)] * 5 + [LOST] * (CHUNK_COMMANDS - 5) + [UNREACHABLE] * 3
    )
    assert len(script.sent) == 1
    assert again.sent == []
    assert client.sock is None


def test_a_chunk_is_sent_only_when_the_one_before_is_answered():
    commands = [Get(key(f"k{n}")) for n in range(CHUNK_COMMANDS + 1)]
    script = ScriptedSocket([b"EN\r\n" * CHUNK_COMMANDS, b"HD c5\r\n"])
    assert connected(script).pipeline(commands)[-1] == Reply(Status.OK, cas=5)
    assert [sent.count(b"mg ") for sent in script.sent] == [CHUNK_COMMANDS, 1]


def test_a_reply_too_many_closes_the_connection():
    script = ScriptedSocket([b"EN\r\nEN\r\n"])
    assert connected(script).pipeline([Get(key("a"))]) == [Reply(Status.MISSING)]
    assert script.closed
    script = ScriptedSocket([b"EN\r\nEN\r\n"])
    assert connected(script).meta_get("a") == LOST
    assert script.closed


def test_a_line_that_memcached_could_not_read_closes_the_connection():
    unread = b"CLIENT_ERROR bad command line format\r\nERROR\r\n"
    commands = [Get(key("a")), Set(key("b b"), b"x"), Get(key("c"))]
    script = ScriptedSocket([b"EN\r\n" + unread + b"EN\r\n"])
    replies = [Reply(Status.MISSING), Reply(Status.REFUSED), LOST]
    assert connected(script).pipeline(commands) == replies
    assert script.closed
    script = ScriptedSocket([unread])
    assert connected(script).meta_set("b b", b"x") == Reply(Status.REFUSED)
    assert script.closed


def test_an_interrupted_pipeline_closes_the_connection():
    script = ScriptedSocket([b"EN\r\n"], ends=KeyboardInterrupt())
    client = connected(script)
    with pytest.raises(KeyboardInterrupt):
        client.pipeline([Get(key("a")), Get(key("b"))])
    assert client.sock is None


@pytest.mark.parametrize("number", [b"9" * 20, b"9" * 5000])
def test_digits_that_are_no_number_of_memcached_do_not_break_the_connection(number: bytes):
    script = ScriptedSocket([b"VA %d c1\r\n%s\r\n" % (len(number), number)])
    reply = connected(script).meta_get("a")
    assert (reply.status, reply.value) == (Status.OK, number)
    assert not script.closed


def test_chunks_hold_all_commands_in_turn_and_no_more_than_may_be_sent_unread():
    commands: list[MemcachedCommand] = [Get(key(f"k{n}")) for n in range(3 * CHUNK_COMMANDS)]
    commands += [Set(key("large"), b"x" * (3 * CHUNK_BYTES)), *commands]
    commands += [Set(key(f"s{n}"), b"x" * 1000) for n in range(100)]
    parts = list(chunks(commands))
    assert [command for part, _ in parts for command in part] == commands
    for part, requests in parts:
        assert requests == b"".join(meta_client.encode(command) for command in part)
        assert len(part) <= CHUNK_COMMANDS
        assert len(requests) <= CHUNK_BYTES or len(part) == 1
    assert list(chunks([])) == []
