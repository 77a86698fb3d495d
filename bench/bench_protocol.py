"""One `classic` vote through machine, driver and executor, against the same calls by hand."""

import tempfile
from pathlib import Path
from time import perf_counter, sleep
from typing import Final

from pymemcache.client.base import Client

from bench.figure import Figure
from bench.rounds import in_turn
from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.history.journal import Journal, Role
from harness.plan import MemcachedPlan
from harness.protocol.classic import Queue, enqueue
from harness.protocol.drive import drive
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor

VOTES: Final = 2000
ROUNDS: Final = 15
MESSAGE: Final = b"0001000000000001 2 town-hall v0001000000000001"
PATIENCE_NS: Final = 10**9
QUEUE: Final = Queue.named("poll-queue")


def measure() -> list[Figure]:
    with Supervisor() as supervisor, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        server = start_memcached(supervisor, MemcachedPlan(), folder / "memcached.log")
        client = MetaClient(server.address, 1.0)
        plain = MemcachedExecutor(client, Role.SITE, PATIENCE_NS, None, None)
        journal = Journal(folder, Role.SITE)
        journaled = MemcachedExecutor(client, Role.SITE, PATIENCE_NS, journal, None)
        host, _, port = server.address.rpartition(":")
        by_hand = Client((host, int(port)), no_delay=True, default_noreply=False)
        against = in_turn(lambda: through(plain), lambda: handwritten(by_hand), ROUNDS)
        with_journal = in_turn(lambda: through(journaled), lambda: through(plain), ROUNDS)
    return [
        Figure(
            "protocol.vote",
            against.ours,
            "µs/vote",
            f"hand-written pymemcache calls, {against.theirs:.1f} µs",
            against.ratio,
            "ratio <= 1.05",
            against.ratio <= 1.05,
        ),
        Figure(
            "protocol.journal",
            with_journal.ours,
            "µs/vote",
            f"without a journal, {with_journal.theirs:.1f} µs",
            with_journal.ratio,
            "",
            None,
        ),
    ]


def through(executor: MemcachedExecutor) -> float:
    """Microseconds per vote through the protocol."""
    begin = perf_counter()
    for _ in range(VOTES):
        drive(enqueue(QUEUE, [MESSAGE]), executor.execute)
    return (perf_counter() - begin) / VOTES * 1e6


def handwritten(client: Client) -> float:
    """Microseconds per vote by the calls that one would write without the protocol."""
    begin = perf_counter()
    for _ in range(VOTES):
        while True:
            lock = client.incr("poll-queue-lock", 1)
            if lock is None:
                client.set("poll-queue-lock", b"1")
                client.set("poll-queue-curr", b"0")
                break
            if lock == 1:
                break
            sleep(0.001)
        slot = client.incr("poll-queue-curr", 1)
        client.set(f"poll-queue-key-{slot}", MESSAGE)
        client.set("poll-queue-lock", b"0")
    return (perf_counter() - begin) / VOTES * 1e6
