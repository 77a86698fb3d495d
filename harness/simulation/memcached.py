"""A memcached that is plain data: commands and the time go in, replies come out.

Theory of operation
    It answers as memcached 1.6 does over `cache.meta_client`, to the last CAS number, and follows
    that daemon's own source where the protocol's description is silent. What that means:

    CAS         One counter for the daemon. It grows when an item is stored or incremented and
                when everything is wiped; not by a refused or failed command, a delete, an expiry.
    Lifetimes   The daemon knows the time in whole seconds, taken when its timer ticks, and an
                item is gone when as many ticks as its lifetime have passed: one of 1 s lives for
                anything up to 1 s. `tick_ns` says when in each second the ticks come.
    Memory      Chunks by size class (`slabs`). The room for an item is taken before anything else
                is looked at: an `add` that fails may have pushed out another item before.
    Eviction    In the class that has no room left, the item stored longest ago goes. Reading or
                incrementing an item renews its place, but only once in a minute.
    Refusal     What is too large is refused, and with `evict=False` (the daemon's `-M`) what there
                is no room for. The old value of the key goes with it, even when an `add` is
                refused; only a refused `incr` leaves it.
    Wipe        Everything stored before it is missing. Its memory is free when it is come across.
    Restart     Nothing is left, and CAS starts again.

What it leaves out
    A daemon without options has an LRU in segments and a thread that shifts items between them,
    moves pages between classes and removes what has expired, each in its own time. What is
    modelled is the daemon with `-o no_lru_maintainer,no_lru_crawler`, which has one list in each
    class and no such thread. It matters only when memory runs out. Then that daemon spares a key
    that was read twice, while here reading helps once in a minute; what was not leaves in the order
    in which it was stored, slots above all, in either. And pages that one class has filled never
    help another here.

    The daemon also passes over an item at the end of the list while its key's lock, which is one
    of about a thousand, is held for an `incr` whose number outgrows its chunk. And it looks for a
    minus sign behind a number of 2^63 and more, in whatever the chunk held before; if there is one
    it will not increment. Neither is modelled.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from harness.protocol.commands import (
    Add,
    Delete,
    Get,
    Incr,
    MemcachedCommand,
    Reply,
    Set,
    Status,
)
from harness.simulation.slabs import (
    CHUNK_SIZES,
    LARGEST_CHUNK_BYTES,
    LARGEST_ITEM_BYTES,
    LAST,
    Slabs,
    class_of,
)

SECOND_NS: Final = 1_000_000_000
ITEM_BYTES: Final = 48 + 8 + 1  # the daemon's header, the CAS, the zero behind the key
CHUNK_BYTES: Final = 48  # the header of each chunk, when an item lies in several
LINE_END_BYTES: Final = 2  # stored with each value
RENEWED_AFTER_S: Final = 60
TAKE_TRIES: Final = 10
SEARCHED_AT_ONCE: Final = 5  # items at the end of the list, for one to reclaim or evict
COUNTERS: Final = 2**64
COUNTER_DIGITS: Final = 20
LEADING_NUMBER: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)([0-9]+)(?=[ \t\n\v\f\r\0]|$)")

MISSING: Final = Reply(Status.MISSING)
REFUSED: Final = Reply(Status.REFUSED)
EXISTS: Final = Reply(Status.EXISTS)
DELETED: Final = Reply(Status.OK)
OK: Final = Status.OK


class Item:
    """A value with what the daemon keeps beside it; `expires_s` is 0 for never.

    `chunks` has the class of each chunk that it lies in; in the list of the first one it waits for
    its eviction.
    """

    __slots__ = ("cas", "chunks", "expires_s", "name", "renewed_s", "value")

    def __init__(
        self,
        name: str,
        value: bytes,
        cas: int,
        expires_s: int,
        renewed_s: int,
        chunks: tuple[int, ...],
    ) -> None:
        self.name = name
        self.value = value
        self.cas = cas
        self.expires_s = expires_s
        self.renewed_s = renewed_s
        self.chunks = chunks


class SimulatedMemcached:
    """One daemon. Time must not go back from one call to the next."""

    def __init__(self, memory_mib: int = 64, *, evict: bool = True, tick_ns: int = 0) -> None:
        """`tick_ns`: how long after each full second of `now_ns` the daemon's clock ticks.

        Raises ValueError for a memory with which the daemon would not start.
        """
        self._memory_mib = memory_mib
        self._evict = evict
        self._tick_ns = tick_ns
        self.on_eviction: Callable[[str], object] | None = None
        """Told the key of each item that goes for want of memory, just before it goes."""
        self._carry_out: Final[dict[type[MemcachedCommand], Callable[[Any, int], Reply]]] = {
            Get: self._get,
            Set: self._set,
            Add: self._add,
            Incr: self._incr,
            Delete: self._delete,
        }
        self.restart()

    def execute(self, command: MemcachedCommand, now_ns: int) -> Reply:
        """Carry it out, and answer as the daemon does."""
        return self._carry_out[type(command)](command, (now_ns - self._tick_ns) // SECOND_NS)

    def wipe(self) -> None:
        """`flush_all`: all that is there now is missing from now on."""
        self._cas += 1
        self._wiped_cas = self._cas

    def squeeze(self) -> Callable[[], None]:
        """Hand out no more pages until the returned function is called."""
        slabs = self._slabs
        return slabs.close()

    def restart(self) -> None:
        """Begin anew, with nothing."""
        self._cas = 0
        self._wiped_cas = 0
        self.evictions = 0
        self._items: dict[str, Item] = {}
        self._by_age: list[OrderedDict[str, Item]] = [OrderedDict() for _ in CHUNK_SIZES]
        self._slabs = Slabs(self._memory_mib)

    def _get(self, command: Get, now_s: int) -> Reply:
        item = self._find(command.key.name, now_s)
        if item is None:
            return MISSING
        self._renew(item, now_s)
        value = item.value
        return Reply(OK, number_in(value), value, item.cas)

    def _set(self, command: Set, now_s: int) -> Reply:
        name, value = command.key.name, command.value
        chunks = self._take_room(name, value, now_s)
        if chunks is None:
            return REFUSED
        old = self._find(name, now_s)
        if old is not None:
            self._unlink(old)
        return Reply(OK, 0, b"", self._store(name, value, 0, now_s, chunks))

    def _add(self, command: Add, now_s: int) -> Reply:
        name, value, lifetime_s = command.key.name, command.value, command.lifetime_s
        chunks = self._take_room(name, value, now_s)
        if chunks is None:
            return REFUSED
        old = self._find(name, now_s)
        if old is not None:
            self._renew(old, now_s)
            self._free(chunks)
            return EXISTS
        expires_s = now_s + lifetime_s if lifetime_s else 0
        return Reply(OK, 0, b"", self._store(name, value, expires_s, now_s, chunks))

    def _incr(self, command: Incr, now_s: int) -> Reply:
        item = self._find(command.key.name, now_s)
        if item is None:
            return MISSING
        counted = counter_in(item.value) if len(item.chunks) == 1 else None
        if counted is None:
            return REFUSED
        number = (counted + 1) % COUNTERS
        digits = b"%d" % number
        if len(digits) <= len(item.value):
            self._cas += 1
            item.cas = self._cas
            if len(digits) < len(item.value):
                item.value = digits.ljust(len(item.value))
            else:
                item.value = digits
            self._renew(item, now_s)
            return Reply(OK, number, digits, item.cas)
        size_class = class_of(size_of(item.name, digits))
        if not self._take(size_class, now_s, held=item):
            return REFUSED
        self._unlink(item)
        cas = self._store(item.name, digits, item.expires_s, now_s, (size_class,))
        return Reply(OK, number, digits, cas)

    def _delete(self, command: Delete, now_s: int) -> Reply:
        item = self._find(command.key.name, now_s)
        if item is None:
            return MISSING
        if command.cas and command.cas != item.cas:
            return EXISTS
        self._unlink(item)
        return DELETED

    # Items.

    def _find(self, name: str, now_s: int) -> Item | None:
        """The item, unless it is over; then it is removed."""
        item = self._items.get(name)
        if item is None:
            return None
        if item.cas < self._wiped_cas or 0 < item.expires_s <= now_s:
            self._unlink(item)
            return None
        return item

    def _renew(self, item: Item, now_s: int) -> None:
        """Take it to the young end of its list, if it has not been there for a minute."""
        if item.renewed_s < now_s - RENEWED_AFTER_S:
            item.renewed_s = now_s
            self._by_age[item.chunks[0]].move_to_end(item.name)

    def _store(
        self, name: str, value: bytes, expires_s: int, now_s: int, chunks: tuple[int, ...]
    ) -> int:
        """Link a new item, and say its CAS."""
        self._cas = cas = self._cas + 1
        item = Item(name, value, cas, expires_s, now_s, chunks)
        self._items[name] = self._by_age[chunks[0]][name] = item
        return cas

    def _unlink(self, item: Item) -> None:
        del self._items[item.name]
        del self._by_age[item.chunks[0]][item.name]
        self._free(item.chunks)

    # Room.

    def _take_room(self, name: str, value: bytes, now_s: int) -> tuple[int, ...] | None:
        """Chunks for a new item, or None; whoever is refused them loses what the key has."""
        size_bytes = size_of(name, value)
        if size_bytes > LARGEST_CHUNK_BYTES:
            return self._take_large_room(name, value, size_bytes, now_s)
        size_class = class_of(size_bytes)
        if self._take(size_class, now_s):
            return (size_class,)
        self._forget(name, now_s)
        return None

    def _take_large_room(
        self, name: str, value: bytes, size_bytes: int, now_s: int
    ) -> tuple[int, ...] | None:
        """The same for an item in several chunks, the first of which holds its header only.

        The others are taken while the value is read; a refusal so late leaves what the key has.
        """
        header = class_of(ITEM_BYTES + len(name) + CHUNK_BYTES)
        if size_bytes > LARGEST_ITEM_BYTES or not self._take(header, now_s):
            self._forget(name, now_s)
            return None
        taken = [header]
        missing_bytes = len(value) + LINE_END_BYTES
        while missing_bytes > 0:
            chunk_bytes = min(missing_bytes + CHUNK_BYTES, LARGEST_CHUNK_BYTES)
            size_class = class_of(chunk_bytes)
            if not self._take(size_class, now_s):
                chunk_bytes, size_class = LARGEST_CHUNK_BYTES, LAST
                if not self._take(size_class, now_s):
                    self._free(taken)
                    return None
            taken.append(size_class)
            missing_bytes -= chunk_bytes - CHUNK_BYTES
        return (*taken[1:], header)

    def _take(self, size_class: int, now_s: int, held: Item | None = None) -> bool:
        """Take one chunk, if need be the oldest item's, but not that of the item `held`."""
        by_age = self._by_age[size_class]
        for _ in range(TAKE_TRIES):
            for oldest in by_age.values():
                if self._can_be_reclaimed(oldest, now_s):
                    self._pull(size_class, now_s, held, evict=False)
                break
            if self._slabs.take(size_class):
                return True
            if not self._pull(size_class, now_s, held, evict=self._evict):
                return False
        return False

    def _pull(self, size_class: int, now_s: int, held: Item | None, *, evict: bool) -> int:
        """Remove the oldest items of a class that are over, and one more to `evict`; how many."""
        removable = []
        for item in islice(self._by_age[size_class].values(), SEARCHED_AT_ONCE):
            if item is held:
                continue
            if self._can_be_reclaimed(item, now_s):
                removable.append(item)
                continue
            if evict:
                removable.append(item)
                self.evictions += 1
                if self.on_eviction:
                    self.on_eviction(item.name)
            break
        for item in removable:
            self._unlink(item)
        return len(removable)

    def _can_be_reclaimed(self, item: Item, now_s: int) -> bool:
        """In the second in which an item expires it is missing already, but keeps its room."""
        return item.cas < self._wiped_cas or 0 < item.expires_s < now_s

    def _forget(self, name: str, now_s: int) -> None:
        old = self._find(name, now_s)
        if old is not None:
            self._unlink(old)

    def _free(self, chunks: Iterable[int]) -> None:
        for size_class in chunks:
            self._slabs.give_back(size_class)


def size_of(name: str, value: bytes) -> int:
    """What the daemon needs for an item, in bytes; more if that is over half a page."""
    return ITEM_BYTES + len(name) + len(value) + LINE_END_BYTES


def number_in(value: bytes) -> int:
    """The number that a client reads from a value that is one, otherwise 0."""
    return int(value) if value.isdigit() and len(value) <= COUNTER_DIGITS else 0


def counter_in(value: bytes) -> int | None:
    """The number that the daemon increments: one at the start will do. None if there is none.

    As C's `strtoull` has it, a negative number counts down from 2^64; and as the daemon has it,
    one whose place is then above 2^63 is none.
    """
    if len(value) < COUNTER_DIGITS and value.isdigit():
        return int(value)
    if value.isdigit() and len(value) < COUNTER_DIGITS:
        return int(value)  # nearly every one
    found = LEADING_NUMBER.match(value)
    if found is None:
        return None
    sign, digits = found.group(1), found.group(2).lstrip(b"0")
    if len(digits) > COUNTER_DIGITS or (number := int(digits or b"0")) >= COUNTERS:
        return None
    number = -number % COUNTERS if sign == b"-" else number
    negative = number >= COUNTERS // 2 and b"-" in value.split(b"\0", 1)[0]
    return None if negative else number
