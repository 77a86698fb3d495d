"""A queue without a lock: a number is drawn, and the slot of that number is its owner's alone.

Theory of operation
    The pointer holds a ticket: an epoch in the bits from 40 up, and in the lower ones how many
    tickets have been drawn in it. A voter draws a ticket with `incr` and fills its slot with `add`,
    which fails if anything is there. The drain reads the slots behind the head, which is the
    ticket drained last and lives in the database; it moves in the transaction that inserts the
    ballots. So a slot is counted once or not at all, whatever dies in between, and of two drains
    that read the same slots one is told that the head has moved.

    A slot may stay empty because its owner is slow or dead. The head passes it only after the
    drain has put a tombstone there with `add`: either that fails, because the vote has arrived,
    or the owner's `add` will fail, and he draws another ticket.

    A pointer that memcached has lost is made anew, by `add`, in an epoch that the database has
    issued to one process once. So no ticket is drawn twice. Each epoch has a head of its own,
    because an epoch may be used after a younger one, by whoever was slow to make its pointer.
    In an epoch that is not the pointer's, the drain searches until as many slots in a row are
    empty as votes can be on their way.

Invariant
    Every acknowledged vote lies in a slot that no head has passed, or is committed. For that
    a voter is told so only if, after his `add`, the pointer is still of his epoch (otherwise
    memcached has lost something, and perhaps his vote), and if less time has passed since he drew
    his ticket than a tombstone lives (otherwise the head may have passed his slot, and the
    tombstone that should have stopped him may have expired).

What it survives
    Cold starts, stalls and deaths of any process at any step, any number of drains at once,
    replies that get lost, and a memcached that loses the pointer only. Without memcached votes go
    to the database.

What it cannot survive
    What memcached itself loses: the votes queued in it when it is restarted, wiped or short of
    memory. That includes a tombstone for which there is no memory: memcached refuses it and, by
    refusing, removes a vote that has just arrived in that slot.

    And in an old epoch a gap as long as all votes that can be on their way: tickets whose owners
    died or never heard of them, in a row, behind which the search does not look. It takes a lost
    pointer, and that many of them since the last drain.

    And keys that move between daemons. Spread over several that keep their keys, the slots of one
    that is lost are lost, as in a wipe, though the pointer's epoch may stay. But when the keys of a
    dead daemon move to others, each process learns for itself who is dead. A slot that a voter
    fills on one daemon is looked for by the drain on another and found empty: it is closed there,
    the head passes, and the vote stays behind it. Two pointers can be in use at a time. The voter
    who reads the pointer again sees none of that: it is of his epoch where he looks.

Why it never says yes in doubt
    A vote whose `add` was not answered, or after which the epoch had changed, may be counted or
    not. To draw another ticket would deliver it twice if it was, so its voter is told that nobody
    knows, and comes again with the same vote id.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from harness.protocol.commands import (
    Add,
    Delete,
    Get,
    Incr,
    InsertBallots,
    IssueEpoch,
    Machine,
    Move,
    Now,
    Pipeline,
    ReadHeads,
    Reply,
    Sleep,
    Status,
)
from harness.protocol.once import guarded
from harness.protocol.queue import (
    Drained,
    DrainEnd,
    Queue,
    Receipt,
    Terms,
    VotingProtocol,
    straight_to_database,
)

EPOCH_BITS: Final = 40  # a trillion votes in an epoch, and eight million epochs
TOMBSTONE: Final = b"closed"
SPARE_S: Final = 2  # memcached's clock ticks once a second, so a lifetime may end a second early
MAX_TICKETS: Final = 8  # each is lost to a drain that found its slot empty; then the database
MOST_AT_ONCE: Final = 20_000  # slots in one drain of an epoch: a transaction of some 250 ms
OPENING_LIMIT_S: Final = 30  # far less than the database remembers epochs that are not in use


class Found(NamedTuple):
    """What lies behind a queue's heads. `failure`: why nothing of it could be read."""

    messages: Sequence[bytes] = ()
    slots: Sequence[int] = ()  # where the messages lie
    moves: tuple[Move, ...] = ()
    stuck: bool = False  # before a slot of which nobody knows whether it is filled or closed
    failure: DrainEnd | None = None


def epoch_of(ticket: int) -> int:
    return ticket >> EPOCH_BITS


def first_of(epoch: int) -> int:
    """The ticket before the first one of the epoch."""
    return epoch << EPOCH_BITS


def enqueue(queue: Queue, message: bytes, terms: Terms) -> Machine[Receipt]:
    """Draw a ticket and fill its slot."""
    for _ in range(MAX_TICKETS):
        asked = yield Now()
        ticket = yield Incr(queue.pointer)
        if ticket.status is Status.MISSING:
            if (yield from open_epoch(queue)):
                continue
            return Receipt.NO_MEMCACHED
        if ticket.status is not Status.OK:
            return Receipt.NO_MEMCACHED  # at worst a ticket was drawn for nobody
        filling = Add(queue.slot(ticket.number), message), Get(queue.pointer)
        stored, pointer = (yield Pipeline(filling)).parts
        if stored.status is Status.EXISTS:
            continue  # a tombstone: the drain has passed by
        if stored.status is Status.LOST:
            return Receipt.UNKNOWN
        if stored.status is not Status.OK:
            return Receipt.NO_MEMCACHED
        answered = yield Now()
        in_time = answered.number - asked.number < (terms.tombstone_life_s - SPARE_S) * 10**9
        still_there = pointer.status is Status.OK
        if in_time and still_there and epoch_of(pointer.number) == epoch_of(ticket.number):
            return Receipt.QUEUED
        return Receipt.UNKNOWN
    return Receipt.NO_MEMCACHED


def open_epoch(queue: Queue) -> Machine[bool]:
    """Make the pointer anew; whether a ticket can be drawn now."""
    asked = yield Now()
    epoch = yield IssueEpoch(queue.name)
    if epoch.status is not Status.OK:
        return False
    issued = yield Now()
    if issued.number - asked.number > OPENING_LIMIT_S * 10**9:
        return False  # the database may be about to forget it
    opened = yield Add(queue.pointer, b"%d" % first_of(epoch.number))
    return opened.status in (Status.OK, Status.EXISTS)


def vote(queue: Queue, message: bytes, *, terms: Terms) -> Machine[Receipt]:
    """Queue the vote; without memcached it goes to the database."""
    receipt = yield from enqueue(queue, message, terms)
    if receipt is Receipt.NO_MEMCACHED:
        return (yield from straight_to_database(message))
    return receipt


def search(queue: Queue, terms: Terms) -> Machine[Found]:
    """Read what lies behind the heads of all epochs, and close what is empty."""
    pointer = yield Get(queue.pointer)
    if pointer.status not in (Status.OK, Status.MISSING):
        return Found(failure=DrainEnd.NO_MEMCACHED)
    current = epoch_of(pointer.number)
    heads = yield ReadHeads(queue.name, current)
    if heads.status is not Status.OK:
        return Found(failure=DrainEnd.NOT_COMMITTED)
    found = Found()
    for head in heads.parts:
        drawn = pointer.number if epoch_of(head.number) == current else None
        found = yield from search_epoch(queue, head.number, drawn, found, terms)
    if found.stuck and not found.moves:
        return Found(failure=DrainEnd.NO_MEMCACHED)
    return found


def search_epoch(
    queue: Queue, head: int, drawn: int | None, found: Found, terms: Terms
) -> Machine[Found]:
    """Add to `found` what lies behind one head, up to the last ticket that was drawn.

    Where that is not known, up to the last slot that is filled.
    """
    slots = yield from read(queue, head, drawn, terms.writers)
    holes = [number for number, slot in slots.items() if slot.status is Status.MISSING]
    if holes:
        yield Sleep(terms.grace_ns)
        closed = yield Pipeline(
            [Add(queue.slot(number), TOMBSTONE, terms.tombstone_life_s) for number in holes]
        )
        filled = [
            number
            for number, tombstone in zip(holes, closed.parts, strict=True)
            if tombstone.status is Status.EXISTS
        ]
        slots |= dict(zip(holes, closed.parts, strict=True))
        if filled:
            late = yield Pipeline([Get(queue.slot(number)) for number in filled])
            slots |= dict(zip(filled, late.parts, strict=True))
    messages, taken, last, stuck = list(found.messages), list(found.slots), head, found.stuck
    for number, slot in slots.items():
        if slot.status is not Status.OK:
            stuck = True  # the head stays before it
            break
        if slot.value not in (b"", TOMBSTONE):
            messages.append(slot.value)
            taken.append(number)
        last = number
    moves = (*found.moves, Move(queue.name, head, last)) if last > head else found.moves
    return Found(messages, taken, moves, stuck)


def read(queue: Queue, head: int, drawn: int | None, writers: int) -> Machine[dict[int, Reply]]:
    """The slots behind the head, by number, up to the last that was drawn, or else may be filled.

    A search ends where a slot is not answered for: the head cannot pass that one.
    """
    slots: dict[int, Reply] = {}
    if drawn is not None:
        numbers = range(head + 1, min(drawn, head + MOST_AT_ONCE) + 1)
        if numbers:
            replies = yield Pipeline([Get(queue.slot(number)) for number in numbers])
            slots = dict(zip(numbers, replies.parts, strict=True))
        return slots
    last = head
    while len(slots) < MOST_AT_ONCE:
        numbers = range(head + len(slots) + 1, head + len(slots) + writers + 1)
        replies = yield Pipeline([Get(queue.slot(number)) for number in numbers])
        slots |= dict(zip(numbers, replies.parts, strict=True))
        filled = [number for number in numbers if slots[number].status is not Status.MISSING]
        last = filled[-1] if filled else last
        if not filled or any(slots[number].status is not Status.OK for number in filled):
            break
    return {number: slot for number, slot in slots.items() if number <= last}


def drain(queue: Queue, *, terms: Terms) -> Machine[Drained]:
    """Count what lies behind the heads and move them, then free the slots."""
    found = yield from search(queue, terms)
    if found.failure:
        return Drained(found.failure)
    return (yield from count([queue], [found]))


def count(
    queues: Sequence[Queue], finds: Sequence[Found], *, copies: bool = False
) -> Machine[Drained]:
    """One transaction for all that was found; then the filled slots are free, tombstones stay."""
    moves = tuple(move for found in finds for move in found.moves)
    if not moves:
        return Drained(DrainEnd.EMPTY)
    messages = [message for found in finds for message in found.messages]
    if copies:
        messages = list(dict.fromkeys(messages))
    counted = yield InsertBallots(messages, moves, copies)
    if counted.status is Status.EXISTS:
        return Drained(DrainEnd.OVERTAKEN)
    if counted.status is not Status.OK:
        return Drained(DrainEnd.NOT_COMMITTED)
    for queue, found in zip(queues, finds, strict=True):
        if found.slots:
            yield Pipeline([Delete(queue.slot(number)) for number in found.slots])
    return Drained(DrainEnd.COMMITTED, messages)


def protocol(terms: Terms) -> VotingProtocol:
    """Nobody waits here, so patience has no meaning."""
    return guarded(VotingProtocol(partial(vote, terms=terms), partial(drain, terms=terms)))
