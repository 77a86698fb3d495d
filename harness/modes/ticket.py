"""`ticket`: a queue on memcached without a lock; any number of flushers drain it.

Promise: an acknowledged vote that memcached keeps is counted. A wipe is memcached's own loss.
"""

from harness.modes.protocol_mode import ProtocolMode
from harness.protocol import ticket
from harness.protocol.queue import Terms, VotingProtocol


class Ticket(ProtocolMode):
    """Votes draw a number and fill the slot of that number."""

    name = "ticket"
    promises = True
    excuses = ("wipe",)
    breakers = True

    def protocol(self, terms: Terms) -> VotingProtocol:
        return ticket.protocol(terms)
