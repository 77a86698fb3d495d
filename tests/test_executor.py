"""The executor and its client against a real memcached, and against servers that misbehave."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from harness.armed import ArmedPage, step
from harness.cache.executor import GET, INCR, SET, MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.history.journal import Journal, Role
from harness.history.store import collect_journal, connect
from harness.protocol.classic import drain, enqueue
from harness.protocol.commands import KeyKind, Patience, Reply, Set, Sleep, Status
from harness.protocol.drive import drive
from harness.protocol.queue import DrainEnd, Queue, Receipt
from harness.services.memcached import MemcachedServer
from harness.vote import Vote, mint

pytestmark = pytest.mark.services

TIMEOUT_S = 0.2
VOTE = Vote(mint(3, 4), "town-hall", 2, "v1")


@contextmanager
def server(*pieces: bytes) -> Iterator[str]:
    """Answers the first request of each connection with the pieces, sent one by one."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    for piece in pieces:
                        connection.sendall(piece)
                        done.wait(0.02)
                    if not pieces:
                        done.wait(TIMEOUT_S * 2)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.fixture
def client(memcached: MemcachedServer) -> Iterator[MetaClient]:
    memcached.wipe()
    with closing(MetaClient(memcached.address, 1.0)) as client:
        yield client


def test_cas_orders_all_mutations_and_a_read_names_the_write_it_saw(client: MetaClient):
    first = client.meta_set("a", b"5")
    second = client.meta_incr("a")
    third = client.meta_set("b", b"x")
    assert first.cas < second.cas < third.cas
    assert client.meta_get("a") == Reply(Status.OK, 6, b"6", second.cas)


def test_what_is_missing_or_refused_is_said_so(client: MetaClient):
    assert client.meta_get("none").status is Status.MISSING
    assert client.meta_incr("none").status is Status.MISSING
    client.meta_set("word", b"abc")
    assert client.meta_incr("word").status is Status.REFUSED
    assert client.meta_set("big", b"x" * 2_000_000).status is Status.REFUSED
    assert client.meta_get("word").value == b"abc"  # the connection is still in step


def test_values_larger_than_one_packet_arrive_whole(client: MetaClient):
    value = b"MN\r\n" * 200_000
    client.meta_set("large", value)
    assert client.meta_get("large").value == value


def test_a_reply_cut_in_pieces_is_put_together():
    pieces = (b"VA 3 c1", b"7\r\nab", b"c\r\n")
    with server(*pieces) as address, closing(MetaClient(address, 1.0)) as client:
        reply = client.meta_get("k")
    assert reply == Reply(Status.OK, 0, b"abc", 17)


@pytest.mark.parametrize(
    "pieces", [(), (b"VA 3 c1\r\na",), (b"nonsense\r\n",), (b"VA x\r\n",), (b"VA 9 c1\r\nab\r\n",)]
)
def test_a_reply_that_does_not_come_whole_leaves_the_outcome_open(pieces: tuple[bytes, ...]):
    with server(*pieces) as address:
        client = MetaClient(address, TIMEOUT_S)
        assert client.meta_set("k", b"v").status is Status.LOST
        assert client.sock is None  # or the next command would read this one's reply


def test_without_a_server_nothing_was_applied():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert MetaClient(address, TIMEOUT_S).meta_set("k", b"v").status is Status.UNREACHABLE


def test_an_interrupt_between_request_and_reply_closes_the_connection(client: MetaClient):
    client.meta_set("k", b"v")

    class Interrupting:
        def sendall(self, _: bytes) -> None:
            raise KeyboardInterrupt

        def close(self) -> None:
            pass

    client.close()
    client.sock = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        client.meta_get("k")
    assert client.sock is None
    assert client.meta_get("k").value == b"v"


def test_a_queue_filled_by_one_process_is_drained_by_another(client: MetaClient, tmp_path: Path):
    queue = Queue.named("q")
    journal = Journal(tmp_path, Role.SITE)
    executor = MemcachedExecutor([client], Role.SITE, 10**9, journal, None)
    journal.start_operation()
    assert drive(enqueue(queue, [VOTE.to_message()]), executor.execute) is Receipt.QUEUED
    journal.start_operation()
    taken: list[bytes] = []

    def execute(command):  # type: ignore[no-untyped-def]
        if hasattr(command, "messages"):
            taken.extend(command.messages)
            return Reply(Status.OK)
        return executor.execute(command)

    assert drive(drain(queue), execute).end is DrainEnd.COMMITTED
    assert [Vote.from_message(message) for message in taken] == [VOTE]

    collect_journal(tmp_path, tmp_path / "journal.parquet")
    with connect() as connection:
        written, read = (
            connection.execute(
                f"SELECT vote, cas, slot FROM '{tmp_path}/journal.parquet' "
                f"WHERE key = {KeyKind.SLOT} AND command = {code}"
            ).fetchone()
            for code in (SET, GET)
        )
    assert written == read  # the read names vote and write that it saw
    assert read is not None
    assert (read[0], read[2]) == (VOTE.vote_id, 1)


def test_a_sleep_says_how_long_it_took_and_patience_ends_at_its_sum(client: MetaClient):
    executor = MemcachedExecutor([client], Role.SITE, 10**9, None, None)
    assert executor.execute(Sleep(1_000_000)).number >= 1_000_000
    assert executor.execute(Patience(10**9 - 1)).status is Status.OK
    assert executor.execute(Patience(10**9)).status is Status.OVER


def test_an_armed_step_is_met_before_its_command_is_sent(
    client: MetaClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = ArmedPage.create(tmp_path / "page")
    executor = MemcachedExecutor([client], Role.SITE, 10**9, None, page)
    here = step(Role.SITE, SET, KeyKind.SLOT)
    seen: list[Status] = []
    monkeypatch.setattr(
        "signal.pthread_kill",
        lambda _thread, _signal: seen.append(client.meta_get("q-key-1").status),
    )
    page.arm(here, signal.SIGCONT)
    queue = Queue.named("q")
    executor.execute(Set(queue.pointer, b"0"))
    assert seen == []
    executor.execute(Set(queue.slot(1), b"m"))
    executor.execute(Set(queue.slot(1), b"m"))
    assert seen == [Status.MISSING]  # once, and before the store
    (hit,) = page.hits()
    assert (hit.step, hit.signal) == (here, signal.SIGCONT)


def test_steps_of_all_roles_commands_and_keys_differ():
    steps = {step(r, c, k) for r in Role for c in (GET, SET, INCR) for k in KeyKind}
    assert len(steps) == len(Role) * 3 * len(KeyKind)
