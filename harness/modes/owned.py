"""`owned`: the post's queue under a lock that has an owner and a lifetime.

Promise: none. A holder that stands still for longer than its lock lives goes on as if it still
held it, and no deployment can rule such a stall out. What is lost then was acknowledged.
"""

from harness.modes.protocol_mode import ProtocolMode
from harness.protocol import owned
from harness.protocol.queue import Terms, VotingProtocol


class Owned(ProtocolMode):
    """Votes go into the queue of `classic`, whose lock nobody takes over."""

    name = "owned"

    def protocol(self, terms: Terms) -> VotingProtocol:
        return owned.protocol(terms)
