"""The post's queue with a lock that has an owner: the first thing that one mends.

Theory of operation
    Keys, pointer and slots are those of `classic`. The lock is taken by `add`, which only one of
    several can win, and it has a lifetime; whoever won remembers the CAS of its item and leaves by
    deleting just that item. Nobody takes over. A waiter whose patience ends gives up; a lock
    whose owner died expires. Inside, a missing pointer is made with the number 1, and its maker
    takes slot 1.

Invariant, as long as it holds
    One process inside at a time, also on a cold cache, and a release never ends another's hold.

What it survives
    What `classic` does not: a cold start, a missing pointer, patience that ends too early, a
    release that comes too late.

What it cannot survive
    * A holder that stands still for longer than the lock lives. It does not know that the lock is
      gone: its stores and resets come as if it were still inside.
    * A reader that dies between resetting the pointer and the commit, as in `classic`.
    * A holder that dies between taking a slot's number and filling it: the drain finds the vote of
      an earlier round there, because slots are never deleted.
    * What memcached loses.
"""

from functools import partial
from math import ceil
from typing import Final, NamedTuple

from harness.protocol.commands import (
    UNANSWERED,
    Add,
    Delete,
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

SPARE_S: Final = 2  # memcached's clock ticks once a second, so a lifetime may end a second early
OWNED: Final = b"owned"  # anybody's: the owner knows its item by the CAS


class Hold(NamedTuple):
    """A lock that was won, or why none was."""

    cas: int = 0
    failure: Receipt | None = None


def acquire(queue: Queue, life_s: int) -> Machine[Hold]:
    """Wait for the lock, a nap at a time, until patience ends."""
    slept_ns = 0
    while True:
        lock = yield Add(queue.lock, OWNED, life_s)
        if lock.status is Status.OK:
            return Hold(lock.cas)
        if lock.status is not Status.EXISTS:  # if it was won after all, it will expire
            return Hold(failure=Receipt.NO_MEMCACHED)
        slept_ns += (yield Sleep(NAP_NS)).number
        if (yield Patience(slept_ns)).status is Status.OVER:
            return Hold(failure=Receipt.OUT_OF_PATIENCE)


def enqueue(queue: Queue, message: bytes, life_s: int) -> Machine[Receipt]:
    """Put the message into the next slot."""
    hold = yield from acquire(queue, life_s)
    if hold.failure:
        return hold.failure
    pointer = yield Incr(queue.pointer)
    number = pointer.number
    if pointer.status is Status.MISSING:
        pointer = yield Set(queue.pointer, b"1")
        number = 1
    if pointer.status is not Status.OK:
        yield Delete(queue.lock, hold.cas)
        return Receipt.NO_MEMCACHED
    stored = yield Set(queue.slot(number), message)
    yield Delete(queue.lock, hold.cas)
    if stored.status is Status.OK:
        return Receipt.QUEUED
    return Receipt.UNKNOWN if stored.status is Status.LOST else Receipt.NO_MEMCACHED


def vote(queue: Queue, message: bytes, *, life_s: int, after: AfterPatience) -> Machine[Receipt]:
    """Queue the vote; who is not let in, or finds no memcached, goes to the database."""
    receipt = yield from enqueue(queue, message, life_s)
    if receipt is Receipt.OUT_OF_PATIENCE and after is AfterPatience.REFUSE:
        return Receipt.REFUSED
    if receipt in (Receipt.OUT_OF_PATIENCE, Receipt.NO_MEMCACHED):
        return (yield from straight_to_database(message))
    return receipt


def drain(queue: Queue, *, life_s: int) -> Machine[Drained]:
    """As the post drains, and only if let in."""
    hold = yield from acquire(queue, life_s)
    if hold.failure is Receipt.OUT_OF_PATIENCE:
        return Drained(DrainEnd.LOCKED)
    if hold.failure:
        return Drained(DrainEnd.NO_MEMCACHED)
    pointer = yield Get(queue.pointer)
    messages = []
    for number in range(1, pointer.number + 1):
        slot = yield Get(queue.slot(number))
        if slot.status is Status.OK:
            messages.append(slot.value)
    reset = yield Set(queue.pointer, b"0")
    yield Delete(queue.lock, hold.cas)
    if not messages:
        unheard = pointer.status in UNANSWERED or reset.status in UNANSWERED
        return Drained(DrainEnd.NO_MEMCACHED if unheard else DrainEnd.EMPTY)
    inserted = yield InsertBallots(messages)
    committed = inserted.status is Status.OK
    return Drained(DrainEnd.COMMITTED if committed else DrainEnd.NOT_COMMITTED, messages)


def protocol(terms: Terms) -> VotingProtocol:
    """A lock that outlives everybody's patience. What would take over falls back instead."""
    life_s = ceil(terms.patience_s) + SPARE_S
    take_in = partial(vote, life_s=life_s, after=terms.after_patience)
    return guarded(VotingProtocol(take_in, partial(drain, life_s=life_s)))
