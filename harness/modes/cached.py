"""`cached`: votes as in `direct`; the results page reads totals through memcached.

Promise: an acknowledged vote is committed. Totals lag by at most their lifetime.
"""

import math

from harness.cache.meta_client import MetaClient
from harness.history.journal import Journal
from harness.modes.direct import DirectSession
from harness.modes.mode import Totals
from harness.modes.totals import cached_totals
from harness.plan import Deployment
from harness.vote import Poll


class CachedSession(DirectSession):
    """One thread's database connection and memcached client."""

    def __init__(self, deployment: Deployment, journal: Journal | None) -> None:
        super().__init__(deployment, journal)
        plan = deployment.plan
        self._client = MetaClient(deployment.memcached[0], plan.memcached.timeout_s)
        # memcached counts lifetimes in whole seconds, and 1 may expire at once.
        self._ttl_s = max(2, math.ceil(plan.site.totals_ttl_s))

    def totals(self, poll: Poll) -> Totals:
        return cached_totals(self._client, self._ballots, poll, self._ttl_s)

    def close(self) -> None:
        super().close()
        self._client.close()


class Cached:
    """Votes go straight to the database, totals come from memcached."""

    name = "cached"
    promises = True
    queues = False

    def session(self, deployment: Deployment, journal: Journal | None) -> CachedSession:
        return CachedSession(deployment, journal)
