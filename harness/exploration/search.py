"""The search: breadth first by memcached commands, a whole level at a time.

What is not a memcached command costs nothing, so a level is first brought to its end by such steps;
then each of its states takes one command more (a 0-1 breadth-first search).
"""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.exploration.bounds import ALL, Bounds, Reductions
from harness.exploration.rows import Column, Numbers, Rows, RowSet
from harness.exploration.space import MixedCopies, Move, ProtocolOf, Space, State
from harness.exploration.symmetry import Symmetry
from harness.exploration.undisturbed import Judge, Judgement

BUSY, QUIET, BLOCKED = range(3)
COMMANDS: Final = attrgetter("commands")
CHUNK: Final = 1 << 18  # states expanded at a time: some 100 MB of successors
MOST_STATES: Final = 50_000_000  # some 3 GB
MOST_NUMBERED: Final = 1 << 30  # what the numbers of states have room for


class Finding(NamedTuple):
    """What a search came to."""

    verdict: str  # safe, loses, unfinished
    states: int
    seconds: float
    commands: int  # of memcached: of the loss, or else of the longest schedule
    path: tuple[State, ...] = ()  # from the first state to the loss
    judgement: Judgement = Judgement()
    overlap: bool = False  # the loss is an overlap, and nothing worse was found
    taken: tuple[int, ...] = ()  # by memcached itself: the most of any state
    peak_mib: int = 0  # of this process, so far


class Ways(NamedTuple):
    """The moves that follow each of some states: where from, and where to."""

    origin: Numbers
    rows: Rows


class MoveTable:
    """The moves of one process, or (without one) the events, for each pair of store and node."""

    def __init__(self, space: Space, process: int | None) -> None:
        self._space = space
        self._process = process
        self._columns = [0] if process is None else [0, 1 + process]
        self._pairs = RowSet(len(self._columns))
        self._spans: Rows = np.empty((1 << 10, 6), np.int32)  # start, count; the same of 1 command
        self._targets: Rows = np.empty((1 << 10, 2), np.int32)  # store, node
        self._used = 0

    def numbers(self, states: Rows) -> Numbers:
        """The number of each state's pair."""
        pairs = np.ascontiguousarray(states[:, self._columns])
        added = self._pairs.add(pairs)
        first_new = self._pairs.size - len(added.new)
        self._spans = _room(self._spans, self._pairs.size)
        for number, pair in enumerate(pairs[added.new].tolist(), first_new):
            self._enter(number, pair)
        return added.numbers

    def goes_first(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Whether these moves are to be taken before any other's."""
        first: NDArray[np.bool_] = self._spans[numbers, 4] > 0
        return first

    def rest(self, numbers: Numbers) -> Rows:
        """Whether the process is at rest before these moves: BUSY, QUIET or BLOCKED."""
        rests: Rows = self._spans[numbers, 5]
        return rests

    def follow(self, states: Rows, numbers: Numbers, commands: int) -> Ways:
        """All states that follow by a move of so many memcached commands."""
        spans = self._spans[numbers]
        start, count = spans[:, 2 * commands], spans[:, 2 * commands + 1]
        origin = np.repeat(np.arange(len(states)), count)
        before = np.cumsum(count) - count
        target = np.arange(len(origin)) + np.repeat(start - before, count)
        rows = states[origin]
        rows[:, 0] = self._targets[target, 0]
        if self._process is not None:
            rows[:, 1 + self._process] = self._targets[target, 1]
        return Ways(origin, rows)

    def _enter(self, number: int, pair: list[int]) -> None:
        """Note the moves of one pair, those that cost nothing first."""
        moves = sorted(self._moves(pair), key=COMMANDS)
        start, count = self._used, len(moves)
        free = sum(not move.commands for move in moves)
        first = self._process is not None and self._space.goes_first(self._process, *pair)
        self._spans[number] = (
            start,
            free,
            start + free,
            count - free,
            first,
            self._rest(pair, moves),
        )
        self._used += count
        self._targets = _room(self._targets, self._used)
        if moves:
            self._targets[start : self._used] = [(move.store, move.node) for move in moves]

    def _rest(self, pair: list[int], moves: list[Move]) -> int:
        if self._process is None:
            return BUSY
        if self._space.is_quiet(self._process, pair[1]):
            return QUIET
        return BLOCKED if not moves or self._space.is_blocked(self._process, *pair) else BUSY

    def _moves(self, pair: list[int]) -> list[Move]:
        if self._process is None:
            return self._space.events(pair[0])
        return self._space.moves(self._process, pair[0], pair[1])


def _room(rows: Rows, size: int) -> Rows:
    """The same rows, with room for so many."""
    if size <= len(rows):
        return rows
    grown = np.empty((1 << (size - 1).bit_length(), rows.shape[1]), np.int32)
    grown[: len(rows)] = rows
    return grown


class Search:
    """One search of a space, until a loss or the end of the space."""

    def __init__(self, space: Space, most_states: int | None = None, to_the_end: bool = False):
        self._space = space
        self._most_states = most_states or MOST_STATES
        self._to_the_end = to_the_end
        self._states = RowSet(1 + len(space.actors))
        self._parents: Rows = np.full((1 << 12, 1), -1, np.int32)
        self._tables = [MoveTable(space, process) for process in range(len(space.actors))]
        self._tables.append(MoveTable(space, None))
        self._symmetry = Symmetry(space) if space.reductions.symmetry else None
        self._watch = Watch(space)
        self._worst: tuple[int, int] | None = None  # state, commands
        self._overlap: tuple[int, int] | None = None  # state, commands
        self._taken: tuple[int, ...] = ()
        self._began = time.monotonic()

    def run(self, tell: Callable[[str], None] = lambda _line: None) -> Finding:
        """Search. The first loss that is met has the fewest memcached commands."""
        first = np.array([self._space.start()], np.int32)
        self._enter(first, np.array([-1]), 0)
        level, commands = (0, self._states.size), 0
        while True:
            start, end = level
            fresh = level
            while fresh[0] < fresh[1]:  # what costs nothing
                fresh = self._visit(fresh, commands, free=True)
                end = self._states.size
                if self._is_over():
                    return self._finding(commands)
            level = self._visit((start, end), commands + 1, free=False)
            if self._is_over() or level[0] == level[1]:
                return self._finding(commands)
            commands += 1
            tell(f"{self._states.size:,} states, {commands} memcached commands deep")

    def _visit(self, states: tuple[int, int], commands: int, *, free: bool) -> tuple[int, int]:
        """Enter all states that follow these; the numbers of those that are new."""
        first_new = self._states.size
        for start in range(*states, CHUNK):
            end = min(start + CHUNK, states[1])
            rows = self._states.rows(start, end)
            numbers = [table.numbers(rows) for table in self._tables]
            if not free:
                self._look_at_last(start, rows, numbers, commands - 1)
            leader = np.full(end - start, -1)  # whose moves are to be taken before all others'
            for process, table in enumerate(self._tables):
                leader[(leader < 0) & table.goes_first(numbers[process])] = process
            for process, table in enumerate(self._tables):
                chosen = np.flatnonzero((leader < 0) | (leader == process))
                ways = table.follow(rows[chosen], numbers[process][chosen], 0 if free else 1)
                self._enter(ways.rows, chosen[ways.origin] + start, commands)
                if self._is_over():
                    return first_new, self._states.size
        return first_new, self._states.size

    def _enter(self, rows: Rows, parents: Numbers, commands: int) -> None:
        if not len(rows):
            return
        if self._symmetry:
            rows = self._symmetry.canonical(rows)
        first_new = self._states.size
        added = self._states.add(rows)
        self._parents = _room(self._parents, self._states.size)
        self._parents[first_new : self._states.size, 0] = parents[added.new]
        self._look_at(first_new, rows[added.new], commands)

    def _look_at(self, first: int, rows: Rows, commands: int) -> None:
        """Judge new states."""
        for position, judgement in self._watch.judge(rows):
            if len(judgement.taken) > len(self._taken):
                self._taken = judgement.taken
            if judgement.is_bad and self._worst is None:
                self._worst = (first + position, commands)
        if self._overlap is None:
            for position in self._watch.overlaps(rows):
                self._overlap = (first + position, commands)
                break

    def _look_at_last(
        self, first: int, rows: Rows, numbers: Sequence[Numbers], commands: int
    ) -> None:
        """Judge states in which no process can go on, though some wait for what never comes."""
        rests = np.stack(
            [table.rest(of) for table, of in zip(self._tables[:-1], numbers[:-1], strict=True)]
        )
        last = (rests != BUSY).all(axis=0) & (rests == BLOCKED).any(axis=0)
        for position in np.flatnonzero(last).tolist():
            state = tuple(rows[position].tolist())
            if self._worst is None and self._watch.judge_one(state).is_bad:
                self._worst = (first + position, commands)

    def _is_over(self) -> bool:
        found = self._worst is not None and not self._to_the_end
        return found or self._states.size >= self._most_states

    def _finding(self, commands: int) -> Finding:
        seconds = time.monotonic() - self._began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        finding = Finding(
            "safe", self._states.size, seconds, commands, taken=self._taken, peak_mib=peak
        )
        if self._worst:
            state, commands = self._worst
            path = self._path(state)
            judgement = self._watch.judge_one(path[-1])  # again: the votes have other names now
            return finding._replace(
                verdict="loses", commands=commands, path=path, judgement=judgement
            )
        if self._states.size >= self._most_states:
            return finding._replace(verdict="unfinished")
        if self._overlap:
            state, commands = self._overlap
            path = self._path(state)
            return finding._replace(verdict="loses", commands=commands, path=path, overlap=True)
        return finding

    def _path(self, state: int) -> tuple[State, ...]:
        """From the first state to this one, everybody with one name all the way."""
        path: list[State] = []
        while state >= 0:
            path.append(self._states.row(state))
            state = int(self._parents[state, 0])
        path.reverse()
        return self._symmetry.unrenamed(path) if self._symmetry else tuple(path)


def explore(
    protocol_of: ProtocolOf,
    bounds: Bounds,
    reductions: Reductions = ALL,
    *,
    most_states: int | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> tuple[Space, Finding]:
    """Search all that is within the bounds; what was found belongs to the space."""
    space = Space(protocol_of, bounds, reductions)
    try:
        return space, Search(space, most_states).run(tell)
    except MixedCopies:
        space = Space(protocol_of, bounds, reductions._replace(merge_commits=False))
        return space, Search(space, most_states).run(tell)


class Watch:
    """Looks at states for what must not be."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._judge = Judge(space.protocol)
        self._judged: dict[int, Judgement] = {}
        processes = range(len(space.actors))
        self._quiet = [Column(partial(_flag, space.is_quiet, p), 1) for p in processes]
        self._inside = [Column(partial(_flag, space.is_inside, p), 1) for p in processes]

    def judge(self, rows: Rows) -> Iterator[tuple[int, Judgement]]:
        """Of each store in which all is quiet, the first row's position, if it is worth a look."""
        quiet = np.ones(len(rows), bool)
        for process, flags in enumerate(self._quiet):
            quiet &= flags.of(rows[:, 1 + process])[:, 0] > 0
        positions = np.flatnonzero(quiet)
        stores, firsts = np.unique(rows[positions, 0], return_index=True)
        for store, position in zip(stores.tolist(), positions[firsts].tolist(), strict=True):
            if store not in self._judged:
                self._judged[store] = self._judge.judge(self._space.stores[store])
            judgement = self._judged[store]
            if judgement.is_bad or judgement.taken:
                yield position, judgement

    def judge_one(self, state: State) -> Judgement:
        """What one quiet state comes to."""
        return self._judge.judge(self._space.stores[state[0]])

    def overlaps(self, rows: Rows) -> Iterator[int]:
        """Positions of states in which two hold the lock, and nobody has been robbed of it."""
        inside = np.zeros(len(rows), np.int32)
        for process, flags in enumerate(self._inside):
            inside += flags.of(rows[:, 1 + process])[:, 0]
        for position in np.flatnonzero(inside > 1).tolist():
            left = self._space.stores[int(rows[position, 0])].left
            if left.takeovers == self._space.bounds.takeovers:
                yield position


def _flag(holds: Callable[[int, int], bool], process: int, node: int) -> list[int]:
    return [int(holds(process, node))]
