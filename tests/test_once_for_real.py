"""One voter, one vote, on real memcached and MariaDB: races, retries, wipes, several flushers."""

import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import pandas as pd
import pytest

from harness.database import schema
from harness.database.ballots import Ballots, Delivery, read_ballots
from harness.database.link import Link
from harness.database.voters import read_rejections
from harness.deployment import Deployment
from harness.modes.mode import Answer, find_mode
from harness.protocol.queue import DrainEnd
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer
from harness.vote import Vote, mint
from tests.deployed import PLAN, POLL, session
from tests.stuffers import MODES, VOTERS, deployed, vote

pytestmark = pytest.mark.services

PROCESSES = (1, 2, 3)
TAKEN_IN = ("STORED", "QUEUED")
STARTED_S = 30.0  # a Python on a busy machine


def drain(deployment: Deployment) -> None:
    """Until the queue is empty."""
    mode = find_mode(deployment.mode)
    if mode.queues:
        with closing(mode.drain(deployment, None)) as flusher:
            while flusher.drain(0).end is not DrainEnd.EMPTY:
                pass


def ballots(deployment: Deployment) -> dict[int, int]:
    """Vote → deliveries."""
    frame = read_ballots(deployment.database, 5.0)
    return dict(zip(frame["vote"].tolist(), frame["deliveries"].tolist(), strict=True))


def rejected(deployment: Deployment) -> list[int]:
    return sorted(read_rejections(deployment.database, 5.0)["vote"].tolist())


class Race(NamedTuple):
    """What each process was told in each mode about each voter, and what is counted."""

    told: list[dict[str, list[str]]]
    ballots: pd.DataFrame
    rejections: pd.DataFrame


@pytest.fixture(scope="module")
def race(
    memcached: MemcachedServer,
    mirror: MemcachedServer,
    mariadb: MariadbServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Race:
    """All modes, one after the other, by the same processes, on a warm memcached."""
    memcached.wipe()
    mirror.wipe()
    schema.create(mariadb.url, POLL)
    folder = tmp_path_factory.mktemp("race")
    deployment = Deployment(
        plan=PLAN,
        mode="direct",
        memcached=(memcached.address, mirror.address),
        database=mariadb.url,
        folder=str(folder),
    )
    deployment.write(folder / "deployment.json")
    for mode in MODES:
        with session(deployed(deployment, mode), mode) as first:
            first.accept(Vote(mint(9, MODES.index(mode)), POLL.name, 1, "v"))
        drain(deployed(deployment, mode))
    told = run(folder / "deployment.json")
    for mode in MODES:
        drain(deployed(deployment, mode))
    found = Race(told, read_ballots(mariadb.url, 5.0), read_rejections(mariadb.url, 5.0))
    schema.drop(mariadb.url)
    return found


def run(path: Path) -> list[dict[str, list[str]]]:
    """Start the processes, give all one start, and hear what they were told."""
    command = [sys.executable, "-m", "tests.stuffers", str(path)]
    stuffers = [
        subprocess.Popen(
            [*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in PROCESSES
    ]
    try:
        for stuffer in stuffers:
            assert stuffer.stdout
            assert stuffer.stdout.readline() == "ready\n"
        start_s = time.monotonic() + 0.1
        return [
            json.loads(stuffer.communicate(f"{start_s}\n", timeout=STARTED_S)[0])
            for stuffer in stuffers
        ]
    finally:
        for stuffer in stuffers:
            stuffer.kill()
            stuffer.wait()


@pytest.mark.parametrize("mode", MODES)
def test_of_votes_that_race_from_several_processes_one_is_taken_in_and_counted(
    race: Race, mode: str
):
    counted = race.ballots[race.ballots["poll"] == f"poll-{mode}"]
    assert counted["voter"].is_unique
    assert len(counted) == VOTERS
    by_vote = set(counted["vote"].tolist())
    for voter in range(VOTERS):
        answers = {p: told[mode][voter] for p, told in zip(PROCESSES, race.told, strict=True)}
        assert sorted(answers.values())[:2] == ["ALREADY_VOTED"] * 2, answers
        (winner,) = [process for process, answer in answers.items() if answer in TAKEN_IN]
        assert vote(winner, mode, voter).vote_id in by_vote
    assert race.rejections.empty


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_is_taken_in_and_a_second_vote_is_found_at_the_door_or_when_counted(
    two_daemons: Deployment, memcached: MemcachedServer, mirror: MemcachedServer, mode: str
):
    """The second vote comes three times: while the key is there, after a wipe, and once more."""
    here = deployed(two_daemons, mode)
    queues = find_mode(mode).queues
    taken_in = Answer.QUEUED if queues else Answer.STORED
    first, second = vote(1, mode, 0), vote(2, mode, 0)
    with session(here, mode) as site:
        assert site.accept(first) is taken_in
        assert site.accept(first) is taken_in
        drain(here)
        assert site.accept(second) is Answer.ALREADY_VOTED
        assert site.accept(first) is taken_in
        memcached.wipe()
        mirror.wipe()
        late = taken_in if queues else Answer.ALREADY_VOTED
        for _ in range(2):
            assert site.accept(second) is late
            drain(here)
        assert rejected(here) == ([second.vote_id] if queues else [])
        if not queues:  # nothing says that it was the second that counts
            assert site.accept(first) is Answer.STORED
    assert set(ballots(here)) == {first.vote_id}


@pytest.mark.parametrize("mode", MODES)
def test_without_memcached_the_database_tells_at_the_door(two_daemons: Deployment, mode: str):
    nothing = ("127.0.0.1:1", "127.0.0.1:1")
    alone = msgspec.structs.replace(deployed(two_daemons, mode), memcached=nothing)
    with session(alone, mode) as site:
        assert site.accept(vote(1, mode, 0)) is Answer.STORED
        assert site.accept(vote(2, mode, 0)) is Answer.ALREADY_VOTED
        assert site.accept(vote(1, mode, 0)) is Answer.STORED
        assert site.accept(vote(1, mode, 0)._replace(choice=2)) is Answer.CONFLICT


def deadlocks(url: str) -> int:
    ((_, number),) = Link(url, 5.0).select("SHOW GLOBAL STATUS LIKE %s", "Innodb_deadlocks")
    return int(number)


def test_flushers_with_the_same_voters_wait_for_each_other_and_never_for_ever(
    deployment: Deployment,
):
    """Two batches in opposite orders, again and again, and single votes between them."""
    url, voters, rounds = deployment.database, 60, 8
    before = deadlocks(url)
    ends: list[Delivery] = []
    start = threading.Barrier(3)

    def count(process: int) -> None:
        with closing(Ballots(url, 5.0, None)) as mine:
            for number in range(rounds):
                order = range(voters) if process == 1 else reversed(range(voters))
                poll = f"round-{number}"
                votes = [
                    Vote(mint(process, number * voters + n), poll, 1, f"v{n}", once=True)
                    for n in order
                ]
                start.wait()
                if process == 3:
                    mine.insert(votes[0])
                else:
                    ends.append(mine.insert_batch(votes, rows_per_statement=25))

    threads = [threading.Thread(target=count, args=(process,)) for process in PROCESSES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [Delivery.COUNTED] * (2 * rounds)
    counted = read_ballots(url, 5.0)
    assert len(counted) == voters * rounds
    assert not counted.duplicated(["poll", "voter"]).any()
    batches = 2 * voters * rounds
    by_themselves = counted["vote"].ge(mint(3, 0)).sum()
    assert len(rejected(deployment)) == batches - (len(counted) - by_themselves)
    assert deadlocks(url) == before


def test_a_batch_may_hold_votes_of_both_kinds_of_poll(deployment: Deployment):
    only = [Vote(mint(1, n), "once", 1, "v", once=True) for n in range(3)]
    many = [Vote(mint(2, n), "many", 1, "v") for n in range(3)]
    batch = [many[0], only[1], only[0], many[1], only[1], many[2], many[2]]
    with closing(Ballots(deployment.database, 5.0, None)) as mine:
        assert mine.insert_batch(batch, rows_per_statement=2) is Delivery.COUNTED
        assert mine.insert_batch([only[2], only[0]], 2, copies=True) is Delivery.COUNTED
    assert ballots(deployment) == {
        many[0].vote_id: 1,
        many[1].vote_id: 1,
        many[2].vote_id: 2,
        only[1].vote_id: 2,
    }
    assert rejected(deployment) == [only[0].vote_id, only[2].vote_id]


def test_a_voter_whose_vote_conflicts_is_not_counted_for_it(deployment: Deployment):
    """Somebody else's id with another choice: neither a ballot nor a row for the voter."""
    theirs = Vote(mint(1, 1), "once", 1, "v1", once=True)
    with closing(Ballots(deployment.database, 5.0, None)) as mine:
        assert mine.insert(theirs) is Delivery.COUNTED
        assert mine.insert(theirs._replace(voter="v2", choice=2)) is Delivery.CONFLICT
        own = Vote(mint(1, 2), "once", 2, "v2", once=True)
        assert mine.insert(own) is Delivery.COUNTED
        assert mine.insert(own, copy=True) is Delivery.COUNTED
        assert mine.insert(theirs._replace(vote_id=mint(1, 3)), copy=True) is Delivery.ALREADY_VOTED
    assert ballots(deployment) == {theirs.vote_id: 1, own.vote_id: 1}
