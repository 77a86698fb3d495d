"""How memcached hands out its memory: pages of 1 MiB, each cut into chunks of one class.

Sizes and rules are those of memcached 1.6 without options (`slabs.c`, `memcached.h`). A page never
leaves the class that it was given to: moving pages is the business of a background thread.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Final

MIB: Final = 1024 * 1024
PAGE_BYTES: Final = MIB
LARGEST_ITEM_BYTES: Final = MIB
LARGEST_CHUNK_BYTES: Final = PAGE_BYTES // 2  # what is larger lies in several chunks
SMALLEST_CHUNK_BYTES: Final = 96
GROWTH: Final = 1.25
ALIGNMENT_BYTES: Final = 8
LEAST_MEMORY_MIB: Final = 2  # with less the daemon does not start


def chunk_sizes() -> tuple[int, ...]:
    """The size of a chunk in bytes, by class, the smallest first."""
    sizes = []
    size = SMALLEST_CHUNK_BYTES
    while size < LARGEST_CHUNK_BYTES / GROWTH:
        size += -size % ALIGNMENT_BYTES
        sizes.append(size)
        size = int(size * GROWTH)
    return (*sizes, LARGEST_CHUNK_BYTES)


CHUNK_SIZES: Final = chunk_sizes()
LAST: Final = len(CHUNK_SIZES) - 1


def class_of(size_bytes: int) -> int:
    """The class whose chunks hold this size; the last one for what needs several chunks."""
    return LAST if size_bytes > LARGEST_CHUNK_BYTES else bisect_left(CHUNK_SIZES, size_bytes)


class Slabs:
    """Counts chunks and pages; which item lies in which chunk makes no difference."""

    def __init__(self, memory_mib: int) -> None:
        """Raises ValueError for a memory with which the daemon would not start."""
        if memory_mib < LEAST_MEMORY_MIB:
            raise ValueError(f"memcached needs {LEAST_MEMORY_MIB} MiB or more, not {memory_mib}")
        self._pages_left = memory_mib
        self._pages = [0] * len(CHUNK_SIZES)
        self._free = [0] * len(CHUNK_SIZES)

    def close(self) -> Callable[[], None]:
        """Have no more pages; the returned function gives them back."""
        kept, self._pages_left = self._pages_left, 0

        def reopen() -> None:
            self._pages_left += kept

        return reopen

    def take(self, size_class: int) -> bool:
        """Take a free chunk; a class without any gets a page, its first one even over the limit."""
        free = self._free
        if not free[size_class] and (self._pages_left > 0 or not self._pages[size_class]):
            self._pages_left -= 1
            self._pages[size_class] += 1
            free[size_class] = PAGE_BYTES // CHUNK_SIZES[size_class]
        if not free[size_class]:
            return False
        free[size_class] -= 1
        return True

    def give_back(self, size_class: int) -> None:
        self._free[size_class] += 1
