"""What the protocols rely on in memcached: the simulated and the real one pass the same tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.protocol.commands import Add, Delete, Get, Incr, Reply, Set, Status
from harness.services.processes import Supervisor
from harness.simulation.memcached import SECOND_NS, SimulatedMemcached
from harness.simulation.slabs import CHUNK_SIZES, PAGE_BYTES, class_of
from tests.stores import RealStore, SimulatedStore, Store, key

A, B = key("a"), key("b")
LARGEST = 1024 * 1024 - 59 - len("a")
Begin = Callable[..., Store]


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.services)])
def begin(request: pytest.FixtureRequest, supervisor: Supervisor, logs: Path) -> Iterator[Begin]:
    """Starts a store with these MiB, which evicts or refuses."""
    with ExitStack() as stack:

        def start(memory_mib: int = 64, *, evict: bool = True) -> Store:
            if request.param == "simulated":
                return SimulatedStore(SimulatedMemcached(memory_mib, evict=evict))
            store = RealStore(supervisor, logs / "memcached.log", memory_mib, evict=evict)
            stack.callback(store.close)
            return store

        yield start


def test_stores_increments_and_wipes_are_numbered_in_one_order(begin: Begin):
    store = begin()
    assert store.execute(Set(A, b"7")) == Reply(Status.OK, cas=1)
    assert store.execute(Add(B, b"x")) == Reply(Status.OK, cas=2)
    assert store.execute(Incr(A)) == Reply(Status.OK, 8, b"8", cas=3)
    store.wipe()
    assert store.execute(Set(A, b"7")).cas == 5


def test_what_fails_or_deletes_takes_no_number(begin: Begin):
    store = begin()
    store.execute(Set(A, b"word"))
    assert store.execute(Add(A, b"x")) == Reply(Status.EXISTS)
    assert store.execute(Incr(A)) == Reply(Status.REFUSED)
    assert store.execute(Incr(B)) == Reply(Status.MISSING)
    assert store.execute(Set(B, b"x" * LARGEST * 2)) == Reply(Status.REFUSED)
    assert store.execute(Delete(B)) == Reply(Status.MISSING)
    assert store.execute(Delete(A)) == Reply(Status.OK)
    assert store.execute(Set(A, b"")).cas == 2


def test_a_delete_may_ask_for_the_very_item(begin: Begin):
    store = begin()
    first = store.execute(Add(A, b"token"))
    store.execute(Set(A, b"token"))
    assert store.execute(Delete(A, first.cas)) == Reply(Status.EXISTS)
    assert store.execute(Delete(A, store.execute(Get(A)).cas)) == Reply(Status.OK)


def test_a_counter_wraps_and_keeps_its_width(begin: Begin):
    store = begin()
    store.execute(Set(A, b"18446744073709551615"))
    assert store.execute(Get(A)).number == 2**64 - 1
    assert store.execute(Incr(A)) == Reply(Status.OK, 0, b"0", cas=2)
    assert store.execute(Get(A)) == Reply(Status.OK, 0, b"0".ljust(20), cas=2)
    assert store.execute(Incr(A)).number == 1


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        (b"9", 10),
        (b"007", 8),
        (b" 7", 8),
        (b"+3", 4),
        (b"12 votes", 13),
        (b"5\0x", 6),
        (b"-0", 1),
        (b"-18446744073709551615", 2),
        (b"18446744073709551616", None),
        (b"9223372036854775808 -", None),
        (b"-5", None),
        (b"5x", None),
        (b"", None),
        (b"votes", None),
        (b"5" * 5000, None),
        (b"0" * 5000 + b"8", 9),
    ],
)
def test_a_counter_is_what_starts_with_a_number(begin: Begin, value: bytes, counted: int | None):
    store = begin()
    store.execute(Set(A, value))
    reply = store.execute(Incr(A))
    expected = Reply(Status.REFUSED) if counted is None else Reply(Status.OK, counted, cas=2)
    assert reply._replace(value=b"") == expected


def test_an_item_too_large_is_refused_and_takes_the_old_one_along(begin: Begin):
    store = begin()
    assert store.execute(Set(A, b"x" * LARGEST)).status is Status.OK
    assert store.execute(Get(A)).value == b"x" * LARGEST
    assert store.execute(Set(A, b"x" * (LARGEST + 1))) == Reply(Status.REFUSED)
    assert store.execute(Get(A)) == Reply(Status.MISSING)


def test_a_wipe_takes_what_was_there_and_a_restart_everything(begin: Begin):
    store = begin()
    store.execute(Set(A, b"1"))
    store.wipe()
    store.execute(Set(B, b"2"))
    assert store.execute(Get(A)) == Reply(Status.MISSING)
    assert store.execute(Get(B)) == Reply(Status.OK, 2, b"2", cas=3)
    store.restart()
    assert store.execute(Get(B)) == Reply(Status.MISSING)
    assert store.execute(Set(B, b"3")).cas == 1


def test_a_lifetime_is_counted_in_ticks_of_the_daemon(begin: Begin):
    store = begin()
    store.await_tick()
    store.execute(Add(A, b"9", 1))
    store.execute(Add(B, b"9", 2))
    store.execute(Incr(B))
    assert store.execute(Get(A)).status is Status.OK
    store.await_tick()
    assert store.execute(Get(A)) == Reply(Status.MISSING)
    assert store.execute(Get(B)).number == 10
    store.await_tick()
    assert store.execute(Incr(B)) == Reply(Status.MISSING)
    assert store.execute(Add(B, b"1")).status is Status.OK


def filled(store: Store, name: str, size_bytes: int) -> list[str]:
    """Keys that fill the two pages of a class, stored in this order."""
    width = len(name) + 4
    chunk = CHUNK_SIZES[class_of(size_bytes)]
    names = [f"{name}{n:04}" for n in range(2 * (PAGE_BYTES // chunk))]
    for each in names:
        stored = store.execute(Set(key(each), b"9".rjust(size_bytes - 59 - width, b"0")))
        assert stored.status is Status.OK
    return names


def present(store: Store, names: list[str]) -> list[str]:
    return [name for name in names if store.execute(Get(key(name))).status is Status.OK]


def test_without_room_the_item_stored_first_goes(begin: Begin):
    store = begin(2)
    names = filled(store, "k", 40_000)
    assert present(store, names) == names
    store.execute(Set(key("new"), b"x" * 39_000))
    store.execute(Set(key(names[3]), b"x" * 39_000))  # needs room beside its old value
    assert present(store, ["new", *names]) == ["new", *names[2:]]


def test_an_add_that_fails_pushes_out_another_item_all_the_same(begin: Begin):
    store = begin(2)
    names = filled(store, "k", 40_000)
    assert store.execute(Add(key(names[5]), b"x" * 39_000)).status is Status.EXISTS
    assert present(store, names) == names[1:]


def test_a_counter_that_outgrows_its_chunk_pushes_out_not_itself(begin: Begin):
    store = begin(2)
    names = filled(store, "k" * 236, 310)
    counter = key("c" * 245)  # with one digit or two, of the same class
    store.execute(Set(counter, b"9"))
    for name in names[1:]:
        store.execute(Set(key(name), b"9" * 11))
    assert store.execute(Incr(counter)).number == 10  # of all items the one stored first
    assert present(store, [counter.name, *names]) == [counter.name, *names[2:]]


def test_every_class_gets_one_page_whatever_the_limit(begin: Begin):
    store = begin(2)
    filled(store, "k", 40_000)
    other = [f"o{n:04}" for n in range(PAGE_BYTES // 1184)]
    for name in other:
        store.execute(Set(key(name), b"x" * 1000))
    assert present(store, other) == other
    store.execute(Set(key("o9999"), b"x" * 1000))
    assert present(store, other) == other[1:]


@pytest.mark.parametrize("command", [Set, Add])
def test_without_eviction_what_is_refused_takes_the_old_value_along(begin: Begin, command: type):
    store = begin(2, evict=False)
    names = filled(store, "k", 40_000)
    assert store.execute(Set(key("new"), b"x" * 39_000)) == Reply(Status.REFUSED)
    assert store.execute(command(key(names[7]), b"x" * 39_000)) == Reply(Status.REFUSED)
    assert present(store, names) == names[:7] + names[8:]
    assert store.execute(Set(key("new"), b"x" * 39_000)).status is Status.OK


def test_without_eviction_a_counter_refused_keeps_its_number(begin: Begin):
    store = begin(2, evict=False)
    names = filled(store, "k" * 236, 310)
    store.execute(Delete(key(names[0])))
    counter = key("c" * 245)
    store.execute(Set(counter, b"9"))
    assert store.execute(Incr(counter)) == Reply(Status.REFUSED)
    assert store.execute(Get(counter)).number == 9


def test_after_a_wipe_there_is_room_without_eviction_too(begin: Begin):
    store = begin(2, evict=False)
    filled(store, "k", 40_000)
    store.wipe()
    again = filled(store, "n", 40_000)
    assert present(store, again) == again


def test_the_simulated_clock_ticks_when_it_is_told_to():
    late = SimulatedMemcached(tick_ns=SECOND_NS // 4)
    late.execute(Add(A, b"1", 1), 10 * SECOND_NS)
    assert late.execute(Get(A), 10 * SECOND_NS + SECOND_NS // 4 - 1).status is Status.OK
    assert late.execute(Get(A), 10 * SECOND_NS + SECOND_NS // 4).status is Status.MISSING


def test_a_read_renews_an_items_place_once_in_a_minute():
    for idle_s, survivor in ((60, B), (61, A)):
        simulated = SimulatedMemcached(2)
        large = b"x" * 500_000  # two chunks of this class make a page
        simulated.execute(Set(A, large), 0)
        simulated.execute(Set(B, large), 0)
        simulated.execute(Get(A), idle_s * SECOND_NS)
        for name in "cde":
            simulated.execute(Set(key(name), large), idle_s * SECOND_NS)
        assert simulated.execute(Get(survivor), idle_s * SECOND_NS).status is Status.OK


def test_less_memory_than_the_daemon_needs_is_an_error():
    with pytest.raises(ValueError, match="needs 2 MiB or more, not 1"):
        SimulatedMemcached(1)
