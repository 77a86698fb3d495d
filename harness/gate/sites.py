"""A version's site with its own services, started by that version's own `pollstorm up`.

Of the other version nothing is used but that verb, its HTTP API and its table of ballots: they
change less than anything else.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import clock_gettime_ns, monotonic
from typing import Final, NamedTuple

import psutil
import pymysql

from harness.database.connections import connect
from harness.errors import ServiceError
from harness.gate.versions import Version
from harness.load.fleet import LoadedSite
from harness.services.processes import Child, Supervisor, wait_until

START_S: Final = 60.0  # memcached, MariaDB and the site, both versions at once on a busy machine
STOP_S: Final = 10.0
SCHEDULER_CLOCK: Final = 2  # CPUCLOCK_SCHED: what the scheduler has given, in ns, and no ticks
READ_S: Final = 5.0
SETTLED_S: Final = 10.0  # a queue is drained twice a second: if nothing came in so long, none will
MOST_SETTLED_S: Final = 120.0  # for a backlog as long as a whole check's load
SETTLE_LOOK_S: Final = 0.1
ADDRESS: Final = re.compile(r"^mode \S+ on http://(\[[^\]]+\]|[^:\s]+):(\d+)", re.MULTILINE)
FROM_THERE: Final = 'cd "$1" && shift && exec "$@"'
"""`-m` looks in the current folder first: so the other version finds itself, and so do the
processes that it starts."""
OURS: Final = ("reaper.py", "harness.cli")  # not what is compared: they start and watch the rest


class RunningSite(NamedTuple):
    """A version at work."""

    version: Version
    child: Child
    host: str
    port: int
    database: str

    def loaded(self, ledger_folder: Path) -> LoadedSite:
        return LoadedSite(self.host, self.port, ledger_folder)

    def cpu_ns(self) -> int:
        """The processor time of site, flusher, memcached and database, by the scheduler's clock."""
        return sum(_cpu_ns(process.pid) for process in self._services())

    def ballots(self) -> dict[int, int]:
        """Deliveries by vote id. Raises ServiceError."""
        try:
            with connect(self.database, READ_S) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT vote, deliveries FROM pollstorm_ballots")
                return {int(vote): int(deliveries) for vote, deliveries in cursor.fetchall()}
        except pymysql.MySQLError as error:
            raise ServiceError(f"{self.version.name}: no ballots can be read: {error}") from error

    def settled_ballots(self, acknowledged: set[int]) -> dict[int, int]:
        """The ballots when all acknowledged votes are among them, or no more come.

        Raises ServiceError when the queue is still being drained after `MOST_SETTLED_S`.
        """
        ends_s = monotonic() + MOST_SETTLED_S
        before = -1
        ballots = self.ballots()
        while len(ballots) > before and not acknowledged <= ballots.keys():
            if monotonic() > ends_s:
                raise ServiceError(
                    f"{self.version.name}: after {MOST_SETTLED_S:g} s votes are still being "
                    "counted; a lower --rate leaves it time"
                )
            before = len(ballots)
            wait_until(lambda: acknowledged <= self.ballots().keys(), SETTLED_S, SETTLE_LOOK_S)
            ballots = self.ballots()
        return ballots

    def _services(self) -> list[psutil.Process]:
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.child.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if not any(name in " ".join(process.cmdline()) for name in OURS):
                        found.append(process)
        return found


@contextmanager
def running(
    version: Version,
    mode: str,
    supervisor: Supervisor,
    log: Path,
    *,
    services: tuple[str, ...] = (),
) -> Iterator[RunningSite]:
    """The version's site in that mode, ready. `services`: flags that name existing ones.

    Raises ServiceError with what it said when it does not start.
    """
    with starting(version, mode, supervisor, log, services=services) as ready:
        yield ready()


@contextmanager
def starting(
    version: Version,
    mode: str,
    supervisor: Supervisor,
    log: Path,
    *,
    services: tuple[str, ...] = (),
) -> Iterator[Callable[[], RunningSite]]:
    """The same while it starts, so that two can start together; what it yields waits for it."""
    argv = [sys.executable, "-m", "harness.cli", "up", "--mode", mode, *services]
    before = log.stat().st_size if log.exists() else 0
    child = supervisor.spawn(
        f"{version.name} ({version.commit})",
        ["sh", "-c", FROM_THERE, "sh", str(version.root), *argv],
        log=log,
        env={"PYTHONPATH": str(version.root), "PYTHONDONTWRITEBYTECODE": "1"},
    )

    def ready() -> RunningSite:
        supervisor.wait_until_ready(child, lambda: _address(log, before) is not None, START_S)
        found = _address(log, before)
        assert found is not None
        return RunningSite(version, child, found[1].strip("[]"), int(found[2]), _database(child))

    try:
        yield ready
    finally:
        child.stop(STOP_S)


def _database(child: Child) -> str:
    """The database's URL, from the deployment that the site was started with."""
    for process in psutil.Process(child.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess, OSError, ValueError, KeyError):
            command = process.cmdline()
            if "harness.site" in command:
                deployment = json.loads(Path(command[-1]).read_bytes())
                return str(deployment["database"])
    raise ServiceError(f"{child.name}: no site was found among its processes ({child.log})")


def _cpu_ns(pid: int) -> int:
    """Time on the processor of all its threads, also of those that have ended; 0 when it is gone.

    The clock's number is what clock_getcpuclockid(3) makes of a process id.
    """
    with suppress(OSError):
        return clock_gettime_ns((~pid << 3) | SCHEDULER_CLOCK)
    return 0


def _address(log: Path, before: int) -> re.Match[str] | None:
    """Where it said that it listens, behind what the log held before."""
    return ADDRESS.search(log.read_bytes()[before:].decode(errors="replace"))
