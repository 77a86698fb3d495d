"""Two tickets: each vote lies in a queue on either of two memcached daemons.

Theory of operation
    A vote is put into a `ticket` queue on the first daemon, then into one on the second. It is
    acknowledged when both have it; as soon as one does not, or might not, the vote goes to the
    database instead. The drain reads both queues and counts each vote once, whichever of the
    copies it meets first: the vote's id is the primary key, and a copy of a counted vote changes
    nothing. Both queues' heads move in that one transaction.

Invariant
    Every acknowledged vote lies in two daemons behind no head, or is committed. A vote that lies in
    one, or might, is never refused.

What it survives
    What `ticket` survives, and the loss of everything that one of the two daemons holds. Until the
    next drain has counted what the other holds, not a second loss.

What it cannot survive
    Both daemons losing the same vote between two drains.
"""

from functools import partial
from typing import Final

from harness.protocol import ticket
from harness.protocol.commands import Machine
from harness.protocol.once import guarded
from harness.protocol.queue import (
    Drained,
    Queue,
    Receipt,
    Terms,
    VotingProtocol,
    straight_to_database,
)

DAEMONS: Final = (0, 1)


def vote(queue: Queue, message: bytes, *, terms: Terms) -> Machine[Receipt]:
    """Queue the vote twice, or else have it counted at once.

    What the database refuses may lie in one queue all the same, and then be counted.
    """
    lies_somewhere = False
    for daemon in DAEMONS:
        receipt = yield from ticket.enqueue(queue.on(daemon), message, terms)
        if receipt is not Receipt.QUEUED:
            lies_somewhere |= receipt is Receipt.UNKNOWN
            stored = yield from straight_to_database(message, copy=True)
            refused = stored is Receipt.REFUSED
            return Receipt.UNKNOWN if refused and lies_somewhere else stored
        lies_somewhere = True
    return Receipt.QUEUED


def drain(queue: Queue, *, terms: Terms) -> Machine[Drained]:
    """Count what lies behind the heads of both queues; if only one answers, what lies in that.

    That is enough to call it empty: whatever was acknowledged lies in both, or is counted.
    """
    queues = [queue.on(daemon) for daemon in DAEMONS]
    first = yield from ticket.search(queues[0], terms)
    second = yield from ticket.search(queues[1], terms)
    if first.failure and second.failure:
        return Drained(first.failure)
    return (yield from ticket.count(queues, [first, second], copies=True))


def protocol(terms: Terms) -> VotingProtocol:
    """Nobody waits here, so patience has no meaning."""
    votes, drains = partial(vote, terms=terms), partial(drain, terms=terms)
    return guarded(VotingProtocol(votes, drains, daemons=len(DAEMONS)))
