"""`squeeze`: memory gets short, because somebody else stores more than there is room for.

The daemon's memory is limited to the least that it takes at run time, and ballast is stored beside
the queue: other keys, of the sizes that lie there already, fast enough to fill all of it several
times between two drains. Then the ballast is deleted, and the limit is the plan's again.

    evict    queue …▇▇▇░░░░░░░░ ballast   what was stored longest ago is pushed out, votes with it
    -M       queue …▇▇▇ ballast ▓ ×       nothing is pushed out; what comes now is refused
"""

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from time import monotonic
from typing import Final, NamedTuple

from pymemcache.exceptions import MemcacheError

from harness.errors import ServiceError
from harness.fault import Fault, target_of
from harness.faults.fault import Met, Reach
from harness.services.memcached import ANSWER_LIMIT_S, MemcachedServer, client_of

LEAST_MIB: Final = 8
"""memcached takes no lower limit at run time. With less from the start the limit stays."""
MIB: Final = 2**20
TURNS_PER_DRAIN: Final = 3  # how often all memory is filled between two drains: no vote outlives it
LEAST_CHUNK_BYTES: Final = 96  # memcached's own, unless it is told otherwise
MOST_CHUNK_BYTES: Final = 512  # a vote with the longest key that a plan allows is smaller
ITEM_BYTES: Final = (
    48 + 8 + 1 + 2
)  # header, CAS, the zero behind the key, the line end of the value
BATCH: Final = 400  # items; 60 KB, and refusals that fit into any buffer on the way back
IDLE_S: Final = 0.01  # between two batches that were refused: what a drain frees is filled soon
LIFE_S: Final = 60  # beyond the fault's time, for ballast that nobody could delete
KEY: Final = b"ballast-%010d"
KEY_BYTES: Final = len(KEY % 0)
RECEIVE_BYTES: Final = 65_536
END: Final = b"MN\r\n"


class Tally(NamedTuple):
    """What a daemon has counted since it was started."""

    evicted: int
    refused: int  # stores for which there was no memory


class Ballast:
    """Items of somebody else's on one daemon, over one connection. Raises OSError."""

    def __init__(self, address: str, chunks: list[int], lifetime_s: int) -> None:
        self._chunks = chunks
        self._lifetime_s = lifetime_s
        self._stored = 0
        self._rest = b""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), ANSWER_LIMIT_S)

    def store(self, numbers: range) -> int:
        """Store the items of these numbers, of each size in turn; how many bytes they take."""
        self._stored = max(self._stored, numbers.stop)
        sizes = [self._chunks[number % len(self._chunks)] for number in numbers]
        values = [bytes(size - ITEM_BYTES - KEY_BYTES) for size in sizes]
        self._ask(
            b"".join(
                b"ms %b %d T%d q\r\n%b\r\n" % (KEY % number, len(value), self._lifetime_s, value)
                for number, value in zip(numbers, values, strict=True)
            )
        )
        return sum(sizes)

    def delete(self) -> None:
        """All that was ever stored."""
        for first in range(0, self._stored, BATCH):
            numbers = range(first, min(first + BATCH, self._stored))
            self._ask(b"".join(b"md %b q\r\n" % (KEY % number) for number in numbers))

    def close(self) -> None:
        self._socket.close()

    def _ask(self, requests: bytes) -> None:
        """Send quiet commands, and read what they say all the same, which are refusals."""
        self._socket.sendall(requests + b"mn\r\n")
        answer = b""
        while not answer.endswith(END):
            piece = self._socket.recv(RECEIVE_BYTES)
            if not piece:
                raise ConnectionError("memcached closed the connection")
            answer = (answer + piece)[-len(END) :]


def start(fault: Fault, reach: Reach) -> Met | None:
    """Squeeze the memcached until the time is over. Raises ServiceError when it does not answer."""
    daemon = reach.daemon(target_of(fault))
    if daemon is None:
        return None
    try:
        before = tally(daemon)
        after = squeeze(daemon, fault.for_s, reach)
    except (OSError, MemcacheError) as error:
        raise ServiceError(f"memcached at {daemon.address} was not squeezed: {error}") from error
    evicted, refused = after.evicted - before.evicted, after.refused - before.refused
    if reach.plan.memcached.evict:
        detail = f"{evicted:,} items evicted for want of memory, ballast with them"
        return Met(detail) if evicted else None
    detail = f"{refused:,} stores refused for want of memory, ballast with them"
    return Met(detail) if refused else None


def squeeze(daemon: MemcachedServer, for_s: float, reach: Reach) -> Tally:
    """Limit the memory and keep it full; undo both. Raises OSError, MemcacheError.

    What the daemon had counted before the ballast was deleted: of an empty class it tells nothing.
    """
    memory_mib = reach.plan.memcached.memory_mib
    with closing(Ballast(daemon.address, chunks(daemon), round(for_s) + LIFE_S)) as ballast:
        try:
            limit(daemon, min(memory_mib, LEAST_MIB), memory_mib)
            fill(ballast, for_s, reach)
            return tally(daemon)
        finally:
            with suppress(OSError, MemcacheError):  # whoever killed it has wiped it, too
                limit(daemon, memory_mib, memory_mib)
                ballast.delete()


def fill(ballast: Ballast, for_s: float, reach: Reach) -> None:
    """Store ballast at the pace, until the time is over."""
    plan = reach.plan
    memory_bytes = min(plan.memcached.memory_mib, LEAST_MIB) * MIB
    bytes_per_s = TURNS_PER_DRAIN * memory_bytes / plan.flusher.interval_s
    begin_s, stored_bytes = monotonic(), 0
    for numbers in batches(memory_bytes, again=plan.memcached.evict):
        left_s = begin_s + for_s - monotonic()
        stored_bytes += ballast.store(numbers)
        ahead_s = stored_bytes / bytes_per_s - (monotonic() - begin_s)
        if not plan.memcached.evict and stored_bytes > memory_bytes:
            ahead_s = IDLE_S
        if left_s <= 0 or reach.ended.wait(max(0.0, min(ahead_s, left_s))):
            return


def batches(memory_bytes: int, *, again: bool) -> Iterator[range]:
    """Numbers of items without end: `again` the same ones after more than the memory can hold.

    Otherwise ever new ones, since a store that is refused deletes what had its key.
    """
    around = 2 * memory_bytes // (ITEM_BYTES + KEY_BYTES) // BATCH * BATCH
    first = 0
    while True:  # the fault's time ends it
        yield range(first, first + BATCH)
        first += BATCH
        if again:
            first %= around


def chunks(daemon: MemcachedServer) -> list[int]:
    """The sizes in bytes of the chunks that small items lie in there, ascending.

    Where nothing lies, as in a mode that does not use it, the smallest there are.
    """
    with closing(client_of(daemon.address)) as client:
        slabs: dict[bytes, int] = client.stats("slabs")  # type: ignore[no-untyped-call]
    sizes = [int(size) for name, size in slabs.items() if name.endswith(b":chunk_size")]
    return sorted(size for size in sizes if size <= MOST_CHUNK_BYTES) or [LEAST_CHUNK_BYTES]


def tally(daemon: MemcachedServer) -> Tally:
    """What the daemon has counted. Raises OSError, MemcacheError."""
    with closing(client_of(daemon.address)) as client:
        counted: dict[bytes, int] = client.stats()  # type: ignore[no-untyped-call]
        items: dict[bytes, int] = client.stats("items")  # type: ignore[no-untyped-call]
    refused = sum(int(n) for name, n in items.items() if name.endswith(b":outofmemory"))
    return Tally(int(counted[b"evictions"]), refused)


def limit(daemon: MemcachedServer, mib: int, usual_mib: int) -> None:
    """Set the daemon's memory, where it can be set. Raises OSError, MemcacheError."""
    if usual_mib > LEAST_MIB:
        with closing(client_of(daemon.address)) as client:
            client.cache_memlimit(mib)
