"""`cached`: votes as in `direct`; the results page reads totals through memcached.

Promise: an acknowledged vote is committed. Totals lag by at most their lifetime.
"""

from harness.cache.meta_client import MetaClient
from harness.history.journal import Journal
from harness.modes.direct import DirectSession
from harness.modes.mode import Totals
from harness.modes.totals import cached_totals, totals_key
from harness.plan import Deployment
from harness.vote import Poll


class CachedSession(DirectSession):
    """One thread's database connection and memcached client."""

    def __init__(self, deployment: Deployment, journal: Journal | None) -> None:
        super().__init__(deployment, journal)
        plan = deployment.plan
        self._client = MetaClient(deployment.memcached[0], plan.memcached.timeout_s)
        self._plan = plan

    def totals(self, poll: Poll) -> Totals:
        key = totals_key(self._plan.queue, poll.name)
        return cached_totals(self._client, self._ballots, key, poll, self._plan.site.totals_ttl_s)

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
