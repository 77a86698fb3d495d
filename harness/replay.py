"""A witness over real sockets: the schedule's steps, against a real memcached, in its order.

Each process of the schedule is a thread with its own connections and the real machine. It does a
step when it is told to, so the order is the witness's; what memcached answers is memcached's own.
The database is the explorer's, and so is the clock. What befalls memcached in the schedule is done
to it: `flush_all`, or the deletion of what is to expire or to be evicted.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from harness.cache.meta_client import MetaClient
from harness.exploration.automaton import ACKNOWLEDGED, LOST, NO_TIME, NOT_YET, QUEUE
from harness.exploration.bounds import READER, WRITER
from harness.exploration.report import MEMCACHED_ITSELF, Row
from harness.exploration.schedule import say_command, say_reply, vote_name
from harness.exploration.store import (
    COMMAND_LOST,
    DEATH,
    EVICTION,
    HELD,
    JUMP_NS,
    LOCK_EXPIRES,
    MEMCACHED,
    REPLY_LOST,
    TOMBSTONES_EXPIRE,
    WIPE,
    Left,
    Store,
    apply,
    message_of,
)
from harness.exploration.undisturbed import MOST_DRAINS, first_store
from harness.exploration.witness import Witness
from harness.protocol.commands import (
    Add,
    Command,
    Delete,
    Get,
    Incr,
    InsertBallots,
    Key,
    KeyKind,
    Machine,
    MemcachedCommand,
    Patience,
    Pipeline,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.protocol.drive import drive
from harness.protocol.queue import Drained, DrainEnd, Queue, Receipt, VotingProtocol

STEP_LIMIT_S: Final = 5.0  # a step is one command, and a client gives up after 1 s
CLIENT_LIMIT_S: Final = 1.0
OVER: Final = Reply(Status.OVER)


class Replayed(NamedTuple):
    """What reality made of the schedule."""

    lost: list[str]
    doubled: list[str]
    disagreement: str = ""  # where and how reality went another way; empty if it did not


class Disagreement(Exception):
    """A machine or memcached did not do what the schedule says."""


class World:
    """What the actors share. One of them acts at a time, so nothing here is locked."""

    def __init__(self, addresses: Sequence[str], queue: Queue, store: Store) -> None:
        self.addresses = addresses
        self.queue = queue
        heads = tuple(head._replace(queue=renamed(head.queue, queue)) for head in store.heads)
        self.database = store._replace(items=(), heads=heads)
        self.mortal: set[Key] = set()  # with a lifetime
        self.touched: set[Key] = set()

    def clients(self) -> list[MetaClient]:
        return [MetaClient(address, CLIENT_LIMIT_S) for address in self.addresses]

    def execute(self, clients: Sequence[MetaClient], command: Command) -> Reply:
        """Have memcached, or else the explorer's database, carry it out."""
        if not isinstance(command, MEMCACHED):
            self.database, reply = apply(self.database, command, 0)
            return reply
        key = command.key
        self.touched.add(key)
        reply = send(clients[key.daemon], command)
        if isinstance(command, Set | Add) and reply.status is Status.OK:
            self.mortal.discard(key)
            if isinstance(command, Add) and command.lifetime_s:
                self.mortal.add(key)
        return reply


def renamed(name: str, queue: Queue) -> str:
    """A name that the explorer's queue gave, as this queue would."""
    return queue.prefix + name.removeprefix(QUEUE.prefix)


def send(client: MetaClient, command: MemcachedCommand) -> Reply:
    """One command over a real socket."""
    name = command.key.name
    if isinstance(command, Get):
        return client.meta_get(name)
    if isinstance(command, Set):
        return client.meta_set(name, command.value)
    if isinstance(command, Add):
        return client.meta_add(name, command.value, command.lifetime_s)
    if isinstance(command, Incr):
        return client.meta_incr(name)
    return client.meta_delete(name, command.cas)


class Actor(threading.Thread):
    """One process of the schedule, which does a step when it is told to."""

    def __init__(self, name: str, machine: Machine[Receipt] | Machine[Drained], world: World):
        super().__init__(name=name, daemon=True)
        self._machine = machine
        self._world = world
        self._clients = world.clients()
        self._orders: queue.Queue[Row | None] = queue.Queue()
        self._answers: queue.Queue[str] = queue.Queue()
        self.result: Receipt | Drained | None = None
        self._parts: list[Reply] = []
        self._asked: Command | None = None
        self._go_on(None)

    def step(self, row: Row) -> None:
        """Have it do the step. Raises Disagreement."""
        self._orders.put(row)
        try:
            trouble = self._answers.get(timeout=STEP_LIMIT_S)
        except queue.Empty:
            trouble = f"no answer within {STEP_LIMIT_S:g} s"
        if trouble:
            raise Disagreement(trouble)

    def run(self) -> None:
        """Until there are no more orders."""
        while (row := self._orders.get()) is not None:
            try:
                answer = self._do(row)
            except Exception as error:  # a machine's own, which must not end as silence
                answer = f"{type(error).__name__}: {error}"
            self._answers.put(answer)
        for client in self._clients:
            client.close()

    def end(self) -> None:
        """Let it end, and wait until it has."""
        self._orders.put(None)
        self.join(STEP_LIMIT_S)

    def _do(self, row: Row) -> str:
        """Do one step; why it cannot be that of the witness, or nothing."""
        command = self._single()
        if command is None:
            return f"has ended, and the schedule has {row.command}"
        if say_command(command) != row.command:
            return f"asks to {say_command(command)}, and the schedule has {row.command}"
        reply = self._reply(command, row)
        if say_reply(command, _saturated(command, reply)) != row.reply:
            return f"{row.command} gave {say_reply(command, reply)}, not {row.reply}"
        rest = self._rest() if row.event == COMMAND_LOST else 1
        for _ in range(rest):
            self._take(reply)
        return ""

    def _reply(self, command: Command, row: Row) -> Reply:
        if isinstance(command, Sleep):
            return NO_TIME
        if isinstance(command, Patience):
            return OVER if row.reply == "over" else NOT_YET
        if row.event == COMMAND_LOST:
            return LOST
        reply = self._world.execute(self._clients, command)
        return LOST if row.event == REPLY_LOST else reply

    def _single(self) -> Command | None:
        """The command that is due, out of a pipeline if there is one."""
        command = self._asked
        if isinstance(command, Pipeline):
            return command.commands[len(self._parts)]
        if isinstance(command, InsertBallots):
            return command._replace(messages=tuple(command.messages))
        return command

    def _rest(self) -> int:
        """How many replies are due, a pipeline's all."""
        whole = self._asked.commands if isinstance(self._asked, Pipeline) else ()
        return max(1, len(whole) - len(self._parts))

    def _take(self, reply: Reply) -> None:
        if isinstance(self._asked, Pipeline):
            self._parts.append(reply)
            if len(self._parts) < len(self._asked.commands):
                return
            reply, self._parts = Reply(Status.OK, parts=tuple(self._parts)), []
        self._go_on(reply)

    def _go_on(self, reply: Reply | None) -> None:
        try:
            self._asked = next(self._machine) if reply is None else self._machine.send(reply)
        except StopIteration as finished:
            self._asked, self.result = None, finished.value


def _saturated(command: Command, reply: Reply) -> Reply:
    """As the explorer counts locks: more than held is held."""
    if isinstance(command, Incr) and command.key.kind is KeyKind.LOCK:
        return reply._replace(number=min(reply.number, HELD))
    return reply


class Replay:
    """One replay of a witness."""

    def __init__(
        self,
        witness: Witness,
        protocol: VotingProtocol,
        addresses: Sequence[str],
        *,
        prefix: str = QUEUE.prefix,
        flush: Callable[[int], None] | None = None,
    ) -> None:
        """`flush` wipes a daemon that is ours; without it a wipe deletes what the replay made."""
        self._witness = witness
        self._protocol = protocol
        self._flush = flush
        bounds = witness.bounds
        store = first_store(protocol, bounds.cold, bounds.writers, Left())
        self._world = World(addresses, Queue.named(prefix), store)
        self._hands = self._world.clients()  # for what befalls memcached, and for the last drain
        for key, item in store.items:
            key = key._replace(name=renamed(key.name, self._world.queue))
            self._world.execute(self._hands, Set(key, item.value))
        self._actors: dict[str, Actor] = {}
        self._acknowledged: set[int] = set()

    def run(self) -> Replayed:
        """Do all steps, then drain; which votes are missing or twice there."""
        try:
            for number, row in enumerate(self._witness.schedule, 1):
                try:
                    self._step(row)
                except Disagreement as error:
                    return Replayed([], [], f"step {number}, {row.actor}: {error}")
            return self._judge()
        finally:
            for actor in self._actors.values():
                actor.end()
            for key in self._world.touched:
                self._hands[key.daemon].meta_delete(key.name)
            for client in self._hands:
                client.close()

    def _step(self, row: Row) -> None:
        if row.actor == MEMCACHED_ITSELF:
            self._befall(row.event)
            return
        actor = self._actors.get(row.actor)
        next_drain = actor and actor.result is not None and row.command
        if actor is None or (next_drain and row.actor.startswith(READER)):
            actor = self._start(row.actor)
        if row.command:
            actor.step(row)
            if actor.result in ACKNOWLEDGED:
                self._acknowledged.add(_place(row.actor))
        elif row.event == DEATH:
            actor.end()

    def _start(self, name: str) -> Actor:
        """A new process; or a reader's next drain, by the same name."""
        if name in self._actors:
            self._actors.pop(name).end()
        queue = self._world.queue
        if name.startswith(WRITER):
            machine: Machine[Receipt] | Machine[Drained] = self._protocol.vote(
                queue, message_of(_place(name))
            )
        else:
            assert self._protocol.drain is not None
            machine = self._protocol.drain(queue)
        actor = self._actors[name] = Actor(name, machine, self._world)
        actor.start()
        return actor

    def _befall(self, event: str) -> None:
        """Do to memcached what the schedule says. Raises Disagreement for what nobody knows."""
        daemons = range(len(self._hands))
        wipes = {f"{WIPE} {daemon}": daemon for daemon in daemons}
        evictions = {f"{EVICTION} {daemon}": daemon for daemon in daemons}
        if event in wipes:
            self._wipe(wipes[event])
        elif event in evictions:
            pointer = self._world.queue.on(evictions[event]).pointer
            self._world.execute(self._hands, Delete(pointer))
        elif event == TOMBSTONES_EXPIRE:
            self._expire(KeyKind.SLOT)
            self._world.database = self._world.database._replace(now_ns=JUMP_NS)
        elif event == LOCK_EXPIRES:
            self._expire(KeyKind.LOCK)
        else:
            raise Disagreement(f"nobody knows how to do {event!r}")

    def _wipe(self, daemon: int) -> None:
        if self._flush:
            self._flush(daemon)
            return
        for key in self._world.touched:
            if key.daemon == daemon:
                self._hands[daemon].meta_delete(key.name)

    def _expire(self, kind: KeyKind) -> None:
        for key in [key for key in self._world.mortal if key.kind is kind]:
            self._hands[key.daemon].meta_delete(key.name)
            self._world.mortal.discard(key)

    def _judge(self) -> Replayed:
        """Drain with nobody else about, then look at the ballots."""
        assert self._protocol.drain is not None

        def answer(command: Command) -> Reply:
            if isinstance(command, Pipeline):
                return Reply(Status.OK, parts=tuple(answer(part) for part in command.commands))
            if isinstance(command, Sleep | Patience):
                return OVER if isinstance(command, Patience) else NO_TIME
            return self._world.execute(self._hands, command)

        for _ in range(MOST_DRAINS):
            drained = drive(self._protocol.drain(self._world.queue), answer)
            if drained.end is DrainEnd.EMPTY:
                break
            if drained.end is DrainEnd.NO_MEMCACHED:
                return Replayed([], [], "the last drain: memcached does not answer")
            if drained.end is DrainEnd.LOCKED:
                self._expire(KeyKind.LOCK)
        ballots = self._world.database.ballots
        missing = [vote_name(vote) for vote in sorted(self._acknowledged) if not ballots[vote]]
        doubled = [vote_name(vote) for vote, count in enumerate(ballots) if count > 1]
        if missing == self._witness.lost and doubled == self._witness.doubled:
            return Replayed(missing, doubled)
        found = ", ".join(missing + doubled) or "no vote"
        return Replayed(missing, doubled, f"the last drain: {found} is lost or doubled in reality")


def _place(name: str) -> int:
    """The number of a process among those of its role, from 0."""
    return int(name.rpartition(" ")[2]) - 1
