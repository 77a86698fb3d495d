"""`classic`: votes go into the post's queue on memcached; the flusher drains it.

Promise: none. Only when memcached cannot be reached at all do votes go to the database.
"""

from harness.modes.protocol_mode import ProtocolMode
from harness.protocol import classic
from harness.protocol.queue import Terms, VotingProtocol


class Classic(ProtocolMode):
    """Votes go into the post's queue."""

    name = "classic"

    def protocol(self, terms: Terms) -> VotingProtocol:
        return classic.protocol(terms)
