"""Totals as they lie in memcached: one JSON array per poll, on the first daemon."""

from time import time
from typing import Final

import pymysql

from harness.cache import AfterWait, Json, WaitedInVain
from harness.cache.get_or_set import Waiting
from harness.database.ballots import Ballots
from harness.modes.hands import Hands, calculation_s
from harness.modes.mode import Totals, Unavailable
from harness.plan import Plan
from harness.vote import Poll

NAMESPACE: Final = "totals"
CODEC: Final = Json(Totals)
STALE_S: Final = 1
"""Of the time that totals may be old: in its last second one page has them counted anew, and all
others get the old ones. memcached's clock knows nothing shorter."""


class KeptTotals:
    """The totals of polls, as one session or flusher reads and keeps them."""

    def __init__(self, hands: Hands, plan: Plan) -> None:
        self._ballots = hands.ballots
        cache = hands.cache
        self._cache = None if cache is None else cache.namespace(NAMESPACE, codec=CODEC)
        # Nobody counts for longer than the database may take; who has waited so long counts not.
        self._waiting: Waiting = {
            "lease_s": calculation_s(plan),
            "wait_s": plan.database.timeout_s,
            "after_wait": AfterWait.RAISE,
        }

    def read(self, poll: Poll, life_s: int | None) -> Totals:
        """The poll's totals; what is not cached is counted, and kept for `life_s` (0: for good).

        Of all pages that find none only one has them counted. None counts them for each page, and
        asks no memcached. Raises Unavailable when they are not cached and the database does
        not answer.
        """
        try:
            if life_s is None or self._cache is None:
                return _counted_now(self._ballots, poll)
            stale_s = STALE_S if life_s else 0
            totals = self._cache.get_or_set(
                poll.name,
                lambda: _counted_now(self._ballots, poll),
                ttl_s=life_s - stale_s,
                stale_s=stale_s,
                **self._waiting,
            )
            if len(totals.counts) != len(poll.choices):  # of the poll as it was, before a change
                return _counted_now(self._ballots, poll)
            return totals
        except (pymysql.MySQLError, WaitedInVain) as error:
            raise Unavailable(str(error)) from error

    def refresh(self, poll: Poll) -> None:
        """Count them and keep them for good, unless somebody has begun to count later.

        Any number of flushers may do that at one time. Raises Unavailable when memcached may
        hold older ones than of this call.
        """
        assert self._cache is not None, "whoever drains has a queue in memcached"
        try:
            kept = self._cache.refresh(
                poll.name, lambda: _counted_now(self._ballots, poll), ttl_s=0, **self._waiting
            )
        except pymysql.MySQLError as error:
            raise Unavailable(str(error)) from error
        if not kept:
            raise Unavailable(f"memcached did not take them ({kept.value})")


def _counted_now(ballots: Ballots, poll: Poll) -> Totals:
    as_of_s = time()  # before: a ballot that comes while they are counted may be missing
    return Totals(ballots.count(poll), as_of_s)
