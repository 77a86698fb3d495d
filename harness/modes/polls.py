"""Which polls there are, as one session of the site knows them.

Three places, each asked when the one before it does not know: the session's own memory, memcached,
and the database. So a vote costs no round trip for its poll, but one in some seconds.
"""

from time import monotonic
from typing import Final

import pymysql

from harness.cache import AfterWait, Json, NamespacedCache, WaitedInVain, Written, connect
from harness.database.link import Link
from harness.database.polls import find_poll, list_polls
from harness.modes.mode import Unavailable
from harness.vote import Poll

MEMORY_S: Final = 2.0  # of a session; it is not told of a change
FRESH_S: Final = 6  # in memcached
STALE_S: Final = 2  # longer, while one session asks the database
NOTICED_WITHIN_S: Final = MEMORY_S + FRESH_S + STALE_S
"""How late a session may notice that a poll was closed: so long, and longer only while the database
does not answer. `MEMORY_S` if whoever closed it has called `forget_poll` too."""
WAIT_S: Final = 0.1  # for another session's question; to ask for a poll takes less than 1 ms
MAX_POLLS: Final = 10_000  # a site has dozens; strangers' names are never kept
SEPARATOR: Final = "-"  # as in all keys of the queue
NAMESPACE: Final = "poll"
CODEC: Final = Json(Poll)


def polls_in(cache: NamespacedCache[bytes | str]) -> NamespacedCache[Poll]:
    """Where polls lie, in the cache of a queue's prefix."""
    return cache.namespace(NAMESPACE, codec=CODEC)


def forget_poll(daemons: str, prefix: str, name: str) -> Written:
    """Have memcached forget a poll that was changed or closed. Commit the change first.

    `daemons`: as given to the site; `prefix`: of its queue. `NOT_STORED` where it was not known, or
    memcached cannot be reached: then sessions notice within `NOTICED_WITHIN_S`.
    """
    first, _, _ = daemons.partition(",")
    cache = connect(first, prefix, separator=SEPARATOR)
    try:
        return polls_in(cache).delete(name)
    finally:
        cache.close()


class PollBook:
    """Polls, remembered; unknown names are asked for again each time.

    Strangers may ask for any name: neither here nor in memcached is anything kept for one that no
    poll has, or they could push the queue out of it.
    """

    def __init__(self, link: Link, cache: NamespacedCache[Poll] | None, lease_s: int) -> None:
        """Without a cache the database is asked. `lease_s`: longer than it may take to answer."""
        self._link = link
        self._cache = cache
        self._lease_s = lease_s
        self._known: dict[str, tuple[Poll, float]] = {}
        self._all: tuple[tuple[Poll, ...], float] | None = None

    def find(self, name: str) -> Poll | None:
        """The poll of that name; an old answer if nobody can give another just now.

        Raises Unavailable when there is no answer at all.
        """
        known, until_s = self._known.get(name, (None, 0.0))
        if known and monotonic() < until_s:
            return known
        try:
            found = self._look_up(name, is_known=known is not None)
        except (pymysql.MySQLError, WaitedInVain) as error:
            if known is None:
                raise Unavailable(str(error)) from error
            found = known
        if found is None:
            self._known.pop(name, None)
        elif known or len(self._known) < MAX_POLLS:
            self._known[name] = (found, monotonic() + MEMORY_S)
        return found

    def all(self) -> tuple[Poll, ...]:
        """All polls, open ones first; an old answer if the database gives none just now.

        Raises Unavailable when there is no answer at all.
        """
        polls, until_s = self._all or ((), 0.0)
        if self._all and monotonic() < until_s:
            return polls
        life_s = NOTICED_WITHIN_S
        try:
            polls = list_polls(self._link)
        except pymysql.MySQLError as error:
            if not self._all:
                raise Unavailable(str(error)) from error
            life_s = MEMORY_S  # or each page would cost a time-out, and votes wait for its session
        self._all = polls, monotonic() + life_s
        return polls

    def _look_up(self, name: str, *, is_known: bool) -> Poll | None:
        if self._cache is None:
            return find_poll(self._link, name)

        def ask() -> Poll:
            poll = find_poll(self._link, name)
            if poll is None:
                raise _NoSuchPoll
            return poll

        try:
            return self._cache.get_or_set(
                name,
                ask,
                ttl_s=FRESH_S,
                stale_s=STALE_S,
                lease_s=self._lease_s,
                # Who has an old answer goes on with that rather than wait.
                wait_s=0.0 if is_known else WAIT_S,
                after_wait=AfterWait.RAISE if is_known else AfterWait.CALCULATE,
            )
        except _NoSuchPoll:
            return None


class _NoSuchPoll(Exception):
    """Takes the placeholder out of memcached again, where a value would be kept."""
