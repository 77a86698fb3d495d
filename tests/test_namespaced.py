"""The namespaced cache on a real memcached, over each kind of pymemcache's clients."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymemcache.client.base import Client, PooledClient
from pymemcache.serde import pickle_serde

from harness.cache import (
    BadKey,
    Counted,
    Held,
    Json,
    NamespacedCache,
    Serde,
    UnfitKeys,
    UnreadableValue,
    Written,
)
from harness.cache.keys import MAX_KEY_BYTES, fitted
from harness.cache.meta_client import MetaClient
from harness.services.memcached import MemcachedServer
from tests.cache_clients import plain

STORED, NOT_STORED, UNKNOWN = Written.STORED, Written.NOT_STORED, Written.UNKNOWN
LAST_KEY = "the last key of all"


Over: TypeAlias = Callable[..., NamespacedCache[bytes | str]]
CLIENTS: dict[str, Callable[[str], Any]] = {
    "Client": plain,
    "PooledClient": lambda address: PooledClient(address, timeout=1.0, max_pool_size=2),
    "MetaClient": lambda address: MetaClient(address, 1.0),
}


@pytest.fixture
def raw(memcached: MemcachedServer) -> Iterator[Client]:
    """Sees all keys as they are, in an empty memcached."""
    memcached.wipe()
    with closing(plain(memcached.address, default_noreply=False)) as client:
        yield client


@pytest.fixture
def over() -> Iterator[Over]:
    """Makes caches as `NamespacedCache` does, and closes them."""
    with ExitStack() as made:
        yield lambda *args, **options: made.enter_context(
            closing(NamespacedCache(*args, **options))
        )


@pytest.fixture
def cache(memcached: MemcachedServer, raw: Client, over: Over) -> NamespacedCache[bytes | str]:  # noqa: ARG001
    return over(plain(memcached.address), "site")


@pytest.mark.services
@pytest.mark.parametrize("kind", CLIENTS)
def test_every_method_keeps_to_the_namespace_over_every_client(
    raw: Client, memcached: MemcachedServer, kind: str
) -> None:
    with closing(NamespacedCache(CLIENTS[kind](memcached.address), "site")) as cache:
        # Without the namespace there is something else under each key; nobody may touch it.
        others = dict.fromkeys(("a", "b", "c", "n", "absent"), b"7")
        raw.set_many(others)
        assert cache.set("a", b"1") is STORED
        assert raw.get("site:a") == b"1"
        assert cache.get("a") == b"1"
        assert cache.add("a", b"2") is NOT_STORED
        assert cache.add("b", b"2") is STORED
        assert cache.replace("absent", b"2") is NOT_STORED
        assert cache.replace("b", b"3") is STORED
        assert cache.append("b", b"4") is STORED
        assert cache.prepend("b", b"2") is STORED
        assert raw.get("site:b") == b"234"
        assert cache.append("absent", b"4") is cache.prepend("absent", b"4") is NOT_STORED
        held = cache.gets("b")
        assert held
        assert held.value == b"234"
        assert cache.cas("b", b"5", held.cas) is STORED
        assert cache.cas("b", b"6", held.cas) is NOT_STORED
        assert cache.cas("absent", b"6", held.cas) is NOT_STORED
        assert cache.set("n", b"9") is STORED
        assert cache.incr("n") == Counted(STORED, 10)
        assert cache.incr("n", 5) == Counted(STORED, 15)
        assert cache.decr("n", 2) == Counted(STORED, 13)
        assert cache.decr("n", 99) == Counted(STORED, 0)
        assert cache.incr("absent") == cache.decr("absent") == Counted(NOT_STORED, None)
        assert cache.touch("n", 60) is STORED
        assert cache.touch("absent", 60) is NOT_STORED
        assert cache.set_many({"a": b"1", "c": b"3"}) == {"a": STORED, "c": STORED}
        assert cache.get_many(["a", "absent", "c"]) == {"a": b"1", "c": b"3"}
        assert cache.delete_many(["a", "absent"]) == {"a": STORED, "absent": NOT_STORED}
        assert cache.delete("c") is STORED
        assert cache.delete("c") is NOT_STORED
        assert cache.get("c") is None
        assert cache.get("c", "default") == "default"
        assert cache.gets("c") is None
        assert raw.get_many(list(others)) == others


@pytest.mark.services
def test_what_the_subclass_of_the_post_gets_wrong_is_right_here(
    cache: NamespacedCache[bytes | str], memcached: MemcachedServer, raw: Client, over: Over
) -> None:
    # It returns nothing from incr and add, so no lock is ever had.
    assert cache.set("lock", b"0")
    assert cache.incr("lock").number == 1
    assert bool(cache.add("token", b"me")) is True
    assert bool(cache.add("token", b"you")) is False
    # Its set returns an empty list, which is false, when it has stored.
    assert bool(cache.set("key", b"value")) is True
    assert bool(cache.delete("key")) is True
    # Its gets, cas, append, prepend and touch are those of its base, so without the namespace.
    cache.set("key", b"b")
    held = cache.gets("key")
    assert held
    assert cache.cas("key", b"b", held.cas)
    assert cache.append("key", b"c")
    assert cache.prepend("key", b"a")
    assert cache.touch("key", 60)
    assert raw.get("site:key") == b"abc"
    assert raw.get("key") is None
    # Without a namespace every call of it raises AttributeError.
    bare = over(plain(memcached.address))
    assert bare.set("key", b"1")
    assert bare.get("key") == raw.get("key") == b"1"
    # It asks for a missing key by an index, and lets the caller see what comes of that.
    assert bare.get("absent") is None


@pytest.mark.services
def test_keys_come_back_as_they_were_given_and_namespaces_nest(
    cache: NamespacedCache[bytes | str], raw: Client
) -> None:
    poll = cache.namespace("poll:42")
    assert poll.namespace("totals").set("yes", "4")
    assert raw.get("site:poll:42:totals:yes") == b"4"
    assert poll.set_many({b"open": "1", b"closed": "0"}) == {b"open": STORED, b"closed": STORED}
    assert poll.get_many([b"open", b"closed", b"absent"]) == {b"open": "1", b"closed": "0"}
    assert cache.get_many(["poll:42:open"]) == {"poll:42:open": "1"}
    with pytest.raises(BadKey, match="has a name"):
        cache.namespace("")


@pytest.mark.services
def test_the_namespace_of_the_post_is_a_prefix_as_it_stands(
    raw: Client, memcached: MemcachedServer, over: Over
) -> None:
    foo = over(plain(memcached.address), "foo_", separator="")
    assert foo.set("123", "bar")
    assert raw.get("foo_123") == b"bar"
    prefixed = over(plain(memcached.address, key_prefix=b"tenant-"), "site")
    assert prefixed.set("a", "b")
    assert raw.get("tenant-site:a") == b"b"


INJECTIONS = ("a\r\nflush_all\r\n", "a b", "a\tb", "a\x00b", "a\x7f", "ä", "", "x" * 246, b"\xff")


@pytest.mark.services
@pytest.mark.parametrize("key", INJECTIONS, ids=repr)
def test_a_key_that_memcached_cannot_read_is_refused_and_nothing_is_sent(
    cache: NamespacedCache[bytes | str], raw: Client, key: str | bytes
) -> None:
    cache.set("witness", b"1")
    before = raw.stats()
    calls: list[Callable[[], object]] = [
        *(lambda: cache.get(key), lambda: cache.gets(key), lambda: cache.get_many([key])),
        *(lambda: cache.set(key, b"v"), lambda: cache.add(key, b"v"), lambda: cache.incr(key)),
        *(lambda: cache.replace(key, b"v"), lambda: cache.append(key, b"v")),
        *(lambda: cache.prepend(key, b"v"), lambda: cache.cas(key, b"v", 1)),
        *(lambda: cache.decr(key), lambda: cache.touch(key), lambda: cache.delete(key)),
        *(lambda: cache.set_many({key: b"v"}), lambda: cache.delete_many([key])),
        *(lambda: cache.get_or_set(key, bytes, ttl_s=0), lambda: cache.namespace("p").get(key)),
        lambda: cache.get_or_set_many([key], dict.fromkeys, ttl_s=0),
        lambda: cache.refresh(key, bytes, ttl_s=0),
    ]
    for call in calls:
        with pytest.raises(BadKey):
            call()
    after = raw.stats()
    counted = [each for each in after if each.startswith(b"cmd_")]
    assert [after[each] for each in counted] == [before[each] for each in counted]
    assert cache.get("witness") == b"1"


@pytest.mark.services
@pytest.mark.parametrize("key", [key for key in INJECTIONS if key], ids=repr)
def test_or_it_is_hashed_and_works_as_any_other(
    memcached: MemcachedServer, raw: Client, over: Over, key: str | bytes
) -> None:
    raw.set("witness", b"1")
    cache = over(plain(memcached.address), "site", unfit_keys=UnfitKeys.HASH)
    assert cache.set(key, b"v")
    assert cache.get(key) == b"v"
    assert cache.get_many([key, "other"]) == {key: b"v"}
    assert cache.namespace("a name with spaces " * 20).set(key, b"w")
    assert cache.get(key) == b"v"
    assert cache.delete(key)
    assert raw.get("witness") == b"1"


def test_a_namespace_that_no_key_fits_behind_is_refused_at_once() -> None:
    client = Client("127.0.0.1:1")
    for namespace in ("two words", "x" * 249):
        with pytest.raises(BadKey):
            NamespacedCache(client, namespace)
        with pytest.raises(BadKey):
            NamespacedCache(client, "site").namespace(namespace)


@given(
    st.text(max_size=300),
    st.text(min_size=1, max_size=300) | st.binary(min_size=1, max_size=300),
    st.text(min_size=1, max_size=300),
)
def test_a_hashed_key_fits_and_no_two_keys_share_one(
    prefix: str, key: str | bytes, other: str
) -> None:
    name = fitted(prefix, key, UnfitKeys.HASH)
    assert len(name) <= MAX_KEY_BYTES
    assert all("!" <= letter <= "~" for letter in name)
    text = key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else key
    assert (fitted(prefix, other, UnfitKeys.HASH) == name) is (other == text)
    # What looks like a hashed key of the same namespace is none.
    if name != prefix + text:
        assert fitted(prefix, name.removeprefix(prefix), UnfitKeys.HASH) != name


@pytest.mark.services
def test_a_versioned_namespace_is_dropped_in_one_step_for_everybody(
    cache: NamespacedCache[bytes | str], memcached: MemcachedServer, raw: Client, over: Over
) -> None:
    poll = cache.namespace("poll", versioned=True)
    inside = poll.namespace("totals")
    elsewhere = over(plain(memcached.address), "site").namespace("poll", versioned=True)
    cache.set("beside", b"1")
    poll.set("a", b"1")
    inside.set("b", b"2")
    assert elsewhere.get("a") == b"1"
    assert poll.drop() is STORED
    for space, key in ((poll, "a"), (elsewhere, "a"), (inside, "b")):
        assert space.get(key) is None
    assert cache.get("beside") == b"1"
    elsewhere.set("a", b"2")
    assert poll.get("a") == b"2"
    raw.delete("site:poll:@")  # memcached forgot it: a later one follows, and nothing comes back
    assert poll.get("a") is None
    with pytest.raises(TypeError, match="versioned=True"):
        cache.drop()


@pytest.mark.services
def test_a_generation_costs_a_round_trip_a_call_or_one_while_it_is_remembered(
    cache: NamespacedCache[bytes | str], memcached: MemcachedServer, raw: Client
) -> None:
    def asked(call: Callable[[], object]) -> int:
        before = raw.stats()
        for _ in range(10):
            call()
        after = raw.stats()
        names = (b"cmd_get", b"cmd_set", b"incr_hits", b"incr_misses")
        return sum(int(after[name] - before[name]) for name in names)

    poll = cache.namespace("poll", versioned=True)
    lazy = cache.namespace("poll", versioned=True, remembered_s=60.0)
    poll.set("a", b"1")
    assert lazy.get("a") == b"1"
    assert asked(lambda: cache.get("a")) == 10
    assert asked(lambda: poll.get("a")) == 20
    assert asked(lambda: lazy.get("a")) == 10
    poll.drop()
    assert lazy.get("a") == b"1"  # it has not heard
    lazy.drop()
    assert lazy.get("a") is None  # its own drop it does know of
    assert memcached.child.pid == raw.stats()[b"pid"]


@pytest.mark.services
def test_a_refused_value_is_not_stored_and_says_nothing_of_the_others(
    cache: NamespacedCache[bytes | str],
) -> None:
    large = b"x" * 2_000_000
    assert cache.set("large", large) is NOT_STORED
    assert cache.set_many({"a": b"1", "large": large, "b": b"2"}) == {
        "a": STORED, "large": NOT_STORED, "b": STORED,
    }  # fmt: skip
    assert cache.set("word", b"abc") is STORED
    assert cache.incr("word") == Counted(NOT_STORED, None)
    assert cache.get_many(["a", "b", "large"]) == {"a": b"1", "b": b"2"}
    half = b"x" * 900_000
    assert cache.set("half", half)
    assert cache.get("half") == half  # in many pieces


@pytest.mark.services
def test_an_interrupt_between_request_and_answer_closes_the_connection(
    memcached: MemcachedServer, raw: Client, over: Over
) -> None:
    raw.set("k", b"v")

    class Interrupting:
        def sendall(self, _: bytes) -> None:
            raise KeyboardInterrupt

        def close(self) -> None:
            pass

    client = plain(memcached.address)
    cache = over(client)
    for call in (lambda: cache.get("k"), lambda: cache.set_many({"a": b"1"})):
        client.close()
        client.sock = Interrupting()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            call()
        assert client.sock is None
    assert cache.get("k") == b"v"


class Rating(NamedTuple):
    stars: int
    text: str


@pytest.mark.services
def test_values_come_back_as_they_were_and_others_need_a_codec(
    cache: NamespacedCache[bytes | str], raw: Client
) -> None:
    for value in ("text", "ä", b"bytes", b"", "", b"\r\nEND\r\n", None):
        assert cache.set("k", value)
        assert cache.get("k", "default") == value
        assert cache.gets("k") == Held(value, int(raw.gets("site:k")[1] or 0))
    with pytest.raises(TypeError, match="bytes or str, not int"):
        cache.set("k", 5)  # type: ignore[arg-type]
    ratings = cache.namespace("rating", codec=Json(Rating))
    assert ratings.set("k", Rating(5, "fine"))
    assert ratings.get("k") == Rating(5, "fine")
    assert raw.get("site:rating:k") == b'[5,"fine"]'
    raw.set("site:rating:k", b'{"stars": 5}')
    with pytest.raises(UnreadableValue, match="codec cannot read the 12 bytes there"):
        ratings.get("k")


@pytest.mark.services
def test_nothing_is_unpickled_unless_that_was_asked_for(
    cache: NamespacedCache[bytes | str], memcached: MemcachedServer
) -> None:
    writer = plain(memcached.address, serde=pickle_serde, default_noreply=False)
    writer.set("site:k", {"a": 1})
    with pytest.raises(UnreadableValue, match="flags 1"):
        cache.get("k")
    assert cache.namespace("any", codec=Serde(pickle_serde)).set("k", Rating(1, "x"))
    assert cache.namespace("any", codec=Serde(pickle_serde)).get("k") == Rating(1, "x")
    writer.close()


@pytest.mark.services
def test_a_placeholder_of_somebody_who_calculates_is_no_value(
    cache: NamespacedCache[bytes | str], raw: Client
) -> None:
    raw.raw_command("mg site:k v N60")
    assert raw.get("site:k") == b""
    assert cache.get("k") is None
    assert cache.gets("k") is None
    assert cache.get_many(["k"]) == {}
    assert cache.set("k", b"") is STORED
    assert cache.get("k") == b""


@pytest.mark.services
def test_a_lifetime_of_more_than_a_month_is_not_taken_for_a_date(
    cache: NamespacedCache[bytes | str], raw: Client
) -> None:
    year_s = 365 * 24 * 3600
    assert cache.set("k", b"v", ttl_s=year_s)
    assert cache.touch("k", ttl_s=year_s)
    assert cache.get("k") == b"v"
    life_s = int(raw.raw_command("mg site:k t").removeprefix(b"HD t"))
    assert year_s - 5 < life_s <= year_s + 5
    with pytest.raises(ValueError, match="0 is for good"):
        cache.set("k", b"v", ttl_s=-1)


@pytest.mark.services
def test_what_would_be_understood_as_something_else_is_refused(
    cache: NamespacedCache[bytes | str],
) -> None:
    cache.set("k", b"1")
    with pytest.raises(ValueError, match="number 0"):
        cache.cas("k", b"2", 0)  # memcached would store it in any case
    for delta in (-1, 2**64):
        with pytest.raises(ValueError, match="2\\^64"):
            cache.incr("k", delta)


@pytest.mark.services
def test_threads_may_share_one_cache_over_a_pool(memcached: MemcachedServer, raw: Client) -> None:
    with closing(NamespacedCache(PooledClient(memcached.address, timeout=5.0), "site")) as cache:
        cache.set("n", b"0")

        def work() -> None:
            for number in range(50):
                cache.incr("n")
                key = f"{threading.get_ident()}-{number}"
                cache.set(key, key)
                assert cache.get(key) == key

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert raw.get("site:n") == b"200"
