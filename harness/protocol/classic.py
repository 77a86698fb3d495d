"""The queue of the post, sentence by sentence, its faults kept: they are what is measured.

docs/design.md, "Where it comes from", says what the post is.

Theory of operation
    Three kinds of key under one prefix: `-lock`, `-curr` (the pointer: number of the last filled
    slot) and `-key-N` (the slots). A process that wants in increments the lock. If that gives 1
    it is inside; otherwise it naps for 1 ms and tries again, until the naps add up to the
    patience. Inside, a voter increments the pointer and stores its message in that slot. The
    drain reads the pointer and every slot from 1 up to it, then sets the pointer to 0. Leaving is
    `set lock 0`.

Invariant, as long as it holds
    One process inside at a time, so a slot number is handed out once between two drains and
    every slot up to the pointer is filled when the drain reads it.

What it survives
    Any number of writers and drains on a warm cache, as long as every holder leaves within the
    patience of everyone who waits.

What it cannot survive, each a sentence of the post
    * Patience counts naps, not time, and when it ends the waiter goes on *as the holder*. If the
      real holder is only slow, two are inside; the slower one's stores come after the drain.
    * Whoever finds no lock makes one, holds it, and starts the pointer at 0. Two processes can both
      find none: two are inside, and the second start orphans the slots of the first.
    * Whoever finds no pointer starts it at 1 and yet has no number itself: its vote goes to slot 0,
      which no drain reads, while slot 1 is read and was never written.
    * Slots are never deleted, so a slot that was skipped yields the vote of an earlier round.
    * Nobody looks whether a `set` was refused.
    * Leaving sets the lock to 0 even if it had vanished: it comes back without its pointer.
"""

from collections.abc import Sequence
from enum import Enum
from functools import partial

from harness.protocol.commands import (
    UNANSWERED,
    Get,
    Incr,
    InsertBallots,
    Machine,
    Patience,
    Set,
    Sleep,
    Status,
)
from harness.protocol.once import guarded
from harness.protocol.queue import (
    NAP_NS,
    AfterPatience,
    Drained,
    DrainEnd,
    Queue,
    Receipt,
    Terms,
    VotingProtocol,
    straight_to_database,
)


class Grant(Enum):
    """How a process came to be inside, or that it did not."""

    CLEAN = "clean"
    COLD = "cold"
    TAKEOVER = "takeover"
    OUT_OF_PATIENCE = "out of patience"
    NO_MEMCACHED = "no memcached"


def acquire(queue: Queue, *, take_over: bool) -> Machine[Grant]:
    """Wait for the lock, a nap at a time, and say how it was got."""
    slept_ns = 0
    while True:
        lock = yield Incr(queue.lock)
        if lock.status in UNANSWERED:
            return Grant.NO_MEMCACHED
        if lock.status is Status.MISSING:
            yield Set(queue.lock, b"1")
            yield Set(queue.pointer, b"0")
            return Grant.COLD
        if lock.number == 1:
            return Grant.CLEAN
        slept_ns += (yield Sleep(NAP_NS)).number
        if (yield Patience(slept_ns)).status is Status.OVER:
            return Grant.TAKEOVER if take_over else Grant.OUT_OF_PATIENCE


def enqueue(queue: Queue, messages: Sequence[bytes], *, take_over: bool = True) -> Machine[Receipt]:
    """Put the messages into the next slots, all under one hold of the lock."""
    grant = yield from acquire(queue, take_over=take_over)
    if grant is Grant.NO_MEMCACHED:
        return Receipt.NO_MEMCACHED
    if grant is Grant.OUT_OF_PATIENCE:
        return Receipt.OUT_OF_PATIENCE
    for already_written, message in enumerate(messages):
        pointer = yield Incr(queue.pointer)
        if pointer.status in UNANSWERED:
            return Receipt.UNKNOWN if already_written else Receipt.NO_MEMCACHED
        if pointer.status is Status.MISSING:
            yield Set(queue.pointer, b"1")
        stored = yield Set(queue.slot(pointer.number), message)
        if stored.status in UNANSWERED:
            return Receipt.UNKNOWN
    yield Set(queue.lock, b"0")
    return Receipt.QUEUED


def vote(queue: Queue, message: bytes, *, after: AfterPatience) -> Machine[Receipt]:
    """Queue the vote; only without memcached, or if the plan says so, it goes to the database."""
    take_over = after is AfterPatience.TAKEOVER
    receipt = yield from enqueue(queue, [message], take_over=take_over)
    if receipt is Receipt.OUT_OF_PATIENCE and after is AfterPatience.REFUSE:
        return Receipt.REFUSED
    if receipt in (Receipt.OUT_OF_PATIENCE, Receipt.NO_MEMCACHED):
        return (yield from straight_to_database(message))
    return receipt


def drain(queue: Queue) -> Machine[Drained]:
    """Read every slot up to the pointer, reset it, leave, and only then write the ballots."""
    grant = yield from acquire(queue, take_over=True)
    if grant is Grant.NO_MEMCACHED:
        return Drained(DrainEnd.NO_MEMCACHED)
    pointer = yield Get(queue.pointer)
    messages = []
    for number in range(1, pointer.number + 1):
        slot = yield Get(queue.slot(number))
        if slot.status is Status.OK:
            messages.append(slot.value)
    reset = yield Set(queue.pointer, b"0")
    yield Set(queue.lock, b"0")
    if not messages:
        # The post would go on as if nothing had been queued; so do we, but we do not call it empty.
        unheard = pointer.status in UNANSWERED or reset.status in UNANSWERED
        return Drained(DrainEnd.NO_MEMCACHED if unheard else DrainEnd.EMPTY)
    inserted = yield InsertBallots(messages)
    committed = inserted.status is Status.OK
    return Drained(DrainEnd.COMMITTED if committed else DrainEnd.NOT_COMMITTED, messages)


def protocol(terms: Terms) -> VotingProtocol:
    """The post's queue; what happens when patience ends is the one thing that it leaves open."""
    return guarded(VotingProtocol(partial(vote, after=terms.after_patience), drain))
