"""Writers are interchangeable, and so are readers: of states that differ in who is who, one.

The processes of a role are put in an order that does not depend on their names: first by where
they are, then by where the store and the readers' replies speak of them. Then everybody is renamed
after his place. Where the order leaves a choice, a twin of a state may stay; none is ever lost.

A machine must not look into a message, or the messages would not be interchangeable.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.exploration.rows import MULTIPLIER, SHIFT, Column, Rows
from harness.exploration.space import Space, State
from harness.exploration.store import Store, message_of
from harness.protocol.commands import Reply

BLANK: Final = b"some vote"


class Symmetry:
    """Renames the processes of states."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._writers = space.bounds.writers
        self._readers = space.bounds.readers
        self._ids: dict[Hashable, int] = {}
        size = self._writers + self._readers
        self._mentions = Column(self._store_mentions, size)
        self._places = [Column(self._place_in(p), 1) for p in range(size)]
        self._read = [
            Column(self._mentions_in(p), self._writers) for p in range(self._writers, size)
        ]
        self._store_names: dict[tuple[int, ...], Column] = {}
        self._node_names: dict[tuple[tuple[int, ...], int], Column] = {}

    def canonical(self, rows: Rows) -> Rows:
        """Each state as it is when everybody has the name that is due to him."""
        order = self._order(rows)
        identity = np.arange(order.shape[1])
        moved = np.flatnonzero((order != identity).any(axis=1))
        if not len(moved):
            return rows
        rows = rows.copy()
        base = order.shape[1] ** identity
        codes = order[moved] @ base
        for code in np.unique(codes).tolist():
            chosen = moved[codes == code]
            rows[chosen] = self._renamed(rows[chosen], tuple(order[chosen[0]].tolist()))
        return rows

    def unrenamed(self, path: Sequence[State]) -> tuple[State, ...]:
        """A path of renamed states, as it is when the names of the first state are kept."""
        names = tuple(
            range(len(path[0]) - 1)
        )  # who in the path is whom: path = renamed(told, names)
        told = [path[0]]
        for state, goal in pairwise(path):
            after, order = self._leading_to(state, goal)
            told.append(self._renamed_one(after, _inverse(names)))
            names = tuple(names[old] for old in order)
        return tuple(told)

    def _leading_to(self, state: State, goal: State) -> tuple[State, tuple[int, ...]]:
        """The state that follows and became the goal by renaming, and who came to which place."""
        for after, _ in self._space.successors(state):
            rows = np.array([after], np.int32)
            order = tuple(self._order(rows)[0].tolist())
            if self._renamed_one(after, order) == goal:
                return after, order
        raise RuntimeError("the path has a step that the space does not have")

    def _renamed_one(self, state: State, order: tuple[int, ...]) -> State:
        return tuple(self._renamed(np.array([state], np.int32), order)[0].tolist())

    def _order(self, rows: Rows) -> NDArray[np.int64]:
        """Which process comes to each place: the writers' places first, then the readers'."""
        spoken_of = self._mentions.of(rows[:, 0])
        keys = [
            _mix(self._places[p].of(rows[:, 1 + p])[:, 0], spoken_of[:, p])
            for p in range(self._writers + self._readers)
        ]
        readers = _sorted(keys[self._writers :], len(rows))
        read = [
            column.of(rows[:, 1 + self._writers + reader])
            for reader, column in enumerate(self._read)
        ]
        for writer in range(self._writers):
            if read:
                seen = np.stack([votes[:, writer] for votes in read], axis=1)
                seen = np.take_along_axis(seen, readers, axis=1)
                keys[writer] = _mix(keys[writer], *seen.T)
        writers = _sorted(keys[: self._writers], len(rows))
        return np.concatenate([writers, readers + self._writers], axis=1)

    def _renamed(self, rows: Rows, order: tuple[int, ...]) -> Rows:
        """These states, when the process order[i] is called i."""
        if order not in self._store_names:
            self._store_names[order] = Column(lambda s: [self._rename_store(s, order)], 1)
            for new, old in enumerate(order):
                self._node_names[order, new] = Column(self._renaming(order, new, old), 1)
        renamed = np.empty_like(rows)
        renamed[:, 0] = self._store_names[order].of(rows[:, 0])[:, 0]
        for new, old in enumerate(order):
            names = self._node_names[order, new]
            renamed[:, 1 + new] = names.of(rows[:, 1 + old])[:, 0]
        return renamed

    def _renaming(
        self, order: tuple[int, ...], new: int, old: int
    ) -> Callable[[int], Sequence[int]]:
        """From a node of the old process to the new one's."""
        before, after = self._space.actors[old], self._space.actors[new]
        values, owners = self._names(order)

        def rename(number: int) -> Sequence[int]:
            node = before.nodes[number]
            if number == before.end:
                return [after.end]
            history = tuple(_rename_reply(reply, values, owners) for reply in node.history)
            return [after.number(node.drains, history)]

        return rename

    def _names(self, order: tuple[int, ...]) -> tuple[dict[bytes, bytes], dict[int, int]]:
        """Messages and owners of locks, by their old names."""
        votes = order[: self._writers]
        values = {message_of(old): message_of(new) for new, old in enumerate(votes)}
        return values, {old + 1: new + 1 for new, old in enumerate(order)}

    def _rename_store(self, number: int, order: tuple[int, ...]) -> int:
        store = self._space.stores[number]
        values, owners = self._names(order)
        votes = {old: new for new, old in enumerate(order[: self._writers])}
        items = tuple(
            (
                key,
                item._replace(
                    value=values.get(item.value, item.value),
                    owner=owners.get(item.owner, item.owner),
                ),
            )
            for key, item in store.items
        )
        renamed = store._replace(
            items=items,
            ballots=tuple(store.ballots[old] for old in order[: self._writers]),
            acknowledged=frozenset(votes[vote] for vote in store.acknowledged),
            promised=frozenset(votes[vote] for vote in store.promised),
            taken=frozenset(votes[vote] for vote in store.taken),
        )
        return self._space.store_number(renamed)

    def _id(self, what: Hashable) -> int:
        return self._ids.setdefault(what, len(self._ids))

    def _store_mentions(self, number: int) -> Sequence[int]:
        """For each process, what the store says of it."""
        store = self._space.stores[number]
        return [
            self._id(_said_of(store, process, process < self._writers))
            for process in range(self._writers + self._readers)
        ]

    def _place_in(self, process: int) -> Callable[[int], Sequence[int]]:
        """Where a process is, without any names."""
        automaton = self._space.actors[process]
        blank = {message_of(vote): BLANK for vote in range(self._writers)}

        def place(number: int) -> Sequence[int]:
            shape = with_names(automaton.nodes[number].shape, blank)
            return [self._id((automaton.actor.role, shape))]

        return place

    def _mentions_in(self, process: int) -> Callable[[int], Sequence[int]]:
        """For each vote, where it is in what a reader has read or has to do."""
        automaton = self._space.actors[process]

        def mentions(number: int) -> Sequence[int]:
            said = tuple(leaves(automaton.nodes[number].shape))
            return [
                self._id(tuple(i for i, leaf in enumerate(said) if leaf == message_of(vote)))
                for vote in range(self._writers)
            ]

        return mentions


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(place) for place in range(len(order)))


def _said_of(store: Store, process: int, writes: bool) -> Hashable:
    owned = tuple(key for key, item in store.items if item.owner == process + 1)
    if not writes:
        return owned
    message = message_of(process)
    return (
        owned,
        tuple(key for key, item in store.items if item.value == message),
        store.ballots[process],
        process in store.acknowledged,
        process in store.promised,
        process in store.taken,
    )


def with_names(shape: Hashable, values: dict[bytes, bytes]) -> Hashable:
    """The shape with other messages in it."""
    if isinstance(shape, tuple):
        return tuple(with_names(part, values) for part in shape)
    return values.get(shape, shape) if isinstance(shape, bytes) else shape


def leaves(shape: Hashable) -> Iterator[Hashable]:
    """What a shape is made of, in order."""
    if isinstance(shape, tuple):
        for part in shape:
            yield from leaves(part)
    else:
        yield shape


def _rename_reply(reply: Reply, values: dict[bytes, bytes], owners: dict[int, int]) -> Reply:
    if not reply.value and not reply.cas:
        return reply
    return reply._replace(
        value=values.get(reply.value, reply.value), cas=owners.get(reply.cas, reply.cas)
    )


def _mix(*columns: Rows | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for several; that two mix alike costs a reduction, never a state."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * MULTIPLIER
        mixed ^= mixed >> SHIFT
    return mixed


def _sorted(keys: list[NDArray[np.uint64]], count: int) -> NDArray[np.int64]:
    """The positions of the keys of each row, in rising order of the keys."""
    if not keys:
        return np.zeros((count, 0), np.int64)
    order: NDArray[np.int64] = np.argsort(np.stack(keys, axis=1), axis=1, kind="stable")
    return order
