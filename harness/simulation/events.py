"""Virtual time: what is to happen, in the order of its time and, at one time, of its being asked.

So there are no ties that anything but the program decides, and the same seed gives the same world.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TypeAlias

Act: TypeAlias = Callable[[], object]


class Events:
    """A heap of acts, and the present: `now_ns`."""

    __slots__ = ("_asked", "_heap", "at", "now_ns")

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = now_ns
        self._heap: list[tuple[int, int, Act]] = []
        self._asked = count(1)
        heap, sequence = self._heap, self._asked

        def at(when_ns: int, act: Act) -> None:
            heappush(heap, (when_ns, next(sequence), act))

        self.at = at  # no method: this is the hot path of everything
        """Let an act happen at a time, which is not before now."""

    def run(self, until_ns: int) -> int:
        """Let all happen that is due before then; how much did."""
        heap = self._heap
        happened = 0
        while heap and heap[0][0] < until_ns:
            self.now_ns, _, act = heappop(heap)
            act()
            happened += 1
        return happened
