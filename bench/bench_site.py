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
from bench.figure import Figure
from bench.rounds import in_turn
from harness.modes.mode import find_mode
from harness.plan import Plan
from harness.services.cores import share_cores
from harness.services.processes import Supervisor
from harness.services.stack import Stack, start_stack
from harness.services.targets import Existing

LASTS_S: Final = 1.0
FULL: Final = 32  # as many as the default site has threads
# The queue's lock makes 32 voters on few cores mostly wait for each other, in naps that hide any
# other cost; with four the commands themselves are what takes time.
UNCROWDED: Final = 4
ROUNDS: Final = 9
PLAN: Final = Plan(scenario="bench")
_generators = count(1)  # each measurement mints ids of its own


def measure() -> list[Figure]:
    os.sched_setaffinity(0, share_cores().generator or os.sched_getaffinity(0))
    with Supervisor() as supervisor, tempfile.TemporaryDirectory() as scratch:
        with running(supervisor, Path(scratch) / "direct", "direct", journal=True) as stack:
            direct = in_turn(voting(stack, FULL), idling(stack, FULL), ROUNDS)
        with (
            running(supervisor, Path(scratch) / "on", "classic", journal=True) as on,
            running(supervisor, Path(scratch) / "off", "classic", journal=False) as off,
        ):
            journal = in_turn(voting(on, UNCROWDED), voting(off, UNCROWDED), ROUNDS)
    return [
        Figure(
            "site.direct",
            direct.ours,
            "votes/s",
            f"a route that does nothing, {direct.theirs:,.0f}/s",
            direct.ratio,
            "",
            None,
        ),
        Figure(
            "site.journal",
            journal.ours,
            "votes/s",
            f"classic without a journal, {journal.theirs:,.0f}/s",
            journal.ratio,
            "ratio >= 0.95",
            journal.ratio >= 0.95,
        ),
    ]


@contextmanager
def running(supervisor: Supervisor, folder: Path, mode: str, *, journal: bool) -> Iterator[Stack]:
    """The mode's services, its own memcached and MariaDB included."""
    folder.mkdir()
    site = msgspec.structs.replace(PLAN.site, journal=journal)
    plan = msgspec.structs.replace(PLAN, site=site)
    with start_stack(supervisor, plan, find_mode(mode), folder, folder, Existing()) as stack:
        yield stack


def voting(stack: Stack, connections: int) -> Callable[[], float]:
    """Votes per second that the site acknowledges at most."""
    site, poll = stack.site, PLAN.poll.name
    return lambda: answered_per_s(
        site.host, site.port, votes(poll, next(_generators)), connections, LASTS_S
    )


def idling(stack: Stack, connections: int) -> Callable[[], float]:
    site = stack.site
    return lambda: answered_per_s(site.host, site.port, voids(), connections, LASTS_S)
