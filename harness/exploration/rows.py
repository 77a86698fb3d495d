"""Rows of small integers, each kept once and known by its number: a hash table in numpy.

A million states a second is more than a dict of tuples takes, in time and in memory (a row of six
numbers needs some 40 bytes here). Rows are compared whole, so two never pass for one.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]
Numbers = NDArray[np.int64]

FIRST_CAPACITY: Final = 1 << 12
SLOTS_PER_ROW: Final = 2  # at least; fewer make probes long
MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth 3, 6.4
SHIFT: Final = np.uint64(32)


class Added(NamedTuple):
    """The number of each row that was given, and which of them were new (each once)."""

    numbers: Numbers
    new: Numbers  # positions in what was given, rising


class RowSet:
    """A set of rows that only grows. A row's number says when it came."""

    def __init__(self, columns: int) -> None:
        self._rows: Rows = np.empty((FIRST_CAPACITY, columns), np.int32)
        self._table: Rows = np.full(FIRST_CAPACITY * SLOTS_PER_ROW, -1, np.int32)
        self.size = 0

    def rows(self, start: int, end: int) -> Rows:
        """The rows with these numbers."""
        return self._rows[start:end]

    def row(self, number: int) -> tuple[int, ...]:
        return tuple(self._rows[number].tolist())

    def add(self, rows: Rows) -> Added:
        """Put in what is not there yet."""
        count = len(rows)
        self._reserve(self.size + count)
        self._rows[self.size : self.size + count] = rows  # for now all of them
        home = self._hash(rows)
        numbers = np.full(count, -1, np.int64)
        pending = np.arange(count)
        while len(pending):
            at = home[pending]
            free = pending[self._table[at] < 0]
            self._table[home[free]] = self.size + free  # of several that want one, the last gets it
            there = self._table[at]
            same = (self._rows[there] == rows[pending]).all(axis=1)
            numbers[pending[same]] = there[same]
            pending = pending[~same]
            home[pending] = (home[pending] + 1) & (len(self._table) - 1)
        new = np.flatnonzero(numbers == self.size + np.arange(count))
        return Added(self._keep(rows, numbers, home, new), new)

    def _keep(self, rows: Rows, numbers: Numbers, home: Numbers, new: Numbers) -> Numbers:
        """Close the gaps that rows which are not new have left."""
        renumbered = np.arange(self.size + len(rows))
        renumbered[self.size + new] = self.size + np.arange(len(new))
        self._table[home[new]] = renumbered[self.size + new]
        self._rows[self.size : self.size + len(new)] = rows[new]
        fresh = numbers >= self.size
        numbers[fresh] = renumbered[numbers[fresh]]
        self.size += len(new)
        return numbers

    def _hash(self, rows: Rows) -> Numbers:
        mixed = np.zeros(len(rows), np.uint64)
        for column in range(rows.shape[1]):
            mixed = (mixed ^ rows[:, column].astype(np.uint64)) * MULTIPLIER
            mixed ^= mixed >> SHIFT
        return (mixed & np.uint64(len(self._table) - 1)).astype(np.int64)

    def _reserve(self, size: int) -> None:
        """Room for so many rows, in powers of two."""
        if size <= len(self._rows):
            return
        capacity = 1 << (size - 1).bit_length()
        grown = np.empty((capacity, self._rows.shape[1]), np.int32)
        grown[: self.size] = self._rows[: self.size]
        self._rows = grown
        self._table = np.full(capacity * SLOTS_PER_ROW, -1, np.int32)
        home = self._hash(self._rows[: self.size])
        pending = np.arange(self.size)
        while len(pending):
            free = pending[self._table[home[pending]] < 0]
            self._table[home[free]] = free
            pending = pending[self._table[home[pending]] != pending]
            home[pending] = (home[pending] + 1) & (len(self._table) - 1)


class Column:
    """What is said of each of a growing list of things, as an array; said once, when asked for."""

    def __init__(self, say: Callable[[int], Sequence[int]], width: int) -> None:
        self._say = say
        self._said: Rows = np.empty((0, width), np.int32)
        self._known = np.zeros(0, bool)

    def of(self, numbers: Rows) -> Rows:
        """A row for each number."""
        most = int(numbers.max(initial=-1)) + 1
        if most > len(self._known):
            room = max(most, 2 * len(self._known), 1 << 10)
            self._said = np.resize(self._said, (room, self._said.shape[1]))
            self._known = np.concatenate([self._known, np.zeros(room - len(self._known), bool)])
        for number in np.unique(numbers[~self._known[numbers]]).tolist():
            self._said[number] = self._say(number)
            self._known[number] = True
        found: Rows = self._said[numbers]
        return found
