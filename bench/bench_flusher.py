"""Votes drained from a queue and committed, against bare `executemany` of the same rows.

`classic` asks for one slot after the other; `ticket` pipelines, and moves its head too.
"""

import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

from pymemcache.client.base import Client

from bench.figure import Figure, Measurement, figure
from bench.rounds import in_turn
from harness.cache.meta_client import MetaClient
from harness.database import schema
from harness.database.ballots import INSERT_MANY, vote_row
from harness.database.connections import connect
from harness.deployment import Deployment
from harness.modes.mode import Answer, Drain, find_mode
from harness.modes.queues import queues
from harness.plan import DatabasePlan, MemcachedPlan, Plan
from harness.protocol.queue import DrainEnd
from harness.protocol.ticket import first_of
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
        figures = []
        for mode, fill, name in (
            ("classic", fill_slots, "flusher.drain"),
            ("ticket", draw_tickets, "flusher.ticket"),
        ):
            deployment = Deployment(
                plan=PLAN,
                mode=mode,
                memcached=(memcached.address,),
                database=mariadb.url,
                folder=scratch,
            )
            with closing(find_mode(mode).drain(deployment, None)) as drain:
                rounds = in_turn(
                    partial(drained_per_s, drain, partial(fill, deployment), mariadb.url),
                    partial(inserted_per_s, mariadb.url),
                    ROUNDS,
                )
            figures.append(figure(name, "votes/s", "bare executemany", rounds))
    return figures


def votes() -> list[Vote]:
    return [
        Vote(mint(1, n), PLAN.poll.name, 1 + n % 3, f"v{mint(1, n):016x}") for n in range(VOTES)
    ]


def fill_slots(deployment: Deployment) -> None:
    """Leave behind what `VOTES` voters would have under `classic`."""
    (queue,) = queues(PLAN)
    host, _, port = deployment.memcached[0].rpartition(":")
    with closing(Client((host, int(port)), no_delay=True)) as client:
        messages: dict[bytes | str, bytes] = {
            queue.slot(n).name: v.to_message() for n, v in enumerate(votes(), start=1)
        }
        client.set_many(messages, noreply=False)
        client.set(queue.pointer.name, str(VOTES).encode(), noreply=False)
        client.set(queue.lock.name, b"0", noreply=False)


def draw_tickets(deployment: Deployment) -> None:
    """Have `VOTES` votes taken in by the protocol: it must find an epoch that was issued."""
    (queue,) = queues(PLAN)
    with closing(MetaClient(deployment.memcached[0], PLAN.memcached.timeout_s)) as client:
        if client.meta_get(queue.pointer.name).number < first_of(1):
            client.meta_delete(queue.pointer.name)  # it was that of `classic`
    with closing(find_mode("ticket").session(deployment, None)) as session:
        for vote in votes():
            assert session.accept(vote) is Answer.QUEUED


def drained_per_s(drain: Drain, fill: Callable[[], None], url: str) -> float:
    """Fill the queue, then read, reset or move the head, and commit."""
    empty_ballots(url)
    fill()
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


MEASUREMENTS: Final = (Measurement(("flusher.drain", "flusher.ticket"), drained),)
