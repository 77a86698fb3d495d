"""Real writer processes on one protocol, and one that drains: what they did, for real.

Bare processes without HTTP, in a closed loop: it measures a protocol's most and what contention
does to it, not what voters would see.
"""

import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil

from bench.orders import Drained, Finish, Order, Ready, Start, Voted
from bench.writer import protocol_of
from harness.database import schema
from harness.database.ballots import read_ballots
from harness.deployment import Deployment
from harness.errors import ServiceError
from harness.plan import FlusherPlan, Plan
from harness.services.mariadb import start_mariadb
from harness.services.memcached import MemcachedServer, start_memcached
from harness.services.processes import Child, Supervisor
from harness.vote import mint

PLAN: Final = Plan(scenario="ladder", flusher=FlusherPlan(interval_s=0.2))
MOST_WRITERS: Final = 32
START_LIMIT_S: Final = 60.0  # to start all of them takes 10 s on two cores
READY_LIMIT_S: Final = 30.0  # to connect and vote once takes milliseconds
LEAD_NS: Final = 50_000_000  # from the order to start until the start: all have heard it by then
END_LIMIT_S: Final = 30.0  # of a vote that waits for the lock: a second or little more
DRAIN_LIMIT_S: Final = 30.0  # of all drains after the last vote: seconds at most
FIRST_OF_ALL: Final = "-20"  # niceness
LOOK_S: Final = 0.1  # at whether a process has died
READ_LIMIT_S: Final = 30.0  # for all ballots


class WritersResult(NamedTuple):
    """What was measured in one run. Latencies are those of votes that began in the time."""

    mode: str
    writers: int
    start_ns: int  # CLOCK_MONOTONIC
    lasts_s: float
    votes_per_s: float  # acknowledged in the time
    p50_ms: float
    p99_ms: float
    round_trips: float  # per vote, tries for a lock included
    takeovers: int
    gave_up: int  # votes that did not go into the queue because patience had ended
    acknowledged: int  # in and out of the time
    lost: int | None  # acknowledged and not in the database; None if the queue did not empty
    doubled: int  # ballots delivered more than once
    drains: int
    writers_cpu_s: float
    memcached_cpu_s: float  # from the start to the last vote's end


class Post(NamedTuple):
    """A process of the pool, and the line to it."""

    child: Child
    line: Connection


class Writers:
    """A pool of processes that is measured as often as wanted; started by `started_writers`."""

    def __init__(self, supervisor: Supervisor, *, ahead: bool = False) -> None:
        self._supervisor = supervisor
        self._ahead = ahead
        self._folder = supervisor.temporary_directory()
        self._posts: list[Post] = []
        self._lines: dict[int, Connection] = {}  # by process id
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._folder / "orders"))
        self._door.listen(1 + MOST_WRITERS)
        self._door.setblocking(False)
        self._database = start_mariadb(supervisor, PLAN.database, self._folder / "mariadb.log")

    def measure(
        self, mode: str, writers: int, lasts_s: float, journal_folder: Path | None = None
    ) -> WritersResult:
        """So many writers for so long on an empty queue with fresh daemons and empty tables.

        Journals of all processes go into the folder, if one is given. Raises ServiceError when a
        process died or did not answer in time; then this pool is done for.
        """
        if not 1 <= writers <= MOST_WRITERS:
            raise ValueError(f"1 to {MOST_WRITERS} writers, not {writers}")
        url = self._database.url
        schema.drop(url)
        schema.create(url, PLAN.poll.poll())
        with self._daemons(protocol_of(mode, PLAN).daemons) as daemons:
            deployment = Deployment(
                plan=PLAN,
                mode=mode,
                memcached=tuple(daemon.address for daemon in daemons),
                database=url,
                folder=str(journal_folder or self._folder),
            )
            return self._run(deployment, writers, lasts_s, daemons, journal_folder is not None)

    @property
    def database_url(self) -> str:
        """Where the ballots of the run before lie until the next."""
        return self._database.url

    @property
    def pids(self) -> list[int]:
        """Of all processes of the pool; the first drains."""
        return [post.child.pid for post in self._posts]

    def close(self) -> None:
        """Hang up on all processes, which then end; the supervisor sees to it that they do."""
        for line in self._lines.values():
            line.close()
        self._door.close()

    @contextmanager
    def _daemons(self, number: int) -> Iterator[list[MemcachedServer]]:
        """So many fresh memcacheds."""
        log = self._folder / "memcached.log"
        daemons: list[MemcachedServer] = []
        try:
            while len(daemons) < number:
                daemons.append(start_memcached(self._supervisor, PLAN.memcached, log))
            yield daemons
        finally:
            for daemon in daemons:
                daemon.stop()

    def _run(
        self,
        deployment: Deployment,
        writers: int,
        lasts_s: float,
        daemons: list[MemcachedServer],
        journal: bool,
    ) -> WritersResult:
        drainer, *voters = self._posts_for(1 + writers)
        drains = protocol_of(deployment.mode, PLAN).drain is not None
        if drains:
            self._make_ready([drainer], deployment, 0, journal)
        # One vote makes lock, pointer or epoch, so that the others do not all make them at once.
        self._make_ready(voters[:1], deployment, 1, journal)
        self._make_ready(voters[1:], deployment, 2, journal)
        processes = [psutil.Process(daemon.child.pid) for daemon in daemons]
        if self._ahead:
            put_ahead()
        before_s = cpu_s(processes)
        start = Start(time.monotonic_ns() + LEAD_NS, lasts_s)
        for post in [drainer, *voters] if drains else voters:
            _tell(post, start)
        voted: list[Voted] = [self._hear(post, lasts_s + END_LIMIT_S) for post in voters]
        daemons_cpu_s = cpu_s(processes) - before_s
        drained = Drained(0, 0, True)
        if drains:
            _tell(drainer, Finish(DRAIN_LIMIT_S))
            drained = self._hear(drainer, DRAIN_LIMIT_S + READY_LIMIT_S)
        lost, doubled = fate(deployment.database, voted)
        latencies_ms = np.concatenate([np.asarray(each.latencies_ns) for each in voted]) / 1e6
        return WritersResult(
            mode=deployment.mode,
            writers=writers,
            start_ns=start.at_ns,
            lasts_s=lasts_s,
            votes_per_s=sum(each.in_time for each in voted) / lasts_s,
            p50_ms=float(np.percentile(latencies_ms, 50)),
            p99_ms=float(np.percentile(latencies_ms, 99)),
            round_trips=sum(each.round_trips for each in voted) / len(latencies_ms),
            takeovers=sum(each.takeovers for each in voted),
            gave_up=sum(each.gave_up for each in voted),
            acknowledged=sum(each.votes - len(each.not_acknowledged) for each in voted),
            lost=lost if drained.empty else None,
            doubled=doubled,
            drains=drained.drains,
            writers_cpu_s=sum(each.cpu_s for each in voted),
            memcached_cpu_s=daemons_cpu_s,
        )

    def _make_ready(
        self, posts: list[Post], deployment: Deployment, first: int, journal: bool
    ) -> None:
        for number, post in enumerate(posts, first):
            _tell(post, Order(number, deployment, journal))
        for post in posts:
            heard = self._hear(post, READY_LIMIT_S)
            assert isinstance(heard, Ready), heard

    def _hear(self, post: Post, limit_s: float) -> Any:
        """Its next message. Raises ServiceError when it died, or says nothing in time."""
        try:
            self._supervisor.wait_until_ready(post.child, lambda: post.line.poll(LOOK_S), limit_s)
            return post.line.recv()
        except (EOFError, OSError) as error:
            raise _hung_up(post) from error

    def _posts_for(self, processes: int) -> list[Post]:
        """So many processes; those that are missing are started, all at once."""
        log = self._folder / "writers.log"
        argv = [sys.executable, "-m", "bench.writer", str(self._folder / "orders")]
        numbers = range(len(self._posts), processes)
        children = [self._supervisor.spawn(f"writer {n}", argv, log=log) for n in numbers]
        for child in children:
            self._supervisor.wait_until_ready(child, partial(self._has_come, child), START_LIMIT_S)
            self._posts.append(Post(child, self._lines[child.pid]))
        return self._posts[:processes]

    def _has_come(self, child: Child) -> bool:
        """Whether it is on the line; whoever else is at the door is let in too."""
        with suppress(BlockingIOError):
            for _ in range(1 + MOST_WRITERS):
                caller, _ = self._door.accept()
                line = Connection(caller.detach())
                self._lines[line.recv()] = line
        return child.pid in self._lines


@contextmanager
def started_writers(*, ahead: bool = False) -> Iterator[Writers]:
    """A pool with services of its own; nothing is left of it afterwards. Raises ServiceError.

    `ahead`: of whatever else the machine does, as far as that is allowed; see `put_ahead`.
    """
    with Supervisor() as supervisor, closing(Writers(supervisor, ahead=ahead)) as pool:
        yield pool


def put_ahead() -> None:
    """All our descendants before everybody else on the cores, where the kernel lets us (as root).

    Each has a session of its own, and so a group of its own in the scheduler: it is the groups
    that compete, and theirs is the niceness that counts. Among our own nothing changes.
    """
    for process in psutil.Process().children(recursive=True):
        with suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(FIRST_OF_ALL)


def _tell(post: Post, message: Order | Start | Finish) -> None:
    """Raises ServiceError when it has died."""
    try:
        post.line.send(message)
    except OSError as error:
        raise _hung_up(post) from error


def _hung_up(post: Post) -> ServiceError:
    child = post.child
    return ServiceError(f"{child.name} hung up: {child.log_tail()}")


def fate(database: str, voted: Sequence[Voted]) -> tuple[int, int]:
    """How many acknowledged votes the database lacks, and how many it was given twice."""
    ballots = read_ballots(database, READ_LIMIT_S)
    counted = ballots["vote"].to_numpy()
    lost = 0
    for writer, each in enumerate(voted, 1):
        first = mint(writer, 0)
        ids = np.arange(first, first + each.votes, dtype=np.uint64)
        acknowledged = np.delete(ids, each.not_acknowledged)
        lost += len(acknowledged) - int(np.isin(acknowledged, counted).sum())
    return lost, int((ballots["deliveries"] > 1).sum())


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """The processor time that they have used, in user and kernel."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))
