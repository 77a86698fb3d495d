"""A thread of site or flusher at work: it runs machines, and computes between their commands.

Theory of operation
    One burst leads from the arrival of a reply to the departure of the next command. It is
    known how long it takes once the machine has said what it wants next; so the machine is asked
    when the thread is given a core, and what it wants is done when the burst is over.

    A process that is stopped (`Process.stop`) computes no more: what was on its way out of a burst
    stays with it, what arrives meanwhile waits, and all goes on when it is continued. One that has
    died computes no more either; what it had sent has been sent.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from harness.armed import step
from harness.history.journal import Role
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    Command,
    Delete,
    Get,
    Incr,
    KeyKind,
    Machine,
    Now,
    Patience,
    Pipeline,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.simulation.cores import Cores, Thread
from harness.simulation.daemons import Answered, CountBallots
from harness.simulation.events import Act, Events
from harness.simulation.lines import Line, unheard
from harness.simulation.process import Process
from harness.simulation.records import ThreadJournal
from harness.simulation.service_times import Draw

OVER: Final = Reply(Status.OVER)
NOT_YET: Final = Reply(Status.OK)
PATIENCE: Final = COMMAND_CODES[Patience]
OF_MEMCACHED: Final = frozenset({Get, Set, Add, Incr, Delete})
UNRECORDED: Final = KeyKind.NONE
Connection: TypeAlias = Callable[[Any, Answered], None]


class Armed:
    """Faults that wait at steps of a protocol: each stops the process that comes there first."""

    def __init__(self) -> None:
        self.steps: dict[int, Callable[[Process], None]] = {}

    def met(self, role: Role, command: Command) -> Callable[[Process], None] | None:
        """The fault that is armed at a command, which is over with this."""
        commands = command.commands if isinstance(command, Pipeline) else (command,)
        for each in commands:
            code = COMMAND_CODES.get(type(each))
            if code is not None:
                key = getattr(each, "key", None)
                here = step(role, code, key.kind if key else KeyKind.NONE)
                if here in self.steps:
                    return self.steps.pop(here)
        return None


class Habits:
    """What all performers of a world share."""

    def __init__(
        self,
        events: Events,
        client_ns: Draw,
        call_each_ns: int,
        awakened_ns: Draw,
        oversleep_ns: Draw,
        patience_ns: int,
        armed: Armed,
    ) -> None:
        self.events = events
        self.client_ns = client_ns
        self.half_call_ns = call_each_ns // 2
        self.awakened_ns = awakened_ns
        self.oversleep_ns = oversleep_ns
        self.patience_ns = patience_ns
        self.armed = armed


class Performer(Thread):
    """Runs one machine after the other, each journalled as an operation of its own."""

    __slots__ = (
        "_armed",
        "_asked",
        "_asked_ns",
        "_awake",
        "_client_ns",
        "_database",
        "_done",
        "_epilogue_ns",
        "_events",
        "_finishing",
        "_habits",
        "_half_call_ns",
        "_hear",
        "_machine",
        "_memcached",
        "_part_ns",
        "_prologue_ns",
        "_reply",
        "_result",
        "_role",
        "journal",
        "lines",
        "process",
    )  # fmt: skip

    def __init__(
        self,
        cores: Cores,
        process: Process,
        role: Role,
        habits: Habits,
        memcached: Sequence[Connection],
        database: Connection,
        journal: ThreadJournal,
        lines: Sequence[Line] = (),
    ) -> None:
        """`lines`: the same connections, where something can befall them."""
        super().__init__(cores, process.gil)
        self.process = process
        self.lines = lines
        self.journal = journal
        self._role = role
        self._habits = habits
        self._events = habits.events
        self._client_ns = habits.client_ns
        self._half_call_ns = habits.half_call_ns
        self._armed = habits.armed
        self._memcached = memcached
        self._database = database
        self._machine: Machine[Any] | None = None
        self._done: Callable[[Any], None] | None = None
        self._asked: Any = None  # the command that is under way, or about to be
        self._asked_ns = 0
        self._reply: Any = None
        self._hear: Answered = self._answered  # bound once: this is the hot path of each command
        self._awake: Act = self._ready
        self._prologue_ns = self._epilogue_ns = 0
        self._part_ns = 0  # of the computing that a sleep has parted
        self._result: Any = None
        self._finishing = False

    def perform(
        self,
        machine: Machine[Any],
        done: Callable[[Any], None],
        *,
        queue: int = 0,
        prologue_ns: int = 0,
        epilogue_ns: int = 0,
    ) -> None:
        """Run the machine to its end, then call `done` with what it returned.

        `prologue_ns`, `epilogue_ns`: what is computed before its first command, after its last.
        """
        self._machine, self._done = machine, done
        self._prologue_ns, self._epilogue_ns = prologue_ns, epilogue_ns
        self._reply = self._asked = None
        self.journal.start_operation(queue)
        if not self._finishing:  # otherwise it computes as it is
            self._ready()

    def leave_open(self) -> None:
        """The process has died: a command that was sent, and not heard of, stays open in the
        journal."""
        asked = self._asked
        for line in self.lines:
            exchange = line.exchange
            if self._machine is not None and exchange is not None and exchange.command is asked:
                self._write(asked, unheard(asked, Status.LOST), 0)

    def granted(self, start_ns: int) -> int:
        """Hear the reply, learn what is wanted next."""
        if self.process.dead:
            return 0
        asked = self._asked
        if asked is None:
            self._part_ns = 0
            return self._prologue_ns + self._ask_machine(None, start_ns + self._prologue_ns)
        kind = type(asked)
        if kind is Sleep:
            reply = Reply(Status.OK, start_ns - self._asked_ns)
            return self._habits.awakened_ns() + self._ask_machine(reply, start_ns)
        reply = self._reply
        if kind in OF_MEMCACHED:
            if asked.key.kind is not UNRECORDED:
                self.journal.memcached(asked, reply, start_ns + self._half_call_ns)
        else:
            self._record(asked, reply, start_ns)
        return self._ask_machine(reply, start_ns)

    def computed(self) -> int | None:
        asked = self._asked
        if self.process.stopped:
            self.process.hold(self._depart)
        elif self.process.dead:
            return None
        elif type(asked) in OF_MEMCACHED and not self._armed.steps:
            self.journal.begin_ns = self._events.now_ns - self._half_call_ns
            self._memcached[asked.key.daemon](asked, self._hear)
        elif asked is not None:
            self._depart()
        elif self._finish():
            return self.granted(self._events.now_ns)
        return None

    def _ask_machine(self, reply: Reply | None, now_ns: int) -> int:
        """What the machine wants next, into `_asked`; how long it takes to ask for it."""
        machine = self._machine
        assert machine is not None
        asked: Any
        try:
            asked = next(machine) if reply is None else machine.send(reply)
            while (kind := type(asked)) is Patience or kind is Now:
                if kind is Patience:
                    asked = machine.send(self._patience(asked, now_ns))
                else:
                    asked = machine.send(Reply(Status.OK, now_ns))
        except StopIteration as ended:
            self._asked = None
            self._machine = None
            self._result = ended.value
            return self._epilogue_ns
        self._asked = asked
        # A sleep on the way from one command to the next parts the computing in two.
        if self._part_ns:
            part_ns, self._part_ns = self._part_ns, 0
            return part_ns
        client_ns = self._client_ns()
        if kind is Sleep:
            self._part_ns = client_ns // 2
            return client_ns - self._part_ns
        return client_ns

    def _patience(self, asked: Patience, now_ns: int) -> Reply:
        if asked.slept_ns < self._habits.patience_ns:
            return NOT_YET
        self.journal.patience_over(PATIENCE, asked.slept_ns, now_ns)
        return OVER

    def _depart(self) -> None:
        """The burst is over: send the command, or sleep, or be done."""
        asked = self._asked
        if asked is None:
            if self._finish():
                self._ready()
            return
        if self._armed.steps:
            stop = self._armed.met(self._role, asked)
            if stop is not None:
                self.process.hold(self._depart)
                stop(self.process)
                return
        now_ns = self._events.now_ns
        self._asked_ns = self.journal.begin_ns = now_ns
        kind = type(asked)
        if kind in OF_MEMCACHED:
            self.journal.begin_ns = now_ns - self._half_call_ns
            self._memcached[asked.key.daemon](asked, self._hear)
        elif kind is Sleep:
            wake_ns = now_ns + asked.duration_ns + self._habits.oversleep_ns()
            self._events.at(wake_ns, self._awake)
        elif kind is not Pipeline:
            self._database(asked, self._hear)
        elif asked.commands:
            self._memcached[asked.commands[0].key.daemon](asked, self._hear)
        else:
            self._hear(Reply(Status.OK))

    def _finish(self) -> bool:
        """The machine has ended; whether there is another one already."""
        done = self._done
        assert done is not None
        self._finishing = True
        done(self._result)
        self._finishing = False
        return self._machine is not None

    def _answered(self, reply: Reply) -> None:
        if self.process.dead:
            return
        self._reply = reply
        if self._gil is None and not self.process.stopped:
            self.cores.wake(self)
        else:
            self._ready()

    def _ready(self) -> None:
        if self.process.dead:
            return
        if self.process.stopped:
            self.process.hold(self.wake)
            return
        gil = self._gil
        if gil is None or gil.take(self):
            self.cores.wake(self)

    def _write(self, asked: Any, reply: Reply, end_ns: int) -> None:
        """The record of any command."""
        if type(asked) not in OF_MEMCACHED:
            self._record(asked, reply, end_ns)
        elif asked.key.kind is not UNRECORDED:
            self.journal.memcached(asked, reply, end_ns)

    def _record(self, asked: Any, reply: Reply, end_ns: int) -> None:
        """Into the journal, as a real site does, in which nothing is of results pages."""
        kind = type(asked)
        if kind is Pipeline:
            for command, part in zip(asked.commands, reply.parts, strict=True):
                self.journal.memcached(command, part, end_ns)
        elif kind is not CountBallots:
            self.journal.database(asked, reply, end_ns)
