"""What all processes share, and what one command or event does to it.

A store is a value: a command makes another one. Replies are memcached's and the database's own,
within the abstractions that the package names.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from harness.errors import PlanError
from harness.exploration.bounds import Bounds
from harness.protocol.commands import (
    Add,
    Command,
    Delete,
    Get,
    Incr,
    InsertBallot,
    InsertBallots,
    IssueEpoch,
    Key,
    KeyKind,
    MemcachedCommand,
    Now,
    ReadHeads,
    Reply,
    Set,
    Status,
)
from harness.protocol.ticket import EPOCH_BITS, epoch_of

ORPHANED: Final = -1
HELD: Final = 2  # where a lock's counter stops
TWICE: Final = 2  # where a ballot's deliveries stop
JUMP_NS: Final = 3_600 * 10**9  # far more than a tombstone lives

OK: Final = Reply(Status.OK)
MISSING: Final = Reply(Status.MISSING)
EXISTS: Final = Reply(Status.EXISTS)
REFUSED: Final = Reply(Status.REFUSED)

WIPE: Final = "wiped: daemon"  # and its number
EVICTION: Final = "pointer evicted: daemon"  # and its number
TOMBSTONES_EXPIRE: Final = "tombstones expire"
LOCK_EXPIRES: Final = "lock expires"
DEATH: Final = "dies"
REPLY_LOST: Final = "applied, but the reply is lost"
COMMAND_LOST: Final = "lost before it arrived"

MEMCACHED: Final = (Get, Set, Add, Incr, Delete)


class Item(NamedTuple):
    """What lies under a key. `owner`: of a lock got by `add`, its process, from 1; else 0.

    An `ORPHANED` lock is that of a process that is dead, or does not know that it has it.
    """

    value: bytes
    mortal: bool = False
    owner: int = 0


class Head(NamedTuple):
    """The ticket last drained in one epoch of a queue."""

    queue: str
    epoch: int
    ticket: int


class Left(NamedTuple):
    """How often what the bounds allow may still happen."""

    takeovers: int = 0
    crashes: int = 0
    wipes: int = 0
    evictions: int = 0
    jumps: int = 0
    lost_replies: int = 0


class Store(NamedTuple):
    """The shared part of a state. Votes are numbered as their writers are."""

    items: tuple[tuple[Key, Item], ...]  # by key
    ballots: tuple[int, ...]  # deliveries of each vote
    heads: tuple[Head, ...]  # oldest epoch first
    left: Left
    acknowledged: frozenset[int] = frozenset()
    promised: frozenset[int] = frozenset()  # these, and those whose last reply has come
    taken: frozenset[int] = frozenset()  # promised, queued, and gone in a wipe
    now_ns: int = 0


def message_of(vote: int) -> bytes:
    """The message of a vote: one letter, which no protocol may take apart."""
    return b"vote %c" % (ord("A") + vote)


def budgets(bounds: Bounds) -> Left:
    """All that may happen, at the start."""
    return Left(
        bounds.takeovers,
        int(bool(bounds.crash)),
        int(bounds.wipe),
        int(bounds.evict_pointer),
        int(bounds.expire_tombstones),
        int(bounds.lost_reply),
    )


def apply(store: Store, command: Command, owner: int) -> tuple[Store, Reply]:
    """Carry out one command for a process (numbered from 1). Raises TypeError for a local one."""
    return _APPLY[type(command)](store, command, owner)


def _with(store: Store, key: Key, item: Item | None) -> Store:
    items = dict(store.items)
    if item is None:
        del items[key]
    else:
        items[key] = item
    return store._replace(items=tuple(sorted(items.items())))


def _get(store: Store, command: Get, _owner: int) -> tuple[Store, Reply]:
    item = dict(store.items).get(command.key)
    if item is None:
        return store, MISSING
    number = int(item.value) if item.value.isdigit() else 0
    return store, Reply(Status.OK, number, item.value, item.owner)


def _set(store: Store, command: Set, _owner: int) -> tuple[Store, Reply]:
    return _with(store, command.key, Item(command.value)), OK


def _add(store: Store, command: Add, owner: int) -> tuple[Store, Reply]:
    if command.key in dict(store.items):
        return store, EXISTS
    cas = owner if command.key.kind is KeyKind.LOCK else 0
    item = Item(command.value, command.lifetime_s > 0, cas)
    return _with(store, command.key, item), Reply(Status.OK, cas=cas)


def _incr(store: Store, command: Incr, _owner: int) -> tuple[Store, Reply]:
    item = dict(store.items).get(command.key)
    if item is None:
        return store, MISSING
    if not item.value.isdigit():
        return store, REFUSED
    number = int(item.value) + 1
    if command.key.kind is KeyKind.LOCK:
        number = min(number, HELD)
    raised = Item(b"%d" % number, item.mortal)
    return _with(store, command.key, raised), Reply(Status.OK, number)


def _delete(store: Store, command: Delete, _owner: int) -> tuple[Store, Reply]:
    item = dict(store.items).get(command.key)
    if item is None:
        return store, MISSING
    if command.cas and item.owner != command.cas:
        return store, EXISTS
    return _with(store, command.key, None), OK


def _deliver(store: Store, messages: Sequence[bytes], copies: bool) -> Store:
    ballots = list(store.ballots)
    for message in messages:
        for vote in range(len(ballots)):
            if message == message_of(vote):
                more = ballots[vote] + 1 if not (copies and ballots[vote]) else ballots[vote]
                ballots[vote] = min(more, TWICE)
    return store._replace(ballots=tuple(ballots))


def _insert_ballot(store: Store, command: InsertBallot, _owner: int) -> tuple[Store, Reply]:
    return _deliver(store, [command.message], command.copy), OK


def _insert_ballots(store: Store, command: InsertBallots, _owner: int) -> tuple[Store, Reply]:
    heads = {(head.queue, head.epoch): head.ticket for head in store.heads}
    for move in command.moves:
        if heads.get((move.queue, epoch_of(move.old))) != move.old:
            return store, EXISTS
        if move.new < move.old:
            raise PlanError(f"the protocol moves the head of {move.queue} back, from {move.old}")
        heads[(move.queue, epoch_of(move.old))] = move.new
    moved = tuple(Head(queue, epoch, ticket) for (queue, epoch), ticket in heads.items())
    return _deliver(store._replace(heads=moved), command.messages, command.copies), OK


def _read_heads(store: Store, command: ReadHeads, _owner: int) -> tuple[Store, Reply]:
    heads = sorted(head for head in store.heads if head.queue == command.queue)
    return store, Reply(Status.OK, parts=tuple(Reply(Status.OK, h.ticket) for h in heads))


def _issue_epoch(store: Store, command: IssueEpoch, _owner: int) -> tuple[Store, Reply]:
    epoch = 1 + max((h.epoch for h in store.heads if h.queue == command.queue), default=0)
    head = Head(command.queue, epoch, epoch << EPOCH_BITS)
    return store._replace(heads=tuple(sorted((*store.heads, head)))), Reply(Status.OK, epoch)


def _now(store: Store, _command: Now, _owner: int) -> tuple[Store, Reply]:
    return store, Reply(Status.OK, store.now_ns)


_APPLY: Final[dict[type[Command], Callable[..., tuple[Store, Reply]]]] = {
    Get: _get,
    Set: _set,
    Add: _add,
    Incr: _incr,
    Delete: _delete,
    InsertBallot: _insert_ballot,
    InsertBallots: _insert_ballots,
    ReadHeads: _read_heads,
    IssueEpoch: _issue_epoch,
    Now: _now,
}


def events(store: Store, daemons: int) -> Iterator[tuple[str, Store]]:
    """What may happen to the store by itself: a name of each event, and the store after it."""
    left = store.left
    if left.wipes:
        for daemon in sorted({key.daemon for key, _ in store.items}):
            yield f"{WIPE} {daemon}", wiped(store, daemon, excused=daemons == 1)
    if left.evictions:
        spent = store._replace(left=left._replace(evictions=left.evictions - 1))
        for key, _ in store.items:
            if key.kind is KeyKind.POINTER:
                yield f"{EVICTION} {key.daemon}", _with(spent, key, None)
    if left.jumps:
        spent = store._replace(left=left._replace(jumps=left.jumps - 1))
        yield TOMBSTONES_EXPIRE, expired(spent, KeyKind.SLOT)._replace(now_ns=JUMP_NS)
    held = tuple(pair for pair in store.items if pair[1].owner != ORPHANED)
    if len(held) < len(store.items):
        yield LOCK_EXPIRES, store._replace(items=held)
    if left.takeovers:
        spent = store._replace(left=left._replace(takeovers=left.takeovers - 1), items=held)
        without = expired(spent, KeyKind.LOCK)
        if without is not spent:
            yield LOCK_EXPIRES, without


def expired(store: Store, kind: KeyKind) -> Store:
    """Without the items of that kind that have a lifetime; the same object if there are none."""
    kept = tuple(pair for pair in store.items if not (pair[1].mortal and pair[0].kind is kind))
    return store if len(kept) == len(store.items) else store._replace(items=kept)


def orphaned(store: Store, owner: int) -> Store:
    """The store in which no lock is the owner's any more; the same object if none was."""
    if all(item.owner != owner for _, item in store.items):
        return store
    items = ((k, i._replace(owner=ORPHANED) if i.owner == owner else i) for k, i in store.items)
    return store._replace(items=tuple(items))


def wiped(store: Store, daemon: int, *, excused: bool) -> Store:
    """Without one daemon's items.

    What was promised and lay there was taken by memcached; but a second daemon is there just for
    that, and so nothing is excused then.
    """
    kept = tuple(pair for pair in store.items if pair[0].daemon != daemon)
    gone = {item.value for key, item in store.items if key.daemon == daemon and excused}
    taken = {
        vote for vote in store.promised if not store.ballots[vote] and message_of(vote) in gone
    }
    left = store.left._replace(wipes=store.left.wipes - 1)
    return store._replace(items=kept, taken=store.taken | taken, left=left)


def is_memcached(command: Command | None) -> MemcachedCommand | None:
    """The command, if it is one that memcached carries out."""
    return command if isinstance(command, MEMCACHED) else None
