"""No queue at all: each vote is committed in the database before its voter is told so.

Theory of operation
    One statement inserts the vote and commits. The vote's id is the table's primary key, so that
    a voter who asks twice is counted once.

Invariant
    An acknowledged vote is committed.

What it survives
    Everything that the database survives; memcached has no part in it.

What it cannot
    Be quicker than a commit.
"""

from harness.protocol.commands import Machine
from harness.protocol.queue import Queue, Receipt, Terms, VotingProtocol, straight_to_database


def vote(_queue: Queue, message: bytes) -> Machine[Receipt]:
    """Insert the vote."""
    return (yield from straight_to_database(message))


def protocol(_terms: Terms) -> VotingProtocol:
    """The same under all terms."""
    return VotingProtocol(vote, needs_memcached=False)
