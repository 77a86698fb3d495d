"""Votes drained from the queue and committed, against bare `executemany` of the same rows."""

import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Final

from pymemcache.client.base import Client

from bench.figure import Figure, Measurement, figure
from bench.rounds import in_turn
from harness.database import schema
from harness.database.ballots import INSERT_MANY, vote_row
from harness.database.connections import connect
from harness.modes.mode import Drain, find_mode
from harness.modes.queues import queues
from harness.plan import DatabasePlan, Deployment, MemcachedPlan, Plan
from harness.protocol.queue import DrainEnd
from harness.services.mariadb import start_mariadb
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor
from harness.vote import Vote, mint

VOTES: Final = 2000  # two batches
ROUNDS: Final = 21
PLAN: Final = Plan(scenario="bench")


def drained() -> list[Figure]:
    with Supervisor() as supervisor, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        memcached = start_memcached(supervisor, MemcachedPlan(), folder / "memcached.log")
        mariadb = start_mariadb(supervisor, DatabasePlan(), folder / "mariadb.log")
        schema.create(mariadb.url, PLAN.poll.poll())
        deployment = Deployment(
            plan=PLAN,
            mode="classic",
            memcached=(memcached.address,),
            database=mariadb.url,
            folder=scratch,
        )
        with closing(find_mode("classic").drain(deployment, None)) as drain:
            rounds = in_turn(
                lambda: drained_per_s(drain, memcached.address, mariadb.url),
                lambda: inserted_per_s(mariadb.url),
                ROUNDS,
            )
    return [figure("flusher.drain", "votes/s", "bare executemany", rounds)]


def votes() -> list[Vote]:
    return [
        Vote(mint(1, n), PLAN.poll.name, 1 + n % 3, f"v{mint(1, n):016x}") for n in range(VOTES)
    ]


def drained_per_s(drain: Drain, address: str, url: str) -> float:
    """Fill the queue as `VOTES` voters would have, then read, reset and commit."""
    empty_ballots(url)
    (queue,) = queues(PLAN)
    host, _, port = address.rpartition(":")
    with closing(Client((host, int(port)), no_delay=True)) as client:
        messages: dict[bytes | str, bytes] = {
            queue.slot(n).name: v.to_message() for n, v in enumerate(votes(), start=1)
        }
        client.set_many(messages, noreply=False)
        client.set(queue.pointer.name, str(VOTES).encode(), noreply=False)
        client.set(queue.lock.name, b"0", noreply=False)
    begin = perf_counter()
    drained = drain.drain(0)
    elapsed_s = perf_counter() - begin
    assert drained.end is DrainEnd.COMMITTED
    assert len(drained.messages) == VOTES
    return VOTES / elapsed_s


def inserted_per_s(url: str) -> float:
    """The floor: the rows are at hand; same statement, same batches, and one transaction too."""
    empty_ballots(url)
    rows = [vote_row(vote) for vote in votes()]
    size = PLAN.flusher.batch_rows
    with closing(connect(url, PLAN.database.timeout_s)) as connection:
        begin = perf_counter()
        connection.begin()
        with connection.cursor() as cursor:
            for start in range(0, VOTES, size):
                cursor.executemany(INSERT_MANY, rows[start:][:size])
        connection.commit()
        return VOTES / (perf_counter() - begin)


def empty_ballots(url: str) -> None:
    with closing(connect(url, PLAN.database.timeout_s)) as connection:
        connection.cursor().execute("TRUNCATE pollstorm_ballots")


MEASUREMENTS: Final = (Measurement(("flusher.drain",), drained),)
