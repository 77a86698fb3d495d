"""`cached`: votes as in `direct`; the results page reads totals through memcached.

Promise: an acknowledged vote is committed. Totals lag by at most their lifetime. A voter who has
one vote only and comes again is told so by memcached, as long as that knows.
"""

from harness.modes.direct import Direct
from harness.plan import Plan
from harness.protocol.once import guarded
from harness.protocol.queue import Terms, VotingProtocol


class Cached(Direct):
    """Votes go straight to the database, totals come from memcached."""

    name = "cached"

    def protocol(self, terms: Terms) -> VotingProtocol:
        return guarded(super().protocol(terms))

    def totals_life_s(self, plan: Plan) -> int:
        return plan.site.totals_ttl_s
