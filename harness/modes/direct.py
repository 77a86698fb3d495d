"""`direct`: one INSERT and a commit per vote; the results page counts the ballots, as ever.

Promise: an acknowledged vote is committed. Of a voter who has one vote only, the database's key
alone says whether this is it.
"""

from harness.modes.protocol_mode import ProtocolMode
from harness.protocol import direct
from harness.protocol.queue import Terms, VotingProtocol


class Direct(ProtocolMode):
    """Votes go straight to the database."""

    name = "direct"
    promises = True

    def protocol(self, terms: Terms) -> VotingProtocol:
        return direct.protocol(terms)
