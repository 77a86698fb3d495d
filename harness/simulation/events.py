"""Virtual time: what is to happen, in the order of its time and, at one time, of its being asked.

So there are no ties that anything but the program decides, and the same seed gives the same world.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeAlias

Act: TypeAlias = Callable[[], object]


class Events:
    """A heap of acts, and the present: `now_ns`."""

    __slots__ = ("_heap", "_sequence", "now_ns")

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns
        self._heap: list[tuple[int, int, Act]] = []
        self._sequence = 0

    @property
    def happened(self) -> int:
        """How many acts are done."""
        return self._sequence - len(self._heap)

    def at(self, when_ns: int, act: Act) -> None:
        """Let it happen then, which is not before now."""
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (when_ns, sequence, act))

    def run(self, until_ns: int) -> bool:
        """Let all happen that is due before then; whether nothing is left to happen at all."""
        heap = self._heap
        while heap:
            when_ns, _, act = heap[0]
            if when_ns >= until_ns:
                break
            heappop(heap)
            self.now_ns = when_ns
            act()
        return not heap
