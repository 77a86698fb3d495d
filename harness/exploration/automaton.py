"""Where a machine is: a node for each history of replies, and the command that it asks for there.

The real generator is run once for each node, when it is first met; from then on a step is a look
into a table. A pipeline is taken apart: its commands are steps, and the replies to some of them
are part of the history. A process that has ended, or has died, keeps no history.

Histories may be merged further. Where each command still to come has few replies (stored or not,
committed or not), all of them are tried; machines that ask for the same after each are at one node,
whatever they have read before.
"""

from collections.abc import Hashable
from typing import Any, Final, NamedTuple, TypeVar

from harness.errors import PlanError
from harness.exploration.bounds import READER, WRITER, Bounds, Reductions
from harness.exploration.store import EXISTS, MISSING, OK, is_memcached, message_of
from harness.exploration.suspended import Cas, Incomparable, Memory, works
from harness.protocol.commands import (
    Add,
    Command,
    Delete,
    Get,
    Incr,
    InsertBallot,
    InsertBallots,
    KeyKind,
    Machine,
    MemcachedCommand,
    Now,
    Patience,
    Pipeline,
    ReadHeads,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.protocol.queue import Drained, Queue, Receipt, VotingProtocol

QUEUE: Final = Queue.named("queue")
LOST: Final = Reply(Status.LOST)
NOT_YET: Final = Reply(Status.OK)
NO_TIME: Final = Reply(Status.OK)  # how long every nap takes
ACKNOWLEDGED: Final = (Receipt.QUEUED, Receipt.STORED)
MOST_TRIED: Final = 6  # commands of a pipeline: their replies are tried in all combinations
UNCHANGING: Final = (Get, ReadHeads, Now, Sleep)
MOST_STEPS: Final = 2_000  # of one machine; the longest in any bounds that end takes some hundred


Owning = TypeVar("Owning", Reply, Delete)


class Actor(NamedTuple):
    """One process: a writer with its vote, or a reader."""

    role: str
    place: int  # among those of its role

    @property
    def name(self) -> str:
        return f"{self.role} {self.place + 1}"


class Node(NamedTuple):
    """Where one process is."""

    actor: Actor
    drains: int  # of a reader: those still to end, this one included
    history: tuple[Reply, ...]
    command: Command | None  # asked for now; None: this process has ended
    parts: int = 0  # of the pipeline still unanswered, this command included; 0: no pipeline
    broken: bool = False  # the pipeline's connection is: replies come no more
    attempt: int = 0  # of a lock: the history's length before it
    patient: bool = False  # giving up takes no lock from anybody
    fresh: bool = False  # has done nothing yet that anyone could notice
    inside: bool = False  # holds the lock, by a clean or cold grant
    idle: bool = False  # nothing that it has done has changed anything
    result: Receipt | Drained | None = None
    known: Hashable = None  # what the machine remembers; None: not to be seen
    shape: Hashable = ()  # equal shapes, equal futures; the process's own number is -1 in it


class Futures(NamedTuple):
    """Which replies a command may get, if they are few."""

    merge: bool = False
    lost: bool = False  # replies may get lost

    def replies(self, node: Node, owner: int) -> tuple[Reply, ...]:
        """All of them; none if they are many, or not to be tried."""
        command = node.command
        if not self.merge or node.parts > MOST_TRIED:
            return ()
        if isinstance(command, Add):
            cas = owner if command.key.kind is KeyKind.LOCK else 0
            known: tuple[Reply, ...] = (Reply(Status.OK, cas=cas), EXISTS)
        elif isinstance(command, Delete):
            known = (OK, MISSING, EXISTS) if command.cas else (OK, MISSING)
        elif isinstance(command, Set):
            known = (OK,)
        elif isinstance(command, InsertBallots):
            return (OK, EXISTS) if command.moves else (OK,)
        else:
            return (OK,) if isinstance(command, InsertBallot | Sleep) else ()
        return (*known, LOST) if self.lost else known


class Automaton:
    """One process's nodes, by number. Number 0 is the start, number 1 the end."""

    def __init__(
        self,
        protocol: VotingProtocol,
        actor: Actor,
        drains: int,
        owner: int,
        futures: Futures,
        *,
        repeat_idle: bool = False,
        merge_known: bool = False,
    ) -> None:
        """`repeat_idle`: after a drain that changed nothing, the same drain is still to come."""
        self._memory = Memory(owner) if merge_known and works() else None
        self.actor = actor
        self._repeat_idle = repeat_idle and actor.role == READER
        self.owner = owner  # its number in the CAS of a lock
        self.nodes: list[Node] = []
        self._protocol = protocol
        self._futures = futures
        self._shapes: dict[Hashable, int] = {}
        self._numbers: dict[tuple[int, tuple[Reply, ...]], int] = {}
        self._steps: dict[tuple[int, Reply], int] = {}
        self._ends: dict[int, int] = {}
        self.start = self.number(drains, ())
        self.end = len(self.nodes)
        self.nodes.append(Node(actor, 0, (), None, shape="end"))

    def number(self, drains: int, history: tuple[Reply, ...]) -> int:
        """The node with this history."""
        found = self._numbers.get((drains, history))
        if found is None:
            node = self._run(drains, history)
            shape = self._shape(node)
            found = self._numbers[drains, history] = self._shapes.setdefault(shape, len(self.nodes))
            if found == len(self.nodes):
                self.nodes.append(node._replace(shape=shape))
        return found

    def _shape(self, node: Node) -> Hashable:
        """What lies ahead of the node, if all replies can be tried; else what lies behind it."""
        replies = self._futures.replies(node, self.owner)
        if node.result is not None:
            return (node.drains, said_of(node.result), self._repeat_idle and node.idle)
        if not replies and node.known is not None:
            return (node.drains, node.known)
        if not replies:
            return (node.drains, tuple(_anonymous(reply, self.owner) for reply in node.history))
        command = node.command
        if isinstance(command, Delete):
            command = _anonymous(command, self.owner)
        ahead = [self.number(node.drains, (*node.history, reply)) for reply in replies]
        if LOST in replies:
            ahead.append(self.lose_rest_of(node))
        idle = self._repeat_idle and node.idle
        flags = (node.drains, node.parts, node.broken, node.fresh, node.inside, idle)
        return (type(command), command, flags, tuple(self.nodes[n].shape for n in ahead))

    def step(self, node: int, reply: Reply) -> int:
        """The node after this reply; a lock attempt that failed leads back to where it began."""
        found = self._steps.get((node, reply))
        if found is None:
            here = self.nodes[node]
            found = self.number(here.drains, (*here.history, reply))
            if isinstance(here.command, Patience) and reply.status is not Status.OVER:
                again = self.number(here.drains, here.history[: here.attempt])
                if same_command(self.nodes[again].command, self.nodes[found].command):
                    found = again
            self._steps[node, reply] = found
        return found

    def lose_rest(self, node: int) -> int:
        """The node after the connection broke before this command, and all behind it, arrived."""
        return self.lose_rest_of(self.nodes[node])

    def lose_rest_of(self, node: Node) -> int:
        """The same for a node that has no number yet."""
        return self.number(node.drains, node.history + (LOST,) * max(1, node.parts))

    def after(self, node: int) -> int:
        """From a machine's result to the reader's next drain, or to the end."""
        here = self.nodes[node]
        if self._repeat_idle and here.idle:
            return self.number(here.drains, ())
        if here.drains > 1:
            return self.number(here.drains - 1, ())
        return self.end

    def _machine(self) -> Machine[Receipt] | Machine[Drained]:
        if self.actor.role == WRITER:
            return self._protocol.vote(QUEUE, message_of(self.actor.place))
        assert self._protocol.drain is not None
        return self._protocol.drain(QUEUE)

    def _run(self, drains: int, history: tuple[Reply, ...]) -> Node:
        """Give a new machine these replies. Raises PlanError if it never ends."""
        if len(history) > MOST_STEPS:
            raise PlanError(f"{self.actor.name} goes on after {MOST_STEPS} commands")
        trace = Trace(history)
        machine = self._machine()
        try:
            command = next(machine)
            while True:
                reply = trace.answer(command)
                if reply is None:
                    break
                command = machine.send(reply)
        except StopIteration as finished:
            return Node(self.actor, drains, history, None, idle=trace.idle, result=finished.value)
        node = trace.node(self.actor, drains, command)
        return node._replace(known=self._known(machine, command, trace, node))

    def _known(self, machine: Machine[Any], asked: Command, trace: "Trace", node: Node) -> Hashable:
        """What it remembers, and what it cannot know; None if that is not to be seen."""
        if not self._memory:
            return None
        try:
            known = self._memory.known_by(machine, asked)
        except Incomparable:
            return None
        parts = tuple(_anonymous(part, self.owner) for part in trace.parts)
        flags = (node.broken, node.fresh, node.inside, self._repeat_idle and node.idle)
        return (known, parts, flags, node.patient, trace.attempt_flags)


def same_command(one: Command | None, other: Command | None) -> bool:
    """Whether they ask for the same; as tuples, a `Get` and an `Incr` of one key are equal."""
    return type(one) is type(other) and one == other


def said_of(result: Receipt | Drained) -> str:
    """How a machine ended."""
    return result.value if isinstance(result, Receipt) else result.end.value


def _anonymous(what: Owning, owner: int) -> Owning:
    """A reply or a delete, with a CAS of its own process's that does not say whose."""
    return what._replace(cas=-1) if what.cas == owner else what


class Trace:
    """A history as it is handed to a machine, and what it says about the lock."""

    def __init__(self, history: tuple[Reply, ...]) -> None:
        self.history = history
        self.used = 0
        self.attempt = 0
        self.patient = False
        self.fresh = True
        self.inside = False
        self.idle = True
        self.before = self.attempt_flags = (True, True)  # fresh and idle
        self.parts: list[Reply] = []

    def answer(self, command: Command) -> Reply | None:
        """The reply to the command, None when the history does not have it (all) yet."""
        self.parts = []
        if not isinstance(command, Pipeline):
            return self._next(command)
        for single in command.commands:
            reply = self._next(single)
            if reply is None:
                return None
            self.parts.append(reply)
        return Reply(Status.OK, parts=tuple(self.parts))

    def _next(self, command: Command) -> Reply | None:
        if self.used == len(self.history):
            return None
        reply = self.history[self.used]
        if reply.cas:
            reply = reply._replace(cas=Cas(reply.cas))
        self.before = (self.fresh, self.idle)
        if not isinstance(command, Sleep | Patience | Now):
            self.fresh = False
        self.idle = self.idle and changes_nothing(command, reply)
        if (single := is_memcached(command)) and single.key.kind is KeyKind.LOCK:
            self._lock(single, reply)
        self.used += 1
        return reply

    def _lock(self, command: MemcachedCommand, reply: Reply) -> None:
        if isinstance(command, Incr | Add):
            self.attempt = self.used
            self.attempt_flags = self.before
            self.patient = isinstance(command, Add) and command.lifetime_s > 0
            won = reply.number == 1 if isinstance(command, Incr) else reply.status is Status.OK
            self.inside = won or (isinstance(command, Incr) and reply.status is Status.MISSING)
        elif isinstance(command, Delete) or (isinstance(command, Set) and command.value == b"0"):
            self.inside = False

    def node(self, actor: Actor, drains: int, command: Command) -> Node:
        """The node at the history's end."""
        remaining, broken = 0, False
        if isinstance(command, Pipeline):
            remaining = len(command.commands) - len(self.parts)
            broken = bool(self.parts) and self.parts[-1].status is Status.LOST
            command = command.commands[len(self.parts)]
        elif isinstance(command, InsertBallots):
            command = command._replace(messages=tuple(command.messages))  # to be a key of tables
        return Node(
            actor,
            drains,
            self.history,
            command,
            parts=remaining,
            broken=broken,
            attempt=self.attempt,
            patient=self.patient,
            fresh=self.fresh,
            inside=self.inside,
            idle=self.idle,
        )


def changes_nothing(command: Command, reply: Reply) -> bool:
    """Whether the command, by its reply, left everything as it was; what bounds allow included."""
    if isinstance(command, Add | Delete | InsertBallots):
        return reply.status in (Status.EXISTS, Status.MISSING)
    if isinstance(command, Patience):
        return reply.status is not Status.OVER
    return isinstance(command, UNCHANGING) and reply.status is not Status.LOST


def automata(
    protocol: VotingProtocol, bounds: Bounds, reductions: Reductions
) -> tuple[Automaton, ...]:
    """All processes, the writers first."""
    actors = [Actor(WRITER, index) for index in range(bounds.writers)]
    actors += [Actor(READER, index) for index in range(bounds.readers)]
    futures = Futures(reductions.merge_futures, bounds.lost_reply)
    return tuple(
        Automaton(
            protocol,
            actor,
            bounds.drains if actor.role == READER else 1,
            owner,
            futures,
            repeat_idle=reductions.idle_drains,
            merge_known=reductions.merge_known,
        )
        for owner, actor in enumerate(actors, 1)
    )
