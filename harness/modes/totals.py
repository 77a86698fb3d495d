"""Totals as they lie in memcached: one JSON object per poll."""

from time import time

import msgspec
import pymysql
from pymemcache.client.base import Client

from harness.cache.get_or_set import get_or_set
from harness.database.ballots import Ballots
from harness.modes.mode import Totals, TotalsUnavailable
from harness.plan import QueuePlan
from harness.vote import Poll


def totals_key(queue: QueuePlan, poll: str) -> str:
    """Under the queue's prefix, so that two sites on one memcached keep apart here too."""
    return f"{queue.prefix}-totals-{poll}"


def counted_now(ballots: Ballots, poll: Poll) -> bytes:
    """The totals counted in SQL, as they are to lie in memcached. Raises pymysql.MySQLError."""
    return msgspec.json.encode(Totals(ballots.count(poll), time()))


def cached_totals(client: Client, ballots: Ballots, key: str, poll: Poll, ttl_s: int) -> Totals:
    """The poll's totals at `key`; on a miss they are counted and kept for `ttl_s` (0: for good).

    Raises TotalsUnavailable when they are not cached and the database does not answer.
    """
    try:
        value = get_or_set(client, key, lambda: counted_now(ballots, poll), ttl_s)
        return msgspec.json.decode(value, type=Totals)
    except (pymysql.MySQLError, msgspec.MsgspecError) as error:
        raise TotalsUnavailable(str(error)) from error
