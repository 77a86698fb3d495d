"""What a session knows of polls, and how late it notices that one was closed."""

from collections.abc import Iterator
from contextlib import closing

import msgspec
import pymysql
import pytest
from pymemcache.client.base import Client

from harness.cache import NamespacedCache, Written
from harness.cache.meta_client import MetaClient
from harness.database import polls as database_polls
from harness.database.connections import connect
from harness.database.link import Link
from harness.deployment import Deployment
from harness.modes import polls
from harness.modes.mode import Unavailable
from harness.modes.polls import (
    FRESH_S,
    MEMORY_S,
    NOTICED_WITHIN_S,
    STALE_S,
    PollBook,
    forget_poll,
    polls_in,
)
from harness.services.memcached import MemcachedServer
from harness.vote import Poll
from tests.curt_server import nobody
from tests.deployed import PLAN, POLL, session, vote

KEY = f"{PLAN.queue.prefix}-poll-{POLL.name}"


class Database:
    """In the place of the one behind `find_poll` and `list_polls`."""

    def __init__(self) -> None:
        self.polls = {POLL.name: POLL}
        self.asked = 0
        self.down = False

    def find(self, _link: Link, name: str) -> Poll | None:
        self._answer()
        return self.polls.get(name)

    def list(self, _link: Link) -> tuple[Poll, ...]:
        self._answer()
        return tuple(self.polls.values())

    def _answer(self) -> None:
        self.asked += 1
        if self.down:
            raise pymysql.OperationalError(2003, "down")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(polls, "find_poll", database.find)
    monkeypatch.setattr(polls, "list_polls", database.list)
    return database


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [1000.0]
    monkeypatch.setattr(polls, "monotonic", lambda: now_s[0])
    return now_s


@pytest.fixture
def cache(memcached: MemcachedServer) -> Iterator[NamespacedCache[Poll]]:
    memcached.wipe()
    client = MetaClient(memcached.address, 1.0)
    with closing(NamespacedCache(client, PLAN.queue.prefix, separator="-")) as cache:
        yield polls_in(cache)


def book(cache: NamespacedCache[Poll] | None) -> PollBook:
    return PollBook(Link("mysql://u@h/n", 1.0), cache, lease_s=60)


def test_the_delay_with_which_a_closing_is_noticed_is_what_its_parts_come_to() -> None:
    assert MEMORY_S <= 2
    assert NOTICED_WITHIN_S == MEMORY_S + FRESH_S + STALE_S == 10


def test_a_vote_asks_nobody_for_its_poll_while_the_session_remembers_it(
    database: Database, clock: list[float]
) -> None:
    known = book(None)
    assert [known.find(POLL.name) for _ in range(10)] == [POLL] * 10
    assert database.asked == 1
    database.polls[POLL.name] = closed = POLL._replace(closed=True)
    clock[0] += MEMORY_S
    assert known.find(POLL.name) == closed
    assert [known.find("no-such-poll") for _ in range(3)] == [None] * 3
    assert database.asked == 5


def test_while_nobody_answers_an_old_poll_is_good_enough_and_is_rarely_asked_for(
    database: Database, clock: list[float]
) -> None:
    known = book(None)
    known.find(POLL.name)
    database.down = True
    clock[0] += MEMORY_S
    assert [known.find(POLL.name) for _ in range(10)] == [POLL] * 10
    assert database.asked == 2
    with pytest.raises(Unavailable):
        known.find("another")


def test_the_list_is_remembered_and_an_old_one_is_good_enough_while_nobody_answers(
    database: Database, clock: list[float]
) -> None:
    known = book(None)
    assert [known.all() for _ in range(10)] == [(POLL,)] * 10
    assert database.asked == 1
    closed = POLL._replace(closed=True)
    database.polls[POLL.name] = closed
    clock[0] += NOTICED_WITHIN_S
    database.down = True
    assert [known.all() for _ in range(10)] == [(POLL,)] * 10
    assert database.asked == 2
    clock[0] += MEMORY_S
    database.down = False
    assert known.all() == (closed,)
    database.down = True
    with pytest.raises(Unavailable):
        book(None).all()


@pytest.mark.services
def test_a_session_that_knows_nothing_learns_from_memcached_what_another_has_asked(
    database: Database, cache: NamespacedCache[Poll]
) -> None:
    once = POLL._replace(once=True)
    database.polls[POLL.name] = once
    assert book(cache).find(POLL.name) == once
    database.down = True
    assert book(cache).find(POLL.name) == once
    assert database.asked == 1
    # Without memcached it asks the database.
    database.down = False
    alone = NamespacedCache(Client(nobody(), timeout=0.2), PLAN.queue.prefix, separator="-")
    assert book(polls_in(alone)).find(POLL.name) == once


@pytest.mark.services
def test_whoever_closes_a_poll_has_memcached_forget_it(
    database: Database,
    cache: NamespacedCache[Poll],
    clock: list[float],
    memcached: MemcachedServer,
) -> None:
    known = book(cache)
    known.find(POLL.name)
    database.polls[POLL.name] = closed = POLL._replace(closed=True)
    clock[0] += MEMORY_S
    assert known.find(POLL.name) == POLL  # memcached does not know yet
    several = f"{memcached.address},{nobody()}"
    assert forget_poll(several, PLAN.queue.prefix, POLL.name) is Written.STORED
    clock[0] += MEMORY_S
    assert known.find(POLL.name) == closed
    assert forget_poll(nobody(), PLAN.queue.prefix, POLL.name) is Written.NOT_STORED


@pytest.mark.services
def test_nothing_is_kept_for_names_that_no_poll_has(
    database: Database, cache: NamespacedCache[Poll], memcached: MemcachedServer
) -> None:
    known = book(cache)
    with closing(Client(memcached.address, timeout=1.0)) as raw:
        before = raw.stats()[b"curr_items"]  # what was wiped may still be among them
        for number in range(20):
            assert known.find(f"guess-{number}") is None
        assert raw.stats()[b"curr_items"] <= before
    assert database.asked == 20


@pytest.mark.services
def test_who_knows_a_poll_does_not_wait_for_one_who_asks_the_database(
    database: Database,
    cache: NamespacedCache[Poll],
    clock: list[float],
    memcached: MemcachedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    naps_s: list[float] = []
    monkeypatch.setattr("harness.cache.get_or_set.sleep", naps_s.append)
    known = book(cache)
    known.find(POLL.name)
    memcached.wipe()
    with closing(Client(memcached.address, timeout=1.0)) as raw:
        raw.raw_command(f"mg {KEY} N60")  # somebody asks, and the database stands still
    clock[0] += MEMORY_S
    assert known.find(POLL.name) == POLL
    assert (database.asked, naps_s) == (1, [])
    assert book(cache).find(POLL.name) == POLL  # a newcomer waits a little, and asks too
    assert database.asked == 2
    assert naps_s


@pytest.mark.services
@pytest.mark.parametrize("mode", ["direct", "cached", "classic", "ticket"])
def test_only_direct_asks_no_memcached_for_polls(
    deployment: Deployment, memcached: MemcachedServer, mode: str
) -> None:
    deployment = msgspec.structs.replace(deployment, mode=mode)
    with session(deployment, mode) as site, closing(Client(memcached.address)) as raw:
        site.find_poll(POLL.name)
        assert (raw.get(KEY) is None) is (mode == "direct")
        before = raw.stats()[b"cmd_get"]
        for _ in range(5):
            site.find_poll(POLL.name)
        assert raw.stats()[b"cmd_get"] == before
        site.accept(vote(1))
        with closing(connect(deployment.database, 5.0)) as connection:
            with connection.cursor() as cursor:
                database_polls.close(cursor, POLL.name)
            connection.commit()
        forget_poll(memcached.address, PLAN.queue.prefix, POLL.name)
    with session(deployment, mode) as site:
        found = site.find_poll(POLL.name)
        assert found
        assert found.closed
