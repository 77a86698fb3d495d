"""The executor over a real memcached: what it does, records, and meets on the way."""

import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from harness.armed import ArmedPage, step
from harness.cache.executor import ADD, DELETE, GET, SET, MemcachedExecutor, vote_in
from harness.cache.meta_client import MetaClient
from harness.errors import RecordingError
from harness.history.journal import Journal, Role
from harness.history.recorder import SEGMENT_RECORDS, Recorder
from harness.history.store import collect_journal, connect
from harness.plan import MemcachedPlan
from harness.protocol.classic import drain, enqueue
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    Command,
    Delete,
    Get,
    InsertBallots,
    Key,
    KeyKind,
    Now,
    Patience,
    Pipeline,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.protocol.drive import drive
from harness.protocol.queue import DrainEnd, Queue, Receipt
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor
from harness.vote import Vote, mint

pytestmark = pytest.mark.services

VOTE = Vote(mint(3, 4), "town-hall", 2, "v1")


def slot(number: int) -> Key:
    return Queue.named("q").slot(number)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"-1",
        b"+000000000000001 1 p v",
        b"000000000000_001 1 p v",
        b"0000000000000001",
        b"\xff",
    ],
)
def test_what_is_no_vote_has_no_id(message: bytes):
    assert vote_in(message) == 0
    assert vote_in(VOTE.to_message()) == VOTE.vote_id


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


def test_a_voters_key_is_recorded_with_the_vote_that_lies_there(client: MetaClient, tmp_path: Path):
    journal = Journal(tmp_path, Role.SITE)
    executor = MemcachedExecutor([client], Role.SITE, 0, journal, None)
    journal.start_operation()
    key = Queue.named("q").voter("town-hall", "v1")
    made = executor.execute(Add(key, b"00000000000000a1", 60))
    assert executor.execute(Add(key, b"00000000000000b2", 60)).status is Status.EXISTS
    assert executor.execute(Get(key)).value == b"00000000000000a1"
    assert executor.execute(Delete(key, made.cas)).status is Status.OK
    assert recorded(tmp_path, "key, vote") == [
        (KeyKind.VOTER, vote) for vote in (0xA1, 0xB2, 0xA1, 0)
    ]


def test_each_key_goes_to_its_own_daemon(
    client: MetaClient, supervisor: Supervisor, tmp_path: Path
):
    other = start_memcached(supervisor, MemcachedPlan(), tmp_path / "other.log")
    journal = Journal(tmp_path, Role.SITE)
    journal.start_operation()
    with closing(MetaClient(other.address, 1.0)) as second:
        executor = MemcachedExecutor([client, second], Role.SITE, 0, journal, None)
        there = Queue.named("q").on(1).slot(1)
        executor.execute(Set(there, b"single"))
        executor.execute(Pipeline([Add(there, b"no"), Add(there._replace(name="b"), b"two")]))
        assert [second.meta_get(name).value for name in ("q-key-1", "b")] == [b"single", b"two"]
        assert client.meta_get("q-key-1").status is Status.MISSING
    other.stop()
    assert recorded(tmp_path, "daemon") == [(1,)] * 3


def recorded(folder: Path, columns: str) -> list[tuple[object, ...]]:
    """These columns of all commands, in the order in which they were begun."""
    collect_journal(folder, folder / "journal.parquet")
    with connect() as connection:
        return connection.execute(
            f"SELECT {columns} FROM '{folder}/journal.parquet' ORDER BY begin_ns"
        ).fetchall()


def test_every_command_of_a_pipeline_has_a_record_with_its_own_reply(
    client: MetaClient, tmp_path: Path
):
    journal = Journal(tmp_path, Role.FLUSHER)
    executor = MemcachedExecutor([client], Role.FLUSHER, 0, journal, None)
    journal.start_operation(3)
    message = VOTE.to_message()
    reply = executor.execute(
        Pipeline([Add(slot(1), message), Add(slot(1), b"closed"), Get(slot(1)), Get(slot(2)),
                  Delete(slot(1)), Delete(slot(1))])
    )  # fmt: skip
    assert reply.status is Status.OK
    assert executor.execute(Pipeline([])) == Reply(Status.OK)
    cas = reply.parts[0].cas
    assert recorded(tmp_path, "command, slot, status, vote, cas, queue, operation") == [
        (ADD, 1, Status.OK, VOTE.vote_id, cas, 3, 1),
        (ADD, 1, Status.EXISTS, 0, 0, 3, 1),
        (GET, 1, Status.OK, VOTE.vote_id, cas, 3, 1),
        (GET, 2, Status.MISSING, 0, 0, 3, 1),
        (DELETE, 1, Status.OK, 0, 0, 3, 1),
        (DELETE, 1, Status.MISSING, 0, 0, 3, 1),
    ]


def test_a_pipeline_longer_than_a_segment_is_recorded_whole(client: MetaClient, tmp_path: Path):
    journal = Journal(tmp_path, Role.FLUSHER)
    executor = MemcachedExecutor([client], Role.FLUSHER, 0, journal, None)
    commands = SEGMENT_RECORDS + 100
    journal.start_operation(0, commands)
    executor.execute(Set(slot(1), VOTE.to_message()))
    executor.execute(Pipeline([Get(slot(1))] * commands))
    executor.execute(Delete(slot(1)))
    found = recorded(tmp_path, "command, status, vote")
    vote = VOTE.vote_id
    assert found[0] == (SET, Status.OK, vote)
    assert found[1:-1] == [(GET, Status.OK, vote)] * commands
    assert found[-1] == (DELETE, Status.OK, 0)


def test_a_disk_that_fills_while_a_pipeline_is_opened_is_met_before_anything_is_sent(
    client: MetaClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal = Journal(tmp_path, Role.FLUSHER)
    executor = MemcachedExecutor([client], Role.FLUSHER, 0, journal, None)
    journal.start_operation()
    room = iter(range(2))
    reserve = Recorder.reserve

    def limited(recorder: Recorder) -> int:
        if next(room, None) is None:
            raise RecordingError("cannot record")
        return reserve(recorder)

    monkeypatch.setattr(Recorder, "reserve", limited)
    pipeline = Pipeline([Set(slot(number), b"m") for number in range(1, 6)])
    with pytest.raises(RecordingError):
        executor.execute(pipeline)
    assert client.meta_get("q-key-1").status is Status.MISSING
    assert recorded(tmp_path, "status") == [(Status.UNREACHABLE,)] * 2
    executor.stop_recording()
    assert [part.status for part in executor.execute(pipeline).parts] == [Status.OK] * 5


def test_the_time_goes_forward_and_is_not_recorded(client: MetaClient, tmp_path: Path):
    journal = Journal(tmp_path, Role.SITE)
    journal.start_operation()
    executor = MemcachedExecutor([client], Role.SITE, 0, journal, None)
    first, second = (executor.execute(Now()).number for _ in range(2))
    assert 0 < first <= second <= time.monotonic_ns()
    assert recorded(tmp_path, "command") == []


def test_ballots_are_not_memcached_s(client: MetaClient):
    executor = MemcachedExecutor([client], Role.SITE, 0, None, None)
    with pytest.raises(TypeError, match="InsertBallots"):
        executor.execute(InsertBallots([]))


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


def test_an_armed_step_is_met_before_the_pipeline_it_is_in(
    client: MetaClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = ArmedPage.create(tmp_path / "page")
    executor = MemcachedExecutor([client], Role.FLUSHER, 0, None, page)
    seen: list[Status] = []
    monkeypatch.setattr(
        "signal.pthread_kill",
        lambda _thread, _signal: seen.append(client.meta_get("q-key-1").status),
    )
    page.arm(step(Role.FLUSHER, DELETE, KeyKind.SLOT), signal.SIGCONT)
    commands: list[Command] = [Set(slot(1), b"m"), Get(slot(1))]
    executor.execute(Pipeline(commands))
    assert seen == []
    client.meta_delete("q-key-1")
    executor.execute(Pipeline([*commands, Delete(slot(1)), Delete(slot(2))]))
    assert seen == [Status.MISSING]  # once, and before the first command was sent


def test_steps_of_all_roles_commands_and_keys_differ():
    steps = {step(r, c, k) for r in Role for c in COMMAND_CODES.values() for k in KeyKind}
    assert len(steps) == len(Role) * len(set(COMMAND_CODES.values())) * len(KeyKind)
