"""Reading through the cache: who calculates, who waits, and what everybody gets."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from random import Random
from typing import TypeAlias

import pytest
from pymemcache.client.base import Client

from harness.cache import AfterWait, Json, NamespacedCache, WaitedInVain, Written, connect
from harness.cache.get_or_set import FIRST_NAP_S, LEAST_LIFE_S, Nap, Terms, _life_s
from harness.cache.meta_client import MetaClient
from harness.services.memcached import MemcachedServer
from tests.curt_server import nobody, server

Cache: TypeAlias = NamespacedCache[bytes | str]
NOW: dict[str, float] = {"wait_s": 0.0}


class Calculation:
    """Counts how often it is asked, and returns that."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self.calls = 0
        self._before = before

    def __call__(self) -> str:
        self.calls += 1
        value = str(self.calls)
        self._before()
        return value


def fail() -> str:
    raise RuntimeError("no database")


@pytest.fixture
def raw(memcached: MemcachedServer) -> Iterator[Client]:
    memcached.wipe()
    client = Client(memcached.address, timeout=1.0, no_delay=True, default_noreply=False)
    with closing(client):
        yield client


@pytest.fixture
def cache(raw: Client, memcached: MemcachedServer) -> Iterator[Cache]:  # noqa: ARG001
    with closing(NamespacedCache(MetaClient(memcached.address, 1.0), "s")) as cache:
        yield cache


@pytest.fixture
def other(cache: Cache, memcached: MemcachedServer) -> Iterator[Cache]:  # noqa: ARG001
    """As another process has it."""
    with closing(NamespacedCache(Client(memcached.address, timeout=1.0), "s")) as other:
        yield other


@pytest.mark.services
@pytest.mark.parametrize("value", ["text", b"bytes", b"", "", None], ids=repr)
def test_whatever_is_calculated_is_calculated_once(
    cache: Cache, other: Cache, value: bytes | str | None
) -> None:
    calls: list[int] = []

    def calculate() -> bytes | str | None:
        calls.append(1)
        return value

    for each in (cache, other, cache):
        assert each.get_or_set("k", calculate, ttl_s=60) == value
        assert each.get_or_set("k", calculate, ttl_s=60, stale_s=3600) == value
    assert len(calls) == 2  # once for all, and once because only 60 s of 3,660 were left


@pytest.mark.services
def test_a_hit_is_one_round_trip_and_a_miss_two(raw: Client, memcached: MemcachedServer) -> None:
    class Counting:
        def __init__(self, client: Client) -> None:
            self.sent = self.received = 0
            client._connect()
            self._socket, client.sock = client.sock, self  # type: ignore[assignment]

        def sendall(self, request: bytes) -> None:
            self.sent += 1
            assert self._socket
            self._socket.sendall(request)

        def recv(self, size: int) -> bytes:
            self.received += 1
            assert self._socket
            return self._socket.recv(size)

        def close(self) -> None:
            assert self._socket
            self._socket.close()

    def commands() -> int:
        stats = raw.stats()
        return sum(int(stats[name]) for name in (b"cmd_get", b"cmd_set", b"delete_hits"))

    client = Client(memcached.address, timeout=1.0)
    counting = Counting(client)
    with closing(NamespacedCache(client, "s")) as cache:
        before = commands()
        cache.get_or_set("k", Calculation(), ttl_s=60)
        assert (counting.sent, counting.received, commands() - before) == (2, 2, 2)
        for _ in range(10):
            cache.get_or_set("k", fail, ttl_s=60)
        assert (counting.sent, counting.received, commands() - before) == (12, 12, 12)
        many = [f"k{n}" for n in range(100)]
        cache.get_or_set_many(many, lambda keys: dict.fromkeys(keys, "v"), ttl_s=60)
        assert counting.sent == 14
        cache.get_or_set_many(many, dict.fromkeys, ttl_s=60)
        assert counting.sent == 15


@pytest.mark.services
def test_of_many_who_miss_at_once_one_calculates_and_all_get_its_value(
    raw: Client,  # noqa: ARG001
    memcached: MemcachedServer,
) -> None:
    crowd = 16
    barrier = threading.Barrier(crowd)
    calculation = Calculation(lambda: time.sleep(0.05))
    got: list[object] = []

    def ask() -> None:
        with closing(connect(memcached.address, "s")) as cache:
            barrier.wait(10)
            got.append(cache.get_or_set("k", calculation, ttl_s=60))
            barrier.wait(10)
            many = cache.get_or_set_many(["a", "b"], several, ttl_s=60)
            got.append(many["a"])

    def several(keys: Sequence[str]) -> dict[str, bytes | str | None]:
        return dict.fromkeys(keys, calculation())

    threads = [threading.Thread(target=ask) for _ in range(crowd)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert got == ["1"] * crowd + ["2"] * crowd
    assert calculation.calls == 2


@pytest.mark.services
def test_when_the_winner_has_died_its_lease_ends_and_another_wins(
    cache: Cache, raw: Client
) -> None:
    raw.raw_command("mg s:k N2")  # won, and never heard of again
    begin_s = time.monotonic()
    assert cache.get_or_set("k", Calculation(), ttl_s=60, wait_s=10.0) == "1"
    assert 0.5 < time.monotonic() - begin_s < 4
    assert cache.get("k") == "1"


@pytest.mark.services
def test_who_does_not_want_to_wait_any_longer_does_as_was_said(cache: Cache, raw: Client) -> None:
    raw.raw_command("mg s:k N60")
    calculation = Calculation()
    with pytest.raises(WaitedInVain, match=r"s:k: nobody calculated it within 0\.01 s"):
        cache.get_or_set("k", calculation, ttl_s=60, wait_s=0.01, after_wait=AfterWait.RAISE)
    with pytest.raises(WaitedInVain, match="s:k"):
        cache.get_or_set_many(["k"], dict, ttl_s=60, wait_s=0.01, after_wait=AfterWait.RAISE)
    assert calculation.calls == 0
    assert cache.get_or_set("k", calculation, ttl_s=60, wait_s=0.0) == "1"
    assert cache.get_or_set_many(["k"], lambda keys: dict.fromkeys(keys, "m"), ttl_s=9, **NOW) == {
        "k": "m"
    }
    assert cache.get("k") is None  # it is still for the winner to store


@pytest.mark.services
@pytest.mark.parametrize("old", ["old", b"", None], ids=repr)
def test_while_one_calculates_anew_the_others_get_the_old_value_at_once(
    cache: Cache, other: Cache, old: bytes | str | None
) -> None:
    cache.set("k", old, ttl_s=5)  # of 60 s and 10 s more: the 10 have begun
    seen: list[object] = []

    def slow() -> str:
        wanted = {"ttl_s": 60, "stale_s": 10, "after_wait": AfterWait.RAISE, **NOW}
        seen.append(other.get_or_set("k", fail, **wanted))
        seen.append(other.get_or_set_many(["k"], dict.fromkeys, **wanted)["k"])
        return "new"

    assert cache.get_or_set("k", slow, ttl_s=60, stale_s=10) == "new"
    assert seen == [old, old]
    assert other.get_or_set("k", fail, ttl_s=60, stale_s=10) == "new"


@pytest.mark.services
def test_what_was_set_or_deleted_meanwhile_is_not_undone_by_a_slow_winner(
    cache: Cache, other: Cache
) -> None:
    overtaken = Calculation(lambda: other.set("k", "newer"))
    assert cache.get_or_set("k", overtaken, ttl_s=60) == "1"
    assert cache.get("k") == "newer"
    cache.delete("k")
    invalidated = Calculation(lambda: other.delete("k"))
    assert cache.get_or_set("k", invalidated, ttl_s=60) == "1"
    assert cache.get("k") is None
    late = Calculation(lambda: other.delete("k") and other.get_or_set("k", lambda: "w", ttl_s=60))
    assert cache.get_or_set("k", late, ttl_s=60) == "1"
    assert cache.get("k") == "w"


@pytest.mark.services
def test_what_the_calculation_raises_is_passed_on_and_nobody_waits_for_it(
    cache: Cache, other: Cache
) -> None:
    for error in (fail, lambda: 5):  # the second is no value
        with pytest.raises((RuntimeError, TypeError)):
            cache.get_or_set("k", error, ttl_s=60)  # type: ignore[arg-type]
        with pytest.raises((RuntimeError, TypeError)):
            cache.get_or_set_many(
                ["k", "l"], lambda keys, e=error: dict.fromkeys(keys, e()), ttl_s=60
            )
        with pytest.raises((RuntimeError, TypeError)):
            cache.refresh("k", error, ttl_s=60)  # type: ignore[arg-type]
        wanted = {"ttl_s": 60, "after_wait": AfterWait.RAISE}
        assert other.get_or_set("k", Calculation(), **wanted, **NOW) == "1"
        other.delete("k")
    with pytest.raises(KeyError, match=r"no value for \['l'\]"):
        cache.get_or_set_many(["k", "l"], lambda _: {"k": "v"}, ttl_s=60)


@pytest.mark.services
def test_with_an_old_value_a_failed_calculation_fails_for_one_caller_only(
    cache: Cache, other: Cache
) -> None:
    cache.set("k", "old", ttl_s=5)
    with pytest.raises(RuntimeError):
        cache.get_or_set("k", fail, ttl_s=60, stale_s=10)
    for each in (cache, other):
        assert each.get_or_set("k", fail, ttl_s=60, stale_s=10) == "old"


@pytest.mark.services
def test_without_memcached_everybody_calculates() -> None:
    address = nobody()
    with closing(connect(address, "s", timeout_s=0.2)) as cache:
        versioned = cache.namespace("v", versioned=True)
        for each in (cache, versioned):
            assert each.get_or_set("k", Calculation(), ttl_s=60) == "1"
            found = each.get_or_set_many(["a", "b"], lambda keys: dict.fromkeys(keys, "v"), ttl_s=9)
            assert found == {"a": "v", "b": "v"}
            assert each.refresh("k", Calculation(), ttl_s=60) is Written.NOT_STORED
    with server() as address, closing(connect(address, "s", timeout_s=0.2)) as silent:
        begin_s = time.monotonic()
        for _ in range(10):
            assert silent.get_or_set("k", Calculation(), ttl_s=60) == "1"
        assert time.monotonic() - begin_s < 0.4  # one time-out


@pytest.mark.services
def test_a_value_that_memcached_refuses_is_returned_and_nobody_waits_for_it(
    cache: Cache, other: Cache
) -> None:
    large = b"x" * 2_000_000
    assert cache.get_or_set("k", lambda: large, ttl_s=60) == large
    wanted = {"ttl_s": 60, "after_wait": AfterWait.RAISE}
    assert other.get_or_set("k", lambda: large, **wanted, **NOW) == large
    both = cache.get_or_set_many(["k", "l"], lambda keys: dict.fromkeys(keys, large), ttl_s=60)
    assert both == {"k": large, "l": large}
    assert other.get_or_set("l", Calculation(), **wanted, **NOW) == "1"


@pytest.mark.services
def test_a_value_that_cannot_be_read_is_calculated_anew_by_one(cache: Cache) -> None:
    numbers = cache.namespace("n", codec=Json(int))
    cache.set_many({"n:a": '"of an older version"', "n:b": "?"})
    assert numbers.get_or_set("a", lambda: 5, ttl_s=60, **NOW) == 5
    assert numbers.get_or_set_many(["a", "b"], lambda keys: dict.fromkeys(keys, 6), ttl_s=60) == {
        "a": 5, "b": 6,
    }  # fmt: skip
    assert numbers.get_many(["a", "b"]) == {"a": 5, "b": 6}


@pytest.mark.services
def test_many_calculates_what_is_missing_waits_for_others_and_asks_each_key_once(
    cache: Cache, other: Cache
) -> None:
    cache.set("there", "0")
    asked: list[Sequence[str]] = []

    def outer(keys: Sequence[str]) -> dict[str, bytes | str | None]:
        asked.append(keys)
        if "a" in keys:  # another process comes by, which has to wait for these
            thread.start()
            time.sleep(0.03)
        return dict.fromkeys(keys, f"outer {len(asked)}")

    got: list[object] = []
    thread = threading.Thread(
        target=lambda: got.append(other.get_or_set_many(["c", "b", "there"], outer, ttl_s=60))
    )
    wanted = ["there", "a", "b", "a"]
    assert cache.get_or_set_many(wanted, outer, ttl_s=60) == {
        "there": "0", "a": "outer 2", "b": "outer 2",
    }  # fmt: skip
    thread.join(10)
    assert got == [{"c": "outer 2", "b": "outer 2", "there": "0"}]
    assert asked == [["a", "b"], ["c"]]
    assert cache.get_or_set_many([], outer, ttl_s=60) == {}


@pytest.mark.services
def test_of_two_refreshes_the_one_that_began_to_calculate_later_stays(
    cache: Cache, other: Cache
) -> None:
    """As two flushers do: each counts what is in the database at that moment."""
    ballots = ["first"]

    def counted_slowly() -> str:
        seen = ballots[-1]
        if seen == "first":  # meanwhile a vote arrives, and another flusher is through at once
            ballots.append("second")
            assert other.refresh("k", lambda: ballots[-1], ttl_s=0) is Written.STORED
        return seen

    for before in ("nothing is there", "something is"):
        ballots[:] = ["first"]
        assert cache.refresh("k", counted_slowly, ttl_s=0) is Written.STORED
        assert cache.get("k") == "second", before
    asked: list[int] = []

    def always_overtaken() -> str:
        asked.append(other.refresh("k", lambda: "later", ttl_s=0) is Written.STORED)
        return "earlier"

    assert cache.refresh("k", always_overtaken, ttl_s=0) is Written.STORED
    assert asked == [True, True]
    assert cache.get("k") == "later"
    gone = Calculation(lambda: other.delete("k"))
    assert cache.refresh("k", gone, ttl_s=0) is Written.NOT_STORED
    assert cache.get("k") is None


@pytest.mark.services
def test_a_refresh_wins_over_a_reader_who_began_before_it(cache: Cache, other: Cache) -> None:
    reader = Calculation(lambda: other.refresh("k", lambda: "refreshed", ttl_s=0))
    assert cache.get_or_set("k", reader, ttl_s=0) == "1"
    assert cache.get("k") == "refreshed"


def test_a_life_is_shorter_by_its_jitter_at_most_and_the_same_seed_gives_the_same() -> None:
    terms = Terms(100, stale_s=10, jitter=0.2)
    lives = [_life_s(terms, Random(n)) for n in range(2000)]
    assert lives == [_life_s(terms, Random(n)) for n in range(2000)]
    assert (min(lives), max(lives)) == (90, 110)
    assert 99 < sum(lives) / len(lives) < 101
    assert {_life_s(Terms(100, jitter=0.0), Random(n)) for n in range(50)} == {100}
    assert {_life_s(Terms(0), Random(n)) for n in range(50)} == {0}
    assert {_life_s(Terms(5), Random(n)) for n in range(500)} == {4, 5}
    assert min(_life_s(Terms(2), Random(n)) for n in range(50)) == LEAST_LIFE_S


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        (Terms(1), "2 s at least"),
        (Terms(60, lease_s=1), "2 s at least"),
        (Terms(-1), "not negative"),
        (Terms(60, wait_s=-1.0), "not negative"),
        (Terms(60, jitter=1.0), "below 1"),
        (Terms(0, stale_s=5), "never stale"),
    ],
)
def test_times_that_cannot_be_kept_are_refused(terms: Terms, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        terms.checked()


def test_naps_grow_and_end_with_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    naps: list[float] = []

    def sleep(duration_s: float) -> None:
        naps.append(duration_s)
        now_s[0] += duration_s

    monkeypatch.setattr("harness.cache.get_or_set.monotonic", lambda: now_s[0])
    monkeypatch.setattr("harness.cache.get_or_set.sleep", sleep)
    nap = Nap(1.0, Random(1))
    while nap.take():
        assert len(naps) < 100
    assert sum(naps) == pytest.approx(1.0)
    assert naps[0] <= FIRST_NAP_S
    assert 20 < len(naps) < 50
    assert not Nap(0.0, Random(1)).take()
