"""`cached`: votes as in `direct`; the results page reads totals through memcached.

Promise: an acknowledged vote is committed. Totals lag by at most their lifetime.
"""

from harness.modes.direct import Direct
from harness.plan import Plan


class Cached(Direct):
    """Votes go straight to the database, totals come from memcached."""

    name = "cached"

    def totals_life_s(self, plan: Plan) -> int:
        return plan.site.totals_ttl_s
