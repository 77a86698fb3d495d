"""The namespaced cache where a memcached is down, silent or curt, alone or among several."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

from harness.cache import (
    CacheError,
    Counted,
    DaemonDown,
    NamespacedCache,
    Written,
    connect,
)
from harness.cache.ring import Ring
from harness.services.memcached import MemcachedServer
from tests.cache_clients import TIMEOUT_S, plain
from tests.curt_server import nobody, server

STORED, NOT_STORED, UNKNOWN = Written.STORED, Written.NOT_STORED, Written.UNKNOWN


@pytest.fixture
def raw(memcached: MemcachedServer) -> Iterator[Client]:
    """Sees all keys as they are, in an empty memcached."""
    memcached.wipe()
    with closing(plain(memcached.address, default_noreply=False)) as client:
        yield client


@pytest.mark.services
def test_a_write_is_not_stored_where_nobody_listens_and_unknown_where_the_reply_is_lost() -> None:
    down = NamespacedCache(plain(nobody(), TIMEOUT_S))
    versioned = down.namespace("v", versioned=True)
    for cache in (down, versioned):
        assert cache.set("k", b"v") is NOT_STORED
        assert cache.delete("k") is NOT_STORED
        assert cache.incr("k") == Counted(NOT_STORED, None)
        assert cache.set_many({"a": b"1", "b": b"2"}) == {"a": NOT_STORED, "b": NOT_STORED}
    assert versioned.drop() is NOT_STORED
    with server() as address, closing(NamespacedCache(plain(address, TIMEOUT_S))) as silent:
        assert silent.set("k", b"v") is UNKNOWN
        assert silent.incr("k") == Counted(UNKNOWN, None)
        assert not silent.add("k", b"v")
    with server(b"HD\r\n", b"NS") as address, closing(NamespacedCache(plain(address))) as curt:
        assert curt.set_many({"a": b"1", "b": b"2"}) == {"a": STORED, "b": UNKNOWN}


@pytest.mark.services
def test_a_read_of_a_daemon_that_is_down_names_it_and_never_returns_none() -> None:
    address = nobody()
    # ignore_exc would make None of it.
    with closing(NamespacedCache(plain(address, TIMEOUT_S, ignore_exc=True))) as down:
        for call in (lambda: down.get("k"), lambda: down.gets("k"), lambda: down.get_many(["k"])):
            with pytest.raises(
                DaemonDown, match=f"memcached at {address} cannot be reached: .*ref"
            ):
                call()
    with (
        server() as address,
        closing(NamespacedCache(plain(address, TIMEOUT_S))) as silent,
        pytest.raises(DaemonDown, match=f"memcached at {address} did not answer in time"),
    ):
        silent.get("k")
    with (
        server(b"ERROR\r\n") as address,
        closing(NamespacedCache(plain(address))) as old,
        pytest.raises(DaemonDown, match=rf"memcached at {address} did not answer: .*ERROR.*1\.6"),
    ):
        old.get("k")
    with (
        server(b"SERVER_ERROR out of memory\r\n") as address,
        closing(NamespacedCache(plain(address))) as full,
        pytest.raises(CacheError, match=f"memcached at {address} refused: SERVER_ERROR out of mem"),
    ):
        full.get("k")


@pytest.mark.services
def test_a_read_over_a_connection_that_ended_while_idle_is_asked_again() -> None:
    """The server here answers once on each connection, as one that is restarted between."""
    with server(b"VA 1 f0 c1\r\nx\r\n") as a, closing(NamespacedCache(plain(a))) as cache:
        assert [cache.get("k") for _ in range(3)] == [b"x"] * 3
        assert cache.set("k", b"v") is UNKNOWN  # a write is not


def homes(daemons: int) -> dict[int, str]:
    """For each daemon a key that lies on it."""
    ring = Ring(daemons, None)
    return {ring.home_of(f"site:{n}"): str(n) for n in range(50)}


@pytest.mark.services
def test_of_several_daemons_a_dead_ones_keys_fail_or_move_as_was_said(
    memcached: MemcachedServer, mirror: MemcachedServer
) -> None:
    for each in (memcached, mirror):
        each.wipe()
    dead = nobody()
    keys = homes(3)
    several = f"{memcached.address},{dead},{mirror.address}"
    with closing(connect(several, "site", rehash=False)) as fixed:
        assert fixed.set_many(dict.fromkeys(keys.values(), b"v")) == {
            keys[0]: STORED, keys[1]: NOT_STORED, keys[2]: STORED,
        }  # fmt: skip
        assert fixed.get_many([keys[0], keys[2]]) == {keys[0]: b"v", keys[2]: b"v"}
        for _ in range(2):
            with pytest.raises(DaemonDown, match=f"memcached at {dead}"):
                fixed.get(keys[1])
            assert fixed.set(keys[1], b"v") is NOT_STORED
            with pytest.raises(DaemonDown, match=f"memcached at {dead}"):
                fixed.get_many(list(keys.values()))
            assert fixed.get_or_set(keys[1], lambda: b"w", ttl_s=60) == b"w"
    with closing(connect(several, "site", rehash=True, dead_s=60.0)) as moving:
        assert set(moving.set_many(dict.fromkeys(keys.values(), b"v")).values()) == {STORED}
        assert moving.get_many(keys.values()) == dict.fromkeys(keys.values(), b"v")
        assert moving.incr(keys[1]).written is NOT_STORED  # it is no number: it was asked
        assert moving.delete_many(keys.values()) == dict.fromkeys(keys.values(), STORED)
    with closing(connect(several, "site", rehash=True, dead_s=60.0)) as another:
        assert another.get(keys[1]) is None  # it found out by a read
    both = f"{dead},{nobody()}"
    with (
        closing(connect(both, "site", rehash=True)) as none,
        pytest.raises(DaemonDown, match="memcached at"),
    ):
        none.get_many(list(keys.values()))


@pytest.mark.services
def test_a_write_whose_reply_was_lost_is_not_repeated_on_another_daemon(
    memcached: MemcachedServer, raw: Client
) -> None:
    with server() as silent:
        clients = [plain(silent, TIMEOUT_S), plain(memcached.address)]
        with closing(NamespacedCache(clients, "site", rehash=True)) as cache:
            key = homes(2)[0]
            assert cache.set(key, b"v") is UNKNOWN
            assert raw.get(f"site:{key}") is None
            assert cache.set(key, b"v") is STORED  # now it is known to be dead
            assert raw.get(f"site:{key}") == b"v"


def test_clients_and_addresses_that_cannot_be_worked_with_are_refused() -> None:
    client = Client("127.0.0.1:1")
    with pytest.raises(ValueError, match="rehash=True, or False"):
        NamespacedCache([client, Client("127.0.0.1:2")])
    with pytest.raises(ValueError, match="one client for each daemon"):
        NamespacedCache([])
    with pytest.raises(TypeError, match="HashClient answers False or None"):
        NamespacedCache(HashClient(["127.0.0.1:1"]))
    for wrong in ("127.0.0.1", "127.0.0.1:", ":11211", "a:1,,b:2"):
        with pytest.raises(ValueError, match="is no host:port"):
            connect(wrong, rehash=False)
    with pytest.raises(ValueError, match="twice"):
        connect("a:1,a:1", rehash=False)


@pytest.mark.services
def test_a_daemon_that_stands_still_costs_one_time_out_and_not_one_per_call() -> None:
    with server() as address, closing(connect(address, timeout_s=TIMEOUT_S)) as cache:
        begin_s = time.monotonic()
        assert cache.set("k", b"v") is UNKNOWN
        for _ in range(20):
            with pytest.raises(DaemonDown):
                cache.get("k")
        assert time.monotonic() - begin_s < 2 * TIMEOUT_S
