"""The circuit breaker: who pays for a memcached that stands still, and how it comes back."""

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep

import pytest

from harness.cache.breaker import OPEN_S, Breaker, breaker_of
from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.history.journal import Role
from harness.plan import MemcachedPlan
from harness.protocol.commands import Get, InsertBallot, Key, KeyKind, Reply, Status
from harness.protocol.drive import drive
from harness.protocol.queue import Queue, Receipt, Terms
from harness.protocol.ticket import protocol
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor, wait_until

TIMEOUT_S = 0.3
OPEN_NS = round(OPEN_S * 1e9)
PATIENCE_S = 1.0


class Clock:
    now_ns = 10**15

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(PATIENCE_S, clock)


def elsewhere(action):  # type: ignore[no-untyped-def]
    """What another thread is told."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(action).result()


def test_a_closed_breaker_lets_everything_through(breaker: Breaker):
    assert [breaker.admits() for _ in range(3)] == [True, True, True]


def test_an_open_one_lets_one_probe_through_when_its_time_is_over(breaker: Breaker, clock: Clock):
    breaker.trip()
    clock.now_ns += OPEN_NS - 1
    assert not breaker.admits()
    clock.now_ns += 1
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    clock.now_ns += OPEN_NS
    assert not breaker.admits()  # the probe is still under way
    breaker.reset()
    assert [breaker.admits() for _ in range(2)] == [True, True]


def test_a_probe_that_fails_opens_it_again(breaker: Breaker, clock: Clock):
    breaker.trip()
    clock.now_ns += OPEN_NS
    assert breaker.admits()
    breaker.trip()
    assert not breaker.admits()
    clock.now_ns += OPEN_NS
    assert breaker.admits()


def test_what_was_sent_before_the_probe_says_nothing_of_it(breaker: Breaker, clock: Clock):
    breaker.trip()
    clock.now_ns += OPEN_NS
    assert breaker.admits()
    elsewhere(breaker.trip)
    clock.now_ns += OPEN_NS
    assert not breaker.admits()


def test_a_probe_of_which_nothing_is_heard_is_replaced(breaker: Breaker, clock: Clock):
    breaker.trip()
    clock.now_ns += OPEN_NS
    assert elsewhere(breaker.admits)
    clock.now_ns += round(PATIENCE_S * 1e9) + OPEN_NS
    assert breaker.admits()


def test_one_breaker_for_each_daemon():
    one = breaker_of("127.0.0.1:1", 1.0)
    assert breaker_of("127.0.0.1:1", 1.0) is one
    assert breaker_of("127.0.0.1:2", 1.0) is not one


def test_after_a_failed_connect_nothing_is_tried_until_the_probe(breaker: Breaker, clock: Clock):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    client = MetaClient(address, TIMEOUT_S, breaker)
    assert client.meta_get("k").status is Status.UNREACHABLE
    assert breaker.is_open
    tried: list[int] = []
    client._connect = lambda: tried.append(clock.now_ns)  # type: ignore[method-assign]
    assert client.meta_get("k").status is Status.UNREACHABLE
    assert client.pipeline([Get(Key("k", KeyKind.SLOT))]) == [Reply(Status.UNREACHABLE)]
    assert tried == []


class Scripted:
    """A socket that answers, or whose time is out."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def sendall(self, _: bytes) -> None:
        pass

    def recv(self, _: int) -> bytes:
        if not self._answer:
            raise BlockingIOError
        return self._answer

    def close(self) -> None:
        pass


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_time_out_opens_it_and_an_answer_closes_it(
    breaker: Breaker, clock: Clock, pipelined: bool
):
    client = MetaClient("127.0.0.1:1", TIMEOUT_S, breaker)

    def ask(answer: bytes) -> Status:
        client.sock = Scripted(answer)
        get = Get(Key("k", KeyKind.SLOT))
        return (client.pipeline([get])[0] if pipelined else client.meta_get("k")).status

    assert ask(b"") is Status.LOST
    assert breaker.is_open
    assert ask(b"EN\r\n") is Status.UNREACHABLE
    clock.now_ns += OPEN_NS
    assert ask(b"EN\r\n") is Status.MISSING
    assert not breaker.is_open


def test_a_connection_that_merely_broke_opens_nothing(breaker: Breaker):
    client = MetaClient("127.0.0.1:1", TIMEOUT_S, breaker)
    client.sock = Scripted(b"nonsense\r\n")
    assert client.meta_get("k").status is Status.LOST
    assert not breaker.is_open


def all_threads_stand(pid: int) -> bool:
    """A stop is carried out by each thread for itself, when it next runs."""
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(") ")[2].startswith("T") for stat in stats)


@pytest.mark.services
def test_of_many_votes_at_a_stopped_memcached_one_pays_the_time_out(
    supervisor: Supervisor, tmp_path: Path
):
    memcached = start_memcached(supervisor, MemcachedPlan(), tmp_path / "log")
    breaker = Breaker(TIMEOUT_S)
    vote = protocol(Terms()).vote
    queue = Queue.named("q")
    local = threading.local()
    clients: list[MetaClient] = []

    def voted(_: int) -> tuple[Receipt, float]:
        if not hasattr(local, "executor"):
            client = MetaClient(memcached.address, TIMEOUT_S, breaker)
            clients.append(client)
            local.executor = MemcachedExecutor([client], Role.SITE, 0, None, None)

        def execute(command):  # type: ignore[no-untyped-def]
            stored = isinstance(command, InsertBallot)
            return Reply(Status.OK) if stored else local.executor.execute(command)

        begin_s = monotonic()
        receipt = drive(vote(queue, b"m"), execute)
        return receipt, monotonic() - begin_s

    with closing(MetaClient(memcached.address, 1.0)) as other:
        other.meta_set("q-curr", b"%d" % (1 << 40))
    with ThreadPoolExecutor(4) as voters:
        assert {receipt for receipt, _ in voters.map(voted, range(20))} == {Receipt.QUEUED}
        os.kill(memcached.child.pid, signal.SIGSTOP)
        assert wait_until(lambda: all_threads_stand(memcached.child.pid), 5)
        try:
            begin_s = monotonic()
            first = voters.submit(voted, 0).result()
            rest = list(voters.map(voted, range(200)))
            took_s = monotonic() - begin_s
        finally:
            os.kill(memcached.child.pid, signal.SIGCONT)
        assert first[0] is Receipt.STORED
        assert first[1] >= TIMEOUT_S
        assert {receipt for receipt, _ in rest} == {Receipt.STORED}
        assert took_s < TIMEOUT_S + OPEN_S, "too slow a machine to tell"
        assert max(spent_s for _, spent_s in rest) < TIMEOUT_S
        sleep(OPEN_S)
        assert voters.submit(voted, 0).result()[0] is Receipt.QUEUED  # the probe
        assert not breaker.is_open
    for client in clients:
        client.close()
    memcached.stop()
