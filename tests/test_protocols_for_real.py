"""The protocols' own machines over real memcached daemons and a real database."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.database import schema
from harness.database.ballots import Ballots, read_ballots
from harness.database.executor import DatabaseExecutor
from harness.history.journal import Role
from harness.plan import MemcachedPlan
from harness.protocol import mirrored, owned, ticket
from harness.protocol.commands import Command, DatabaseCommand, Incr, Reply
from harness.protocol.drive import drive
from harness.protocol.queue import Drained, DrainEnd, Queue, Receipt, Terms, VotingProtocol
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer, start_memcached
from harness.services.processes import Supervisor
from harness.vote import Poll, Vote, mint

pytestmark = pytest.mark.services

POLL = Poll("town-hall", "Paint it orange?", ("Yes", "No"))
QUEUE = Queue.named("q")
TERMS = Terms(patience_s=0.5)
PROTOCOLS = {
    module.__name__.split(".")[-1]: module.protocol for module in (owned, ticket, mirrored)
}
NOWHERE = "127.0.0.1:1"
VOTERS = 8
VOTES = 150  # of each voter
DRAINS = 3


class Deployment(NamedTuple):
    """Addresses of the services."""

    memcached: tuple[str, str]
    database: str

    def without(self, daemon: int) -> "Deployment":
        addresses = list(self.memcached)
        addresses[daemon] = NOWHERE
        return self._replace(memcached=tuple(addresses))


class Hands:
    """One thread's connections."""

    def __init__(self, deployment: Deployment) -> None:
        self.clients = [MetaClient(address, 1.0) for address in deployment.memcached]
        patience_ns = round(TERMS.patience_s * 1e9)
        self._memcached = MemcachedExecutor(self.clients, Role.SITE, patience_ns, None, None)
        self._database = DatabaseExecutor(Ballots(deployment.database, 5.0, None), 500)

    def execute(self, command: Command) -> Reply:
        if isinstance(command, get_args(DatabaseCommand)):
            return self._database.execute(command)  # type: ignore[arg-type]
        return self._memcached.execute(command)

    def vote(self, protocol: VotingProtocol, number: int) -> Receipt:
        return drive(protocol.vote(QUEUE, message(number)), self.execute)

    def drain(self, protocol: VotingProtocol) -> Drained:
        assert protocol.drain is not None
        return drive(protocol.drain(QUEUE), self.execute)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self._database.close()


@pytest.fixture(scope="module")
def daemons(
    supervisor: Supervisor, memcached: MemcachedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MemcachedServer, MemcachedServer]]:
    log: Path = tmp_path_factory.mktemp("second") / "log"
    second = start_memcached(supervisor, MemcachedPlan(), log)
    yield memcached, second
    second.stop()


@pytest.fixture
def deployment(
    daemons: tuple[MemcachedServer, MemcachedServer], mariadb: MariadbServer
) -> Iterator[Deployment]:
    for daemon in daemons:
        daemon.wipe()
    schema.create(mariadb.url, POLL)
    yield Deployment((daemons[0].address, daemons[1].address), mariadb.url)
    schema.drop(mariadb.url)


@pytest.fixture
def hands(deployment: Deployment) -> Iterator[Hands]:
    with closing(Hands(deployment)) as hands:
        yield hands


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> VotingProtocol:
    return PROTOCOLS[request.param](TERMS)


def message(number: int) -> bytes:
    return Vote(mint(1, number), POLL.name, 1, f"v{number}").to_message()


def counted(deployment: Deployment) -> dict[int, int]:
    """Deliveries by the vote's sequence number."""
    frame = read_ballots(deployment.database, 5.0)
    votes = [int(vote) - mint(1, 0) for vote in frame["vote"]]
    return dict(zip(votes, frame["deliveries"].tolist(), strict=True))


def once(numbers: range) -> dict[int, int]:
    return dict.fromkeys(numbers, 1)


def resumed(machine: Any, reply: Reply, hands: Hands) -> Receipt:
    """What the machine returns, when it goes on with this reply."""
    try:
        while True:
            reply = hands.execute(machine.send(reply))
    except StopIteration as finished:
        receipt: Receipt = finished.value
        return receipt


def test_from_a_cold_start_every_vote_is_queued_and_counted_once(
    protocol: VotingProtocol, hands: Hands, deployment: Deployment
):
    for start in (0, 100):
        votes = range(start, start + 100)
        assert {hands.vote(protocol, number) for number in votes} == {Receipt.QUEUED}
        assert counted(deployment) == once(range(start))
        drained = hands.drain(protocol)
        assert drained.end is DrainEnd.COMMITTED
        assert len(drained.messages) == 100
        assert counted(deployment) == once(range(start + 100))
        assert hands.drain(protocol).end is DrainEnd.EMPTY


def test_without_memcached_votes_are_stored_and_nothing_is_called_empty(
    protocol: VotingProtocol, deployment: Deployment
):
    with closing(Hands(deployment.without(0).without(1))) as alone:
        assert alone.vote(protocol, 1) is Receipt.STORED
        assert alone.drain(protocol).end is DrainEnd.NO_MEMCACHED
    assert counted(deployment) == {1: 1}


def test_a_pointer_that_vanishes_costs_no_vote_that_is_in_a_slot(
    hands: Hands, deployment: Deployment
):
    protocol = ticket.protocol(TERMS)
    for number in range(10):
        hands.vote(protocol, number)
    hands.clients[0].meta_delete("q-curr")
    assert {hands.vote(protocol, number) for number in range(10, 20)} == {Receipt.QUEUED}
    assert ticket.epoch_of(hands.clients[0].meta_get("q-curr").number) == 2
    assert hands.drain(protocol).end is DrainEnd.COMMITTED
    assert counted(deployment) == once(range(20))
    assert hands.drain(protocol).end is DrainEnd.EMPTY


def test_a_wiped_memcached_goes_on_in_a_new_epoch(
    hands: Hands, deployment: Deployment, daemons: tuple[MemcachedServer, MemcachedServer]
):
    protocol = ticket.protocol(TERMS)
    hands.vote(protocol, 1)
    daemons[0].wipe()
    assert hands.vote(protocol, 2) is Receipt.QUEUED
    assert hands.drain(protocol).end is DrainEnd.COMMITTED
    assert counted(deployment) == {2: 1}  # memcached itself lost the first


def test_a_slow_voter_finds_its_slot_closed_and_draws_another_ticket(
    hands: Hands, deployment: Deployment
):
    protocol = ticket.protocol(TERMS)
    hands.vote(protocol, 0)
    slow: Any = protocol.vote(QUEUE, message(1))
    command = next(slow)
    while not isinstance(command, Incr):
        command = slow.send(hands.execute(command))
    drawn = hands.execute(command)
    hands.vote(protocol, 2)
    assert hands.drain(protocol).end is DrainEnd.COMMITTED  # past the empty slot
    assert counted(deployment) == {0: 1, 2: 1}
    assert resumed(slow, drawn, hands) is Receipt.QUEUED
    assert hands.drain(protocol).end is DrainEnd.COMMITTED
    assert counted(deployment) == once(range(3))


@pytest.mark.parametrize("name", ["ticket", "mirrored"])
def test_drains_at_once_deliver_no_vote_twice(name: str, deployment: Deployment):
    protocol = PROTOCOLS[name](TERMS)
    over = threading.Event()
    together = threading.Barrier(VOTERS + DRAINS)

    def voter(first: int) -> set[Receipt]:
        with closing(Hands(deployment)) as own:
            together.wait(10)
            return {own.vote(protocol, number) for number in range(first, first + VOTES)}

    def drain(_: int) -> list[DrainEnd]:
        with closing(Hands(deployment)) as own:
            together.wait(10)
            ends = []
            while not over.is_set():
                ends.append(own.drain(protocol).end)
            return ends

    with ThreadPoolExecutor(VOTERS + DRAINS) as threads:
        drains = [threads.submit(drain, n) for n in range(DRAINS)]
        voters = [threads.submit(voter, n * VOTES) for n in range(VOTERS)]
        receipts = set().union(*(voting.result() for voting in voters))
        over.set()
        ends = [end for drained in drains for end in drained.result()]
    assert receipts <= {Receipt.QUEUED, Receipt.STORED}
    assert DrainEnd.OVERTAKEN in ends  # otherwise they never met
    with closing(Hands(deployment)) as last:
        assert DrainEnd.EMPTY in {last.drain(protocol).end for _ in range(4)}
    assert counted(deployment) == once(range(VOTERS * VOTES))


@pytest.mark.parametrize("lost", [0, 1])
def test_mirrored_votes_survive_the_loss_of_either_daemon(
    lost: int,
    hands: Hands,
    deployment: Deployment,
    daemons: tuple[MemcachedServer, MemcachedServer],
):
    protocol = mirrored.protocol(TERMS)
    assert {hands.vote(protocol, number) for number in range(5)} == {Receipt.QUEUED}
    daemons[lost].wipe()
    with closing(Hands(deployment.without(lost))) as without:
        assert without.vote(protocol, 5) is Receipt.STORED
        assert without.drain(protocol).end is DrainEnd.COMMITTED
    assert counted(deployment) == once(range(6))


def test_an_owned_lock_is_left_by_its_owner_and_lets_in_one_at_a_time(
    hands: Hands, deployment: Deployment
):
    protocol = owned.protocol(TERMS)
    assert hands.vote(protocol, 0) is Receipt.QUEUED
    left = hands.clients[0].meta_add("q-lock", b"other", 60)
    assert left.cas  # the lock was free
    assert hands.vote(protocol, 1) is Receipt.STORED  # its patience ended
    assert hands.drain(protocol).end is DrainEnd.LOCKED
    hands.clients[0].meta_delete("q-lock", left.cas)

    def voter(first: int) -> set[Receipt]:
        with closing(Hands(deployment)) as own:
            return {own.vote(protocol, number) for number in range(first, first + 50)}

    with ThreadPoolExecutor(VOTERS) as threads:
        receipts = set().union(*threads.map(voter, range(2, 202, 50)))
    assert receipts <= {Receipt.QUEUED, Receipt.STORED}
    assert hands.drain(protocol).end is DrainEnd.COMMITTED
    assert counted(deployment) == once(range(202))
