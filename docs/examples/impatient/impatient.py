"""`impatient`: no voter waits. Who finds the queue's lock taken goes to the database at once.

The queue and its drain are those of `owned`. So is what can be lost, and the mode promises nothing.
"""

from functools import partial
from math import ceil

from harness.modes.protocol_mode import ProtocolMode
from harness.protocol import owned
from harness.protocol.commands import Add, Delete, Incr, Machine, Set, Status
from harness.protocol.queue import Queue, Receipt, Terms, VotingProtocol, straight_to_database


def vote(queue: Queue, message: bytes, *, life_s: int) -> Machine[Receipt]:
    """Try the lock once; inside, fill the next slot."""
    lock = yield Add(queue.lock, owned.OWNED, life_s)
    if lock.status is not Status.OK:
        return (yield from straight_to_database(message))
    pointer = yield Incr(queue.pointer)
    number = pointer.number
    if pointer.status is Status.MISSING:
        pointer = yield Set(queue.pointer, b"1")
        number = 1
    if pointer.status is not Status.OK:
        yield Delete(queue.lock, lock.cas)
        return (yield from straight_to_database(message))
    stored = yield Set(queue.slot(number), message)
    yield Delete(queue.lock, lock.cas)
    if stored.status is Status.LOST:
        return Receipt.UNKNOWN  # in its slot or not: to insert it too might count it twice
    if stored.status is not Status.OK:
        return (yield from straight_to_database(message))
    return Receipt.QUEUED


class Impatient(ProtocolMode):
    """Found by its name through the entry point in pyproject.toml."""

    name = "impatient"

    def protocol(self, terms: Terms) -> VotingProtocol:
        life_s = ceil(terms.patience_s) + owned.SPARE_S
        drain = partial(owned.drain, life_s=life_s)  # the flusher does wait for the lock
        return VotingProtocol(partial(vote, life_s=life_s), drain)
