"""memcached and the database as machines at work: threads that compute, and a disk.

What they answer is plain data's business (`memcached`, `database`); here is when.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

from harness.protocol.commands import (
    Command,
    DatabaseCommand,
    InsertBallot,
    InsertBallots,
    MemcachedCommand,
    Pipeline,
    ReadHeads,
    Reply,
    Status,
)
from harness.simulation.cores import Cores, Thread
from harness.simulation.events import Act, Events
from harness.simulation.memcached import SimulatedMemcached
from harness.simulation.service_times import Draw

MEMCACHED_THREADS: Final = 2  # as services.memcached starts it
Answered: TypeAlias = Callable[[Reply], None]


class CountBallots:
    """What a results page asks of the database; no protocol's business."""


COUNT: Final = CountBallots()
Asked: TypeAlias = Command | CountBallots


class Ballots(Protocol):
    """The database as plain data."""

    def execute(self, command: DatabaseCommand, now_ns: int) -> Reply: ...


class MemcachedThread(Thread):
    """One thread of the daemon: carries out one command after the other."""

    __slots__ = ("_asked", "_each_ns", "_events", "_parts", "_pipelined_ns", "_store")

    def __init__(
        self, cores: Cores, store: SimulatedMemcached, each_ns: Draw, pipelined_ns: Draw
    ) -> None:
        super().__init__(cores)
        self._store = store
        self._events = cores.events
        self._each_ns = each_ns
        self._pipelined_ns = pipelined_ns
        self._asked: deque[tuple[Any, Answered]] = deque()
        self._parts: list[Reply] = []

    def ask(self, command: MemcachedCommand | Pipeline, answered: Answered) -> None:
        """A command has arrived."""
        asked = self._asked
        asked.append((command, answered))
        if len(asked) == 1:
            self.cores.wake_next(self)

    def granted(self, start_ns: int) -> int:  # noqa: ARG002
        return self._each_ns()

    def computed(self) -> int | None:
        """One command at a time, also of a pipeline: others may come in between."""
        command, answered = self._asked[0]
        if type(command) is Pipeline:
            parts, commands = self._parts, command.commands
            if len(parts) < len(commands):
                parts.append(self._store.execute(commands[len(parts)], self._events.now_ns))
                if len(parts) < len(commands):
                    return self._pipelined_ns()
            self._parts = []
            reply = Reply(Status.OK, parts=tuple(parts))
        else:
            reply = self._store.execute(command, self._events.now_ns)
        self._asked.popleft()
        answered(reply)
        return self._each_ns() if self._asked else None


class MemcachedDaemon:
    """One memcached; connections are dealt to its threads in turn."""

    def __init__(
        self, cores: Cores, store: SimulatedMemcached, each_ns: Draw, pipelined_ns: Draw
    ) -> None:
        self.store = store
        self._threads = deque(
            MemcachedThread(cores, store, each_ns, pipelined_ns) for _ in range(MEMCACHED_THREADS)
        )

    def connect(self) -> Callable[[Any, Answered], None]:
        """A new connection: where commands are to be sent."""
        self._threads.rotate(-1)
        return self._threads[0].ask


class CommitLog:
    """The disk, which makes all durable that waits for it, and then what came meanwhile."""

    def __init__(self, events: Events, commit_ns: Draw, wait_ns: int) -> None:
        """`wait_ns`: how long the first waits for others before it goes ahead (group commit)."""
        self._events = events
        self._commit_ns = commit_ns
        self._wait_ns = wait_ns
        self._waiting: list[Act] = []
        self._busy = False

    def commit(self, committed: Act) -> None:
        self._waiting.append(committed)
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = True
        self._events.at(self._events.now_ns + self._wait_ns, self._flush)

    def _flush(self) -> None:
        together, self._waiting = self._waiting, []

        def done() -> None:
            self._busy = False
            for committed in together:
                committed()
            if self._waiting and not self._busy:
                self._begin()

        self._events.at(self._events.now_ns + self._commit_ns(), done)


class Costs:
    """What the database computes for a command, drawn."""

    def __init__(self, insert_ns: Draw, row_ns: Draw, count_row_ns: Draw) -> None:
        self._insert_ns = insert_ns
        self._row_ns = row_ns
        self._count_row_ns = count_row_ns

    def of(self, command: Asked, ballots: int) -> int:
        if isinstance(command, CountBallots):
            return self._insert_ns() + ballots * self._count_row_ns()
        if isinstance(command, InsertBallots):
            return self._insert_ns() + len(command.messages) * self._row_ns()
        return self._insert_ns()


class DatabaseThread(Thread):
    """The server's thread for one connection."""

    __slots__ = ("_answered", "_command", "_server")

    def __init__(self, cores: Cores, server: "Database") -> None:
        super().__init__(cores)
        self._server = server
        self._command: Any = None
        self._answered: Answered | None = None

    def ask(self, command: Asked, answered: Answered) -> None:
        """A command has arrived; its connection has no other under way."""
        self._command, self._answered = command, answered
        self.cores.wake_next(self)

    def granted(self, start_ns: int) -> int:  # noqa: ARG002
        return self._server.costs.of(self._command, self._server.rows)

    def computed(self) -> int | None:
        if isinstance(self._command, (ReadHeads, CountBallots)):
            self._reply()
        else:
            self._server.log.commit(self._reply)
        return None

    def _reply(self) -> None:
        """What was committed is there from now on."""
        assert self._answered
        self._answered(self._server.execute(self._command, self.cores.events.now_ns))


class Database:
    """The database server; each connection has a thread."""

    def __init__(self, cores: Cores, ballots: Ballots, costs: Costs, log: CommitLog) -> None:
        self.costs = costs
        self.log = log
        self.rows = 0
        """Votes that were delivered: about as many ballots lie there to be counted."""
        self._ballots = ballots
        self._cores = cores

    def connect(self) -> Callable[[Any, Answered], None]:
        """A new connection: where commands are to be sent."""
        return DatabaseThread(self._cores, self).ask

    def execute(self, command: DatabaseCommand | CountBallots, now_ns: int) -> Reply:
        if isinstance(command, CountBallots):
            return Reply(Status.OK)
        reply = self._ballots.execute(command, now_ns)
        if reply.status is Status.OK:
            if isinstance(command, InsertBallots):
                self.rows += len(command.messages)
            self.rows += isinstance(command, InsertBallot)
        return reply
