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
from harness.simulation.process import Process
from harness.simulation.service_times import Draw

MEMCACHED_THREADS: Final = 2  # as services.memcached starts it
Answered: TypeAlias = Callable[[Reply], None]
Execute: TypeAlias = Callable[[Any, int], Reply]
"""Carries a command out at a time, and says the reply."""
Gone: TypeAlias = Callable[[], bool]


def _never() -> bool:
    return False


class CountBallots:
    """What a results page asks of the database; no protocol's business."""


COUNT: Final = CountBallots()
Asked: TypeAlias = Command | CountBallots


class Ballots(Protocol):
    """The database as plain data."""

    def execute(self, command: DatabaseCommand, now_ns: int) -> Reply: ...


class MemcachedThread(Thread):
    """One thread of the daemon: carries out one command after the other."""

    __slots__ = (
        "_asked",
        "_each_ns",
        "_events",
        "_execute",
        "_parts",
        "_pipelined_ns",
        "process",
    )

    def __init__(
        self,
        cores: Cores,
        process: Process,
        execute: Execute,
        each_ns: Draw,
        pipelined_ns: Draw,
    ) -> None:
        super().__init__(cores)
        self.process = process
        self._execute = execute
        self._events = cores.events
        self._each_ns = each_ns
        self._pipelined_ns = pipelined_ns
        self._asked: deque[tuple[Any, Answered, Execute]] = deque()
        self._parts: list[Reply] = []

    def ask(
        self,
        command: MemcachedCommand | Pipeline,
        answered: Answered,
        execute: Execute | None = None,
    ) -> None:
        """A command has arrived. `execute` carries it out, if not the store alone does."""
        asked = self._asked
        asked.append((command, answered, execute or self._execute))
        if len(asked) == 1:
            if self.process.stopped:
                self.process.hold(self.wake)
            else:
                self.cores.wake_next(self)

    def granted(self, start_ns: int) -> int:  # noqa: ARG002
        return self._each_ns()

    def computed(self) -> int | None:
        """One command at a time, also of a pipeline: others may come in between."""
        process = self.process
        if process.stopped:
            process.hold(self.wake)
            return None
        if process.dead:
            return None
        command, answered, execute = self._asked[0]
        if type(command) is Pipeline:
            parts, commands = self._parts, command.commands
            if len(parts) < len(commands):
                parts.append(execute(commands[len(parts)], self._events.now_ns))
                if len(parts) < len(commands):
                    return self._pipelined_ns()
            self._parts = []
            reply = Reply(Status.OK, parts=tuple(parts))
        else:
            reply = execute(command, self._events.now_ns)
        self._asked.popleft()
        answered(reply)
        return self._each_ns() if self._asked else None


class MemcachedDaemon:
    """One memcached; connections are dealt to its threads in turn."""

    def __init__(
        self, cores: Cores, store: SimulatedMemcached, each_ns: Draw, pipelined_ns: Draw
    ) -> None:
        self.store = store
        self.process = Process(0)
        self._cores = cores
        self._each_ns = each_ns
        self._pipelined_ns = pipelined_ns
        self._deal_threads()

    def connect(self) -> Callable[[Any, Answered], None]:
        """A new connection: where commands are to be sent."""
        self._threads.rotate(-1)
        return self._threads[0].ask

    def restart(self) -> None:
        """After its process has died: another one, with nothing in it."""
        assert self.process.dead
        self.process = Process(0)
        self.store.restart()
        self._deal_threads()

    def _deal_threads(self) -> None:
        self._threads = deque(
            MemcachedThread(
                self._cores, self.process, self.store.execute, self._each_ns, self._pipelined_ns
            )
            for _ in range(MEMCACHED_THREADS)
        )


class CommitLog:
    """The disk, which makes all durable that waits for it, and then what came meanwhile."""

    def __init__(self, events: Events, commit_ns: Draw, wait_ns: int) -> None:
        """`wait_ns`: how long the first waits for others before it goes ahead (group commit)."""
        self._events = events
        self._commit_ns = commit_ns
        self._wait_ns = wait_ns
        self.process = Process(0)
        """The server that writes it; while it is stopped nothing becomes durable."""
        self.delay_ns = 0
        """What a slow disk adds just now."""
        self._waiting: list[Act] = []
        self._busy = False

    def commit(self, committed: Act) -> None:
        self._waiting.append(committed)
        if not self._busy:
            self._begin()

    def crash(self) -> None:
        """What waits is never committed; what is being written gets there."""
        self._waiting.clear()

    def _begin(self) -> None:
        self._busy = True
        self._events.at(self._events.now_ns + self._wait_ns, self._flush)

    def _flush(self) -> None:
        if self.process.stopped:
            self.process.hold(self._flush)
            return
        together, self._waiting = self._waiting, []

        def done() -> None:
            if self.process.stopped:
                self.process.hold(done)
                return
            self._busy = False
            for committed in together:
                committed()
            if self._waiting and not self._busy:
                self._begin()

        self._events.at(self._events.now_ns + self._commit_ns() + self.delay_ns, done)


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

    __slots__ = ("_answered", "_execute", "_gone", "_server", "command", "committed", "process")

    def __init__(self, cores: Cores, server: "Database") -> None:
        super().__init__(cores)
        self.process = server.process
        self.command: Any = None
        self.committed: Act | None = None
        """What is to happen once, when it is committed and the client does not know yet."""
        self._server = server
        self._answered: Answered | None = None
        self._execute: Execute = server.execute
        self._gone: Gone = _never

    def ask(
        self,
        command: Asked,
        answered: Answered,
        execute: Execute | None = None,
        gone: Gone = _never,
    ) -> None:
        """A command has arrived; its connection has no other under way.

        `gone`: whether its client has given the connection up, which rolls a batch back.
        """
        self.command, self._answered, self._gone = command, answered, gone
        self._execute = execute or self._server.execute
        if self.process.stopped:
            self.process.hold(lambda: self.cores.wake_next(self))
        else:
            self.cores.wake_next(self)

    def granted(self, start_ns: int) -> int:  # noqa: ARG002
        return self._server.costs.of(self.command, self._server.rows)

    def computed(self) -> int | None:
        self.finish()
        return None

    def finish(self) -> None:
        """All is computed: answer what was read, commit what was written, unless it cannot be."""
        if self.process.stopped:
            self.process.hold(self.finish)
        elif self.process.dead or self._rolled_back():
            return
        elif isinstance(self.command, (ReadHeads, CountBallots)):
            self._reply()
        elif not any(hinders(self) for hinders in tuple(self._server.hindrances)):
            self.commit()

    def commit(self) -> None:
        if not self._rolled_back():
            self._server.log.commit(self._reply)

    def refuse(self) -> None:
        """Nothing is written, and the client is told so."""
        assert self._answered
        self._answered(Reply(Status.REFUSED))

    def _rolled_back(self) -> bool:
        """A batch is a transaction whose commit is a statement of its own: who gave the connection
        up has not sent it. A single vote commits by itself."""
        return isinstance(self.command, InsertBallots) and self._gone()

    def _reply(self) -> None:
        """What was committed is there from now on."""
        assert self._answered
        reply = self._execute(self.command, self.cores.events.now_ns)
        if self.committed:
            committed, self.committed = self.committed, None
            committed()
        self._answered(reply)


class Database:
    """The database server; each connection has a thread."""

    def __init__(self, cores: Cores, ballots: Ballots, costs: Costs, log: CommitLog) -> None:
        self.costs = costs
        self.log = log
        self.rows = 0
        """Votes that were delivered: about as many ballots lie there to be counted."""
        self.process = log.process
        self.hindrances: list[Callable[[DatabaseThread], bool]] = []
        """Each is asked about a transaction before its commit: whether it takes the decision."""
        self._ballots = ballots
        self._cores = cores

    def connect(self) -> Callable[[Any, Answered], None]:
        """A new connection: where commands are to be sent."""
        return DatabaseThread(self._cores, self).ask

    def restart(self) -> None:
        """After its process has died: another one, with all that was committed."""
        assert self.process.dead
        self.log.crash()
        self.process = self.log.process = Process(0)

    def execute(self, command: DatabaseCommand | CountBallots, now_ns: int) -> Reply:
        if isinstance(command, CountBallots):
            return Reply(Status.OK)
        reply = self._ballots.execute(command, now_ns)
        if reply.status is Status.OK:
            if isinstance(command, InsertBallots):
                self.rows += len(command.messages)
            self.rows += isinstance(command, InsertBallot)
        return reply
