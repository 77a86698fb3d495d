"""Which of several daemons has a key, as the post's own library deals keys out.

Theory of operation
    Cache::Memcached takes 15 bits of the key's CRC-32, modulo the number of daemons. So a queue
    lies where the post's program looks for it, if both are given the daemons in the same order.

    A daemon that does not answer is dead for a while. With `no_rehash`, which the post recommends,
    nothing follows from that: its keys fail until it is back. With rehashing its keys move: the
    try's number is put before the key, and the hash of both is added, until a daemon is met that
    is not dead. When the while is over, or the daemon is dead for somebody else only, they are
    looked for in their old place, with what was left there.

What it cannot give
    One place for a key. Each client learns for itself who is dead: with rehashing one may write a
    key on one daemon while another reads it on the next. pymemcache's HashClient does the same by
    rendezvous hashing.
"""

from collections.abc import Callable
from time import monotonic_ns
from typing import Final
from zlib import crc32

MOST_TRIES: Final = 20
"""Cache::Memcached's own. With half of 16 daemons dead, one key in a million finds none."""
NS_PER_S: Final = 1_000_000_000


def hash_of(text: str) -> int:
    """15 bits of the CRC-32, as Cache::Memcached's `_hashfunc`."""
    return crc32(text.encode()) >> 16 & 0x7FFF


class Ring:
    """One client's view of the daemons, by number; `dead_s` None means that keys never move."""

    def __init__(
        self, daemons: int, dead_s: float | None, clock_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        self._daemons = daemons
        self._dead_ns = None if dead_s is None else round(dead_s * NS_PER_S)
        self._clock_ns = clock_ns
        self._dead_until_ns: dict[int, int] = {}

    def home_of(self, key: str) -> int:
        """Where the key lies while nobody is dead."""
        return hash_of(key) % self._daemons

    def daemon_of(self, key: str) -> int:
        """Where the key is to be looked for now: at its home too, if no daemon is known alive."""
        home = self.home_of(key)
        if not self._dead_until_ns or not self._is_dead(home):
            return home
        hashed = hash_of(key)
        for number in range(1, MOST_TRIES):
            hashed += hash_of(f"{number}{key}")
            daemon = hashed % self._daemons
            if not self._is_dead(daemon):
                return daemon
        return home

    def mark_dead(self, daemon: int) -> bool:
        """The daemon did not answer; whether its keys are on others from now on, for a while."""
        if self._dead_ns is None or self._is_dead(daemon):
            return False
        self._dead_until_ns[daemon] = self._clock_ns() + self._dead_ns
        return not all(self._is_dead(each) for each in range(self._daemons))

    def _is_dead(self, daemon: int) -> bool:
        until_ns = self._dead_until_ns.get(daemon)
        if until_ns is None:
            return False
        if self._clock_ns() < until_ns:
            return True
        del self._dead_until_ns[daemon]
        return False
