"""What all queue modes do alike, and where they differ, on real memcached and MariaDB."""

import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from harness.armed import ArmedPage
from harness.cache.breaker import OPEN_S, breaker_of
from harness.database import polls, schema
from harness.database.ballots import Ballots
from harness.deployment import Deployment
from harness.errors import Exit
from harness.fault import Fault
from harness.faults.timetable import Timetable
from harness.modes.hands import ARMED_PAGE
from harness.modes.mode import Answer, Unavailable, find_mode
from harness.plan import MemcachedPlan
from harness.protocol.commands import Command, InsertBallots, Reply
from harness.protocol.queue import DrainEnd
from harness.services.memcached import MemcachedServer
from harness.vote import Poll
from tests.deployed import PLAN, POLL, await_hit, counted, flush, reach, session, vote, voter

pytestmark = pytest.mark.services

TIMEOUT_S = 0.3
OTHER = Poll("other-poll", "And the church?", ("Yes", "No"))
QUEUED = ("classic", "owned", "ticket", "mirrored")


@pytest.mark.parametrize("mode", QUEUED)
def test_every_queue_takes_votes_of_two_polls_that_its_flusher_counts_once(
    two_daemons: Deployment, mode: str
):
    """And whose totals agree with the ballots then, whatever the results pages had shown before."""
    schema.create(two_daemons.database, OTHER)
    with session(two_daemons, mode) as site:
        for number in range(5):
            assert site.accept(vote(number, choice=2)) is Answer.QUEUED
        for number in range(5, 8):
            assert site.accept(vote(number)._replace(poll=OTHER.name)) is Answer.QUEUED
        assert counted(two_daemons) == {}
        assert site.totals(POLL).counts == (0, 0, 0)
        assert site.totals(OTHER).counts == (0, 0)
        assert flush(two_daemons, mode) == Exit.OK
        assert counted(two_daemons) == {vote(n).vote_id: 1 for n in range(8)}
        assert site.totals(POLL).counts == (0, 5, 0)
        assert site.totals(OTHER).counts == (3, 0)


def test_a_flusher_that_counted_earlier_does_not_overwrite_totals_of_one_that_counted_later(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    count = Ballots.count
    with (
        session(deployment, "cached") as site,
        closing(find_mode("classic").drain(deployment, None)) as first,
        closing(find_mode("classic").drain(deployment, None)) as second,
    ):

        def slow(ballots: Ballots, poll: Poll) -> tuple[int, ...]:
            counts = count(ballots, poll)
            monkeypatch.setattr(Ballots, "count", count)
            site.accept(vote(1))
            second.refresh_totals(POLL.name)
            return counts

        monkeypatch.setattr(Ballots, "count", slow)
        first.refresh_totals(POLL.name)
        first.refresh_totals("no-such-poll")
        assert set(first.polls()) == {POLL.name}
        with session(deployment, "classic") as reader:
            assert reader.totals(POLL).counts == (1, 0, 0)


def test_a_flusher_knows_polls_that_no_page_has_room_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    schema.create(deployment.database, OTHER)
    monkeypatch.setattr(polls, "MOST_LISTED", 1)
    with closing(find_mode("classic").drain(deployment, None)) as drain:
        assert set(drain.polls()) == {POLL.name, OTHER.name}


def test_totals_that_memcached_does_not_take_are_not_called_kept(deployment: Deployment):
    gone = msgspec.structs.replace(deployment, memcached=("127.0.0.1:1",))
    with (
        closing(find_mode("classic").drain(gone, None)) as drain,
        pytest.raises(Unavailable, match=r"memcached did not take them \(not stored\)"),
    ):
        drain.refresh_totals(POLL.name)


def test_of_many_pages_that_find_no_totals_one_has_them_counted(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    count = Ballots.count
    counts: list[Poll] = []

    def slow(ballots: Ballots, poll: Poll) -> tuple[int, ...]:
        counts.append(poll)
        time.sleep(0.05)
        return count(ballots, poll)

    monkeypatch.setattr(Ballots, "count", slow)
    pages: list[tuple[int, ...]] = []

    def page() -> None:
        with session(deployment, "cached") as site:
            pages.append(site.totals(POLL).counts)

    threads = [threading.Thread(target=page) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert pages == [(0, 0, 0)] * 8
    assert len(counts) == 1


@pytest.mark.parametrize("mode", QUEUED)
def test_without_memcached_every_queue_lets_votes_go_to_the_database(
    deployment: Deployment, mode: str
):
    gone = msgspec.structs.replace(deployment, memcached=("127.0.0.1:1", "127.0.0.1:2"))
    with session(gone, mode) as site:
        assert site.accept(vote(1)) is Answer.STORED
    assert counted(deployment) == {vote(1).vote_id: 1}


def test_a_memcached_that_stands_still_costs_one_time_out_and_not_one_per_results_page(
    deployment: Deployment, memcached: MemcachedServer
):
    """The pages are asked for by the threads that take votes in."""
    hasty = msgspec.structs.replace(PLAN, memcached=MemcachedPlan(timeout_s=TIMEOUT_S))
    deployment = msgspec.structs.replace(deployment, plan=hasty)
    with session(deployment, "ticket") as site:
        assert site.totals(POLL).counts == (0, 0, 0)
        os.kill(memcached.child.pid, signal.SIGSTOP)
        try:
            begin_s = time.monotonic()
            site.accept(vote(1))
            pages = [site.totals(POLL).counts for _ in range(10)]
            took_s = time.monotonic() - begin_s
        finally:
            os.kill(memcached.child.pid, signal.SIGCONT)
        assert pages == [(1, 0, 0)] * 10  # counted, not the old ones
        assert took_s < 3 * TIMEOUT_S
        time.sleep(OPEN_S)
        site.totals(POLL)
    assert not breaker_of(memcached.address, TIMEOUT_S).is_open


@pytest.mark.parametrize(("mode", "left"), [("ticket", 0), ("mirrored", 5)])
def test_what_a_wipe_of_the_first_daemon_leaves(
    two_daemons: Deployment, memcached: MemcachedServer, mode: str, left: int
):
    with session(two_daemons, mode) as site:
        for number in range(5):
            site.accept(vote(number))
        memcached.wipe()
        assert site.accept(vote(5)) is Answer.QUEUED  # in a new epoch
    assert flush(two_daemons, mode) == Exit.OK
    assert len(counted(two_daemons)) == left + 1
    assert set(counted(two_daemons).values()) == {1}


@pytest.mark.parametrize("mode", ["ticket", "mirrored"])
def test_two_drains_side_by_side_count_each_vote_once(two_daemons: Deployment, mode: str):
    """One is between reading the slots and committing when the other comes by."""
    with session(two_daemons, mode) as site:
        for number in range(50):
            site.accept(vote(number))
    with (
        closing(find_mode(mode).drain(two_daemons, None)) as first,
        closing(find_mode(mode).drain(two_daemons, None)) as second,
    ):
        meanwhile: list[DrainEnd] = []
        execute = first._hands.execute  # type: ignore[attr-defined]

        def interrupted(command: Command) -> Reply:
            if isinstance(command, InsertBallots):
                meanwhile.append(second.drain(0).end)
            return execute(command)

        first._hands.execute = interrupted  # type: ignore[attr-defined]
        assert first.drain(0).end is DrainEnd.OVERTAKEN
        assert meanwhile == [DrainEnd.COMMITTED]
        assert second.drain(0).end is DrainEnd.EMPTY
    assert counted(two_daemons) == {vote(n).vote_id: 1 for n in range(50)}


def test_a_paused_ticket_holder_holds_nobody_up_and_its_vote_is_counted(
    deployment: Deployment, memcached: MemcachedServer, tmp_path: Path
):
    page = ArmedPage.create(tmp_path / ARMED_PAGE)
    fault = Fault(kind="pause", target="lock-holder", at_s=0.0, for_s=1.5)
    timetable = Timetable((fault,), reach(deployment, page, memcached))
    timetable.begin(time.monotonic_ns())
    holder = voter(deployment, "ticket", tmp_path)
    await_hit(page)
    with session(deployment, "ticket") as site:
        assert site.accept(vote(2)) is Answer.QUEUED
    assert flush(deployment, "ticket") == Exit.OK  # it closes the slot of the one who stands still
    assert counted(deployment) == {vote(2).vote_id: 1}
    answer, _ = holder.communicate(timeout=10)
    (record,) = timetable.heal()
    assert answer == b"QUEUED\n"  # with another ticket
    assert (record.hit, record.target) == (True, "ticket-holder")
    assert "no lock is held" in record.detail
    assert flush(deployment, "ticket") == Exit.OK
    assert counted(deployment) == {vote(1).vote_id: 1, vote(2).vote_id: 1}
    assert page.steps[: 3 << 8] == bytes(3 << 8)  # nothing stays armed


def test_a_flusher_of_a_mode_without_a_queue_waits_to_be_ended(deployment: Deployment):
    assert flush(deployment, "direct") == Exit.OK
