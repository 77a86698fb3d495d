"""`mirrored`: each vote lies in a `ticket` queue on either of two memcached daemons.

Promise: an acknowledged vote is counted as long as one of the two daemons keeps it. So a wipe of
one, which is what the fault does, is no excuse.
"""

from harness.modes.protocol_mode import ProtocolMode
from harness.protocol import mirrored
from harness.protocol.queue import Terms, VotingProtocol


class Mirrored(ProtocolMode):
    """Votes are queued twice."""

    name = "mirrored"
    promises = True
    breakers = True

    def protocol(self, terms: Terms) -> VotingProtocol:
        return mirrored.protocol(terms)
