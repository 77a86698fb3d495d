"""Many processes that ask a cache for one key at one time, through one of several libraries."""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from time import monotonic, process_time
from typing import Any, Final, NamedTuple, TypeAlias

from dogpile.cache import make_region
from pymemcache.client.base import Client

from harness.cache import connect

CROWD: Final = 64
CALCULATION_S: Final = 0.01  # of a processor: a query over some 100,000 ballots
TTL_S: Final = 600
LOCK_S: Final = 60  # dogpile's own, so that a lock does not stay for good
READY_S: Final = 60.0  # 64 processes fork and connect on two cores within 2 s
ANSWER_S: Final = 120.0  # until the last of them has its value

Calculate: TypeAlias = Callable[[], bytes]
Ask: TypeAlias = Callable[[str, Calculate], bytes]


class Asked(NamedTuple):
    """One process's part of a round: monotonic times in s, and whether it has calculated."""

    begin_s: float
    end_s: float
    calculated: bool


class Rush(NamedTuple):
    """One round: how many calculated, and from the first asking to the last having its value."""

    calculations: int
    took_ms: float


def ours(address: str) -> Ask:
    cache = connect(address, "bench", timeout_s=10.0)
    return lambda key, calculate: cache.get_or_set(key, calculate, ttl_s=TTL_S)  # type: ignore[return-value]


def plain(address: str) -> Ask:
    """Get, calculate, set, as the third post does."""
    client = Client(address, timeout=10.0, no_delay=True, default_noreply=False)

    def ask(key: str, calculate: Calculate) -> bytes:
        value: bytes | None = client.get(key)
        if value is None:
            value = calculate()
            client.set(key, value, expire=TTL_S)
        return value

    return ask


def dogpile(address: str) -> Ask:
    """`get_or_create` with the lock in memcached, over the same pymemcache."""
    region = make_region().configure(
        "dogpile.cache.pymemcache",
        expiration_time=TTL_S,
        arguments={"url": [address], "distributed_lock": True, "lock_timeout": LOCK_S},
    )

    def ask(key: str, calculate: Calculate) -> bytes:
        value: bytes = region.get_or_create(key, calculate)
        return value

    return ask


LIBRARIES: Final = {"ours": ours, "plain": plain, "dogpile": dogpile}


def query() -> bytes:
    """Something that takes so long of a processor, as the database's share of a page does."""
    until_s = process_time() + CALCULATION_S
    digest = b""
    while process_time() < until_s:
        digest = hashlib.sha256(digest).digest()
    return b"totals"


class Crowd:
    """Processes that wait to be told a key, and then all ask for it."""

    def __init__(self, lines: list["Connection[Any, Any]"]) -> None:
        self._lines = lines

    def rush(self, library: str, key: str) -> Rush:
        for line in self._lines:
            line.send((library, key))
        asked = [_heard(line, ANSWER_S) for line in self._lines]
        took_s = max(each.end_s for each in asked) - min(each.begin_s for each in asked)
        return Rush(sum(each.calculated for each in asked), took_s * 1e3)


@contextmanager
def gathered(address: str) -> Iterator[Crowd]:
    """A crowd before the memcached at that address; nothing is left of it afterwards."""
    context = multiprocessing.get_context("fork")  # they share what is imported
    barrier = context.Barrier(CROWD)
    pairs = [context.Pipe() for _ in range(CROWD)]
    processes = [
        context.Process(target=_member, args=(theirs, barrier, address), daemon=True)
        for _, theirs in pairs
    ]
    try:
        for process in processes:
            process.start()
        for line, _ in pairs:
            _heard(line, READY_S)
        yield Crowd([line for line, _ in pairs])
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _heard(line: "Connection[Any, Any]", limit_s: float) -> Any:
    if not line.poll(limit_s):
        raise RuntimeError(f"a process has not answered within {limit_s:g} s")
    return line.recv()


def _member(line: "Connection[Any, Any]", barrier: Barrier, address: str) -> None:
    asks = {name: make(address) for name, make in LIBRARIES.items()}
    for name, ask in asks.items():
        ask(f"warm-{name}", lambda: b"connected")
    line.send("ready")
    with closing(line):
        while True:
            library, key = line.recv()
            calculated: list[bytes] = []

            def calculate(calculated: list[bytes] = calculated) -> bytes:
                calculated.append(query())
                return calculated[-1]

            barrier.wait(READY_S)
            begin_s = monotonic()
            value = asks[library](key, calculate)
            end_s = monotonic()
            assert value == b"totals"
            line.send(Asked(begin_s, end_s, bool(calculated)))
