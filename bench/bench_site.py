"""Votes per second over HTTP, against a route that does nothing, and the journal's price."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from bench.closed_loop import answered_per_s, voids, votes
from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from harness.modes.mode import find_mode
from harness.plan import Plan
from harness.services.cores import share_cores
from harness.services.processes import Supervisor
from harness.services.stack import Stack, start_stack
from harness.services.targets import Existing

LASTS_S: Final = 0.5  # as long as the flusher waits between drains: each round has one
FULL: Final = 32  # as many as the default site has threads
# Voters who compete for the queue's lock mostly wait for each other, in naps of a millisecond that
# hide any other cost and vary by a third; one alone is held up by nothing but its own commands.
ALONE: Final = 1
ROUNDS: Final = 31
PLAN: Final = Plan(scenario="bench")
_generators = count(1)  # each measurement mints ids of its own


def direct() -> list[Figure]:
    with scratched() as (supervisor, folder), running(supervisor, folder, "direct") as stack:
        rounds = in_turn(voting(stack, FULL), idling(stack, FULL), ROUNDS)
    return [figure("site.direct", "votes/s", "a route that does nothing", rounds)]


def journal() -> list[Figure]:
    with (
        scratched() as (supervisor, folder),
        running(supervisor, folder / "on", "classic") as on,
        running(supervisor, folder / "off", "classic", journal=False) as off,
    ):
        rounds = in_turn(voting(on, ALONE), voting(off, ALONE), ROUNDS)
    other = "classic without a journal"
    return [figure("site.journal", "votes/s", other, rounds, Target("ratio", ">=", 0.95))]


@contextmanager
def scratched() -> Iterator[tuple[Supervisor, Path]]:
    with Supervisor() as supervisor, tempfile.TemporaryDirectory() as scratch:
        yield supervisor, Path(scratch) / "site"


@contextmanager
def running(
    supervisor: Supervisor, folder: Path, mode: str, *, journal: bool = True
) -> Iterator[Stack]:
    """The mode's services, its own memcached and MariaDB included."""
    folder.mkdir(parents=True)
    site = msgspec.structs.replace(PLAN.site, journal=journal)
    plan = msgspec.structs.replace(PLAN, site=site)
    with start_stack(supervisor, plan, find_mode(mode), folder, folder, Existing()) as stack:
        yield stack


def voting(stack: Stack, connections: int) -> Callable[[], float]:
    """Votes per second that the site acknowledges at most."""
    poll = PLAN.poll.name
    return lambda: asked(stack, votes(poll, next(_generators)), connections)


def idling(stack: Stack, connections: int) -> Callable[[], float]:
    return lambda: asked(stack, voids(), connections)


def asked(stack: Stack, requests: Iterator[bytes], connections: int) -> float:
    """Requests per second, from the cores that the services leave to the load generator.

    Only while asking: who starts services from there has no other cores to give them.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share_cores().generator or before)
    try:
        return answered_per_s(stack.site.host, stack.site.port, requests, connections, LASTS_S)
    finally:
        os.sched_setaffinity(0, before)


MEASUREMENTS: Final = (
    Measurement(("site.direct",), direct),
    Measurement(("site.journal",), journal),
)
