"""Totals as they lie in memcached: one JSON object per poll, on the first daemon."""

from time import time

import msgspec
import pymysql

from harness.cache.get_or_set import get_or_set
from harness.database.ballots import Ballots
from harness.modes.hands import Hands
from harness.modes.mode import Totals, TotalsUnavailable
from harness.plan import QueuePlan
from harness.protocol.commands import Status
from harness.vote import Poll


def totals_key(queue: QueuePlan, poll: str) -> str:
    """Under the queue's prefix, so that two sites on one memcached keep apart here too."""
    return f"{queue.prefix}-totals-{poll}"


def read_totals(hands: Hands, queue: QueuePlan, poll: Poll, life_s: int | None) -> Totals:
    """The poll's totals; what is not cached is counted and kept for `life_s` (0: for good).

    None counts them each time and asks no memcached. Raises TotalsUnavailable when they are not
    cached and the database does not answer.
    """
    try:
        if life_s is None:
            return _counted_now(hands.ballots, poll)
        key = totals_key(queue, poll.name)
        value = get_or_set(
            hands.clients[0],
            key,
            lambda: msgspec.json.encode(_counted_now(hands.ballots, poll)),
            life_s,
        )
        return msgspec.json.decode(value, type=Totals)
    except (pymysql.MySQLError, msgspec.MsgspecError) as error:
        raise TotalsUnavailable(str(error)) from error


def keep_totals(hands: Hands, queue: QueuePlan, poll: Poll) -> None:
    """Count the totals and keep them for good. Raises TotalsUnavailable."""
    try:
        totals = msgspec.json.encode(_counted_now(hands.ballots, poll))
    except pymysql.MySQLError as error:
        raise TotalsUnavailable(str(error)) from error
    kept = hands.clients[0].meta_set(totals_key(queue, poll.name), totals)
    if kept.status is not Status.OK:
        raise TotalsUnavailable(f"memcached did not take them ({kept.status.name.lower()})")


def _counted_now(ballots: Ballots, poll: Poll) -> Totals:
    return Totals(ballots.count(poll), time())
