"""The page on the cache library: its examples run, and what it says of the post's client is so."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.history.journal import Role
from harness.protocol.classic import drain, enqueue
from harness.protocol.commands import Command, Incr, InsertBallots, Reply, Status
from harness.protocol.drive import drive
from harness.protocol.queue import Queue, Receipt
from harness.services.memcached import MemcachedServer

PAGE = Path(__file__).parent.parent / "docs" / "cache.md"
EXAMPLES = re.findall(r"^## ([^\n]+)\n.*?^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
WRITTEN_FOR = "127.0.0.1:11211"
QUEUE = Queue.named("post")
VOTES = 5


def test_every_section_with_code_has_its_example_found() -> None:
    assert PAGE.read_text().count("```python") == len(EXAMPLES) == 5


@pytest.mark.services
@pytest.mark.parametrize("example", [code for _, code in EXAMPLES], ids=[t for t, _ in EXAMPLES])
def test_the_examples_run_as_they_stand(memcached: MemcachedServer, example: str) -> None:
    memcached.wipe()
    assert WRITTEN_FOR in example
    exec(compile(example.replace(WRITTEN_FOR, memcached.address), str(PAGE), "exec"), {})


@pytest.fixture
def execute(memcached: MemcachedServer) -> Iterator[Callable[[Command], Reply]]:
    """On a warm queue: lock and pointer are there."""
    memcached.wipe()
    with closing(MetaClient(memcached.address, 1.0)) as client:
        client.meta_set(QUEUE.lock.name, b"0")
        client.meta_set(QUEUE.pointer.name, b"0")
        executor = MemcachedExecutor([client], Role.SITE, 0, None, None)

        def execute(command: Command) -> Reply:
            inserts = isinstance(command, InsertBallots)
            return Reply(Status.OK) if inserts else executor.execute(command)

        yield execute


@pytest.mark.services
def test_an_incr_that_returns_nothing_is_a_cold_start_and_a_loss_on_every_vote(
    execute: Callable[[Command], Reply],
) -> None:
    made_cold: list[Command] = []

    def forgetful(command: Command) -> Reply:
        """Carries it out, and has nothing to say."""
        reply = execute(command)
        if not isinstance(command, Incr):
            return reply
        made_cold.append(command)
        return Reply(Status.MISSING)

    def queued(kind: bytes, voting: Callable[[Command], Reply]) -> list[bytes]:
        votes = [b"%s %d" % (kind, number) for number in range(VOTES)]
        for vote in votes:
            assert drive(enqueue(QUEUE, [vote]), voting) is Receipt.QUEUED
        return votes

    votes = queued(b"sound", execute)
    assert drive(drain(QUEUE), execute).messages == votes
    queued(b"forgetful", forgetful)
    # All five are lost; what is found is in slot 1, of the round before: it is counted again.
    assert drive(drain(QUEUE), execute).messages == votes[:1]
    # Each vote once for the lock and once for the pointer.
    assert [command.key for command in made_cold] == [QUEUE.lock, QUEUE.pointer] * VOTES
