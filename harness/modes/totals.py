"""Totals as they lie in memcached: one JSON object per poll."""

from time import time

import msgspec
import pymysql
from pymemcache.client.base import Client

from harness.cache.get_or_set import get_or_set
from harness.database.ballots import Ballots
from harness.modes.mode import Totals, TotalsUnavailable
from harness.vote import Poll


def totals_key(poll: str) -> str:
    return f"poll-totals-{poll}"


def counted_now(ballots: Ballots, poll: Poll) -> bytes:
    """The totals counted in SQL, as they are to lie in memcached. Raises pymysql.MySQLError."""
    return msgspec.json.encode(Totals(ballots.count(poll), time()))


def cached_totals(client: Client, ballots: Ballots, poll: Poll, ttl_s: int) -> Totals:
    """The totals in memcached; on a miss they are counted and kept for `ttl_s` (0: for good).

    Raises TotalsUnavailable when they are not cached and the database does not answer.
    """
    try:
        value = get_or_set(client, totals_key(poll.name), lambda: counted_now(ballots, poll), ttl_s)
        return msgspec.json.decode(value, type=Totals)
    except (pymysql.MySQLError, msgspec.MsgspecError) as error:
        raise TotalsUnavailable(str(error)) from error
