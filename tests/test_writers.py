"""Real writer processes: what they were told is what the database holds, and a dead one is said."""

import os
import signal
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.orders import Voted
from bench.writers import MOST_WRITERS, Writers, fate, started_writers
from harness.database.schema import count_ballots
from harness.errors import ServiceError
from harness.history.journal import Role
from harness.history.store import collect_journal, quoted, reading

pytestmark = pytest.mark.services

SHORT_S = 0.5


@pytest.fixture(scope="module")
def pool() -> Iterator[Writers]:
    with started_writers() as started:
        yield started


def voted(votes: int, *not_acknowledged: int) -> Voted:
    return Voted(votes, not_acknowledged, 0, array("q"), 0, 0, 0, 0.0)


def test_two_writers_of_ticket_lose_nothing_and_all_is_counted(pool: Writers) -> None:
    result = pool.measure("ticket", 2, SHORT_S)
    assert (result.lost, result.doubled, result.takeovers, result.gave_up) == (0, 0, 0, 0)
    assert result.acknowledged == count_ballots(pool.database_url)
    in_time = round(result.votes_per_s * SHORT_S)
    assert 100 < in_time <= result.acknowledged - 2  # each had one before the start
    assert result.round_trips == pytest.approx(2, abs=0.01)
    assert 0 < result.p50_ms <= result.p99_ms


def test_a_queue_is_empty_and_daemons_are_fresh_at_every_start(pool: Writers) -> None:
    for mode in ("mirrored", "direct"):
        result = pool.measure(mode, 1, SHORT_S)
        assert result.lost == 0
        assert count_ballots(pool.database_url) == result.acknowledged


def test_what_was_acknowledged_and_is_not_there_is_lost(pool: Writers) -> None:
    result = pool.measure("direct", 1, SHORT_S)
    there = result.acknowledged
    assert fate(pool.database_url, [voted(there)]) == (0, 0)
    assert fate(pool.database_url, [voted(there + 3)]) == (3, 0)
    assert fate(pool.database_url, [voted(there + 3, there + 1)]) == (2, 0)
    assert fate(pool.database_url, [voted(there), voted(2, 0)]) == (1, 0)


def test_all_processes_leave_their_journals_if_asked_to(pool: Writers, tmp_path: Path) -> None:
    result = pool.measure("classic", 2, SHORT_S, tmp_path)
    journal = tmp_path / "journal.parquet"
    collect_journal(tmp_path, journal)
    with reading(journal) as connection:
        runs = connection.execute(
            f"SELECT role, count(DISTINCT (pid, operation)) FROM {quoted(journal)} GROUP BY role"
        ).fetchall()
    assert dict(runs) == {Role.SITE: result.acknowledged, Role.FLUSHER: result.drains}


def test_a_writer_that_has_died_is_said_and_leaves_no_process() -> None:
    with started_writers() as pool:
        pool.measure("ticket", 1, 0.1)
        pids = pool.pids
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(ServiceError, match="writer 1"):
            pool.measure("ticket", 1, 0.1)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_more_writers_than_the_pool_holds_are_no_measurement(pool: Writers) -> None:
    for writers in (0, MOST_WRITERS + 1):
        with pytest.raises(ValueError, match=f"not {writers}"):
            pool.measure("ticket", writers, SHORT_S)
