"""The client of one memcached: what it is told, and what it makes of what goes wrong."""

import socket
import time
from contextlib import closing

import pytest

from harness.cache.meta_client import MetaClient
from harness.protocol.commands import (
    Add,
    Get,
    Incr,
    Key,
    KeyKind,
    Reply,
    Set,
    Status,
)
from harness.protocol.queue import Queue
from tests.curt_server import nobody, server

pytestmark = pytest.mark.services

TIMEOUT_S = 0.2
QUEUE = Queue.named("q")


def test_cas_orders_all_mutations_and_a_read_names_the_write_it_saw(client: MetaClient):
    first = client.meta_set("a", b"5")
    second = client.meta_incr("a")
    third = client.meta_set("b", b"x")
    assert first.cas < second.cas < third.cas
    assert client.meta_get("a") == Reply(Status.OK, 6, b"6", second.cas)


def test_what_is_missing_or_refused_is_said_so(client: MetaClient):
    assert client.meta_get("none").status is Status.MISSING
    assert client.meta_incr("none").status is Status.MISSING
    client.meta_set("word", b"abc")
    assert client.meta_incr("word").status is Status.REFUSED
    assert client.meta_set("big", b"x" * 2_000_000).status is Status.REFUSED
    assert client.meta_get("word").value == b"abc"  # the connection is still in step


def test_an_add_fails_where_something_is_and_a_delete_takes_only_the_item_it_means(
    client: MetaClient,
):
    added = client.meta_add("a", b"1", 60)
    assert added.status is Status.OK
    assert client.meta_add("a", b"2") == Reply(Status.EXISTS)
    assert client.meta_get("a").value == b"1"
    assert client.meta_delete("a", added.cas + 1) == Reply(Status.EXISTS)
    assert client.meta_delete("a", added.cas) == Reply(Status.OK)
    assert client.meta_delete("a", added.cas) == Reply(Status.MISSING)
    assert client.meta_delete("a") == Reply(Status.MISSING)
    assert client.meta_add("big", b"x" * 2_000_000).status is Status.REFUSED
    assert client.meta_get("a").status is Status.MISSING  # the connection is still in step


def test_an_added_item_lives_as_long_as_it_says(client: MetaClient):
    client.meta_add("short", b"1", 1)
    client.meta_add("long", b"1", 60)
    client.meta_add("for-good", b"1")
    time.sleep(2.1)  # memcached's clock ticks once a second
    alive = [client.meta_get(name).status for name in ("short", "long", "for-good")]
    assert alive == [Status.MISSING, Status.OK, Status.OK]


def test_a_refused_command_does_not_put_a_pipeline_out_of_step(client: MetaClient):
    client.meta_set("word", b"abc")
    commands = [
        Set(QUEUE.slot(1), b"one"),
        Set(QUEUE.slot(2), b"x" * 2_000_000),
        Get(QUEUE.slot(1)),
        Add(QUEUE.slot(3), b"x" * 2_000_000),
        Incr(Key("word", KeyKind.POINTER)),
        Get(QUEUE.slot(2)),
        Add(QUEUE.slot(1), b"two"),
        Get(QUEUE.slot(1)),
    ]
    assert [(reply.status, reply.value) for reply in client.pipeline(commands)] == [
        (Status.OK, b""),
        (Status.REFUSED, b""),
        (Status.OK, b"one"),
        (Status.REFUSED, b""),
        (Status.REFUSED, b""),
        (Status.MISSING, b""),
        (Status.EXISTS, b""),
        (Status.OK, b"one"),
    ]


def test_a_key_that_memcached_cannot_read_is_refused_and_the_next_command_is_in_step(
    client: MetaClient,
):
    assert client.meta_set("k" * 251, b"version").status is Status.REFUSED
    assert client.meta_get("none").status is Status.MISSING


def test_neither_side_waits_for_the_other_in_a_long_pipeline(client: MetaClient):
    """120 MB of replies to 15 MB of requests: each more than the kernel keeps for a connection."""
    name = "k" * 240
    client.meta_set(name, b"v" * 2_000)
    replies = client.pipeline([Get(Key(name, KeyKind.SLOT))] * 60_000)
    assert {reply.status for reply in replies} == {Status.OK}
    assert len(replies) == 60_000


def test_a_pipeline_without_a_server_was_applied_nowhere():
    replies = MetaClient(nobody(), TIMEOUT_S).pipeline([Get(QUEUE.slot(1))] * 3)
    assert replies == [Reply(Status.UNREACHABLE)] * 3


def test_an_ipv6_host_in_brackets_is_reached():
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as silent:
        address = f"[::1]:{silent.getsockname()[1]}"
        with closing(MetaClient(address, TIMEOUT_S)) as client:
            assert client.meta_get("k").status is Status.LOST  # it was sent


def test_values_larger_than_one_packet_arrive_whole(client: MetaClient):
    value = b"MN\r\n" * 200_000
    client.meta_set("large", value)
    assert client.meta_get("large").value == value


def test_a_reply_cut_in_pieces_is_put_together():
    pieces = (b"VA 3 c1", b"7\r\nab", b"c\r\n")
    with server(*pieces) as address, closing(MetaClient(address, 1.0)) as client:
        reply = client.meta_get("k")
    assert reply == Reply(Status.OK, 0, b"abc", 17)


@pytest.mark.parametrize(
    "pieces", [(), (b"VA 3 c1\r\na",), (b"nonsense\r\n",), (b"VA x\r\n",), (b"VA 9 c1\r\nab\r\n",)]
)
def test_a_reply_that_does_not_come_whole_leaves_the_outcome_open(pieces: tuple[bytes, ...]):
    with server(*pieces) as address:
        client = MetaClient(address, TIMEOUT_S)
        assert client.meta_set("k", b"v").status is Status.LOST
        assert client.sock is None  # or the next command would read this one's reply


def test_without_a_server_nothing_was_applied():
    assert MetaClient(nobody(), TIMEOUT_S).meta_set("k", b"v").status is Status.UNREACHABLE


def test_an_interrupt_between_request_and_reply_closes_the_connection(client: MetaClient):
    client.meta_set("k", b"v")

    class Interrupting:
        def sendall(self, _: bytes) -> None:
            raise KeyboardInterrupt

        def close(self) -> None:
            pass

    client.close()
    client.sock = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        client.meta_get("k")
    assert client.sock is None
    assert client.meta_get("k").value == b"v"
