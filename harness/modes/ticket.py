"""`ticket`: a queue on memcached without a lock; any number of flushers drain it.

Promise: an acknowledged vote is counted, unless a fault makes memcached forget it: a wipe, the end
of its process, a squeeze of its memory. What memcached evicts without one is no excuse: it had
too little memory. On several daemons with rehashing a key has no certain place, and there is no
promise.
"""

from harness.modes.protocol_mode import ProtocolMode
from harness.protocol import ticket
from harness.protocol.queue import Terms, VotingProtocol


class Ticket(ProtocolMode):
    """Votes draw a number and fill the slot of that number."""

    name = "ticket"
    promises = True
    excuses = ("wipe", "squeeze")
    breakers = True

    def protocol(self, terms: Terms) -> VotingProtocol:
        return ticket.protocol(terms)
