"""A second judge of schedules: the real generators over a world of its own, without the explorer.

Nothing is merged, cut or saturated here, and CAS are memcached's. A schedule is drawn at random, or
the explorer's is followed step by step and every reply compared.
"""

import random
from collections import Counter
from typing import NamedTuple

from harness.exploration.bounds import Bounds
from harness.exploration.space import Step
from harness.protocol import commands as c
from harness.protocol.commands import Command, Key, KeyKind, Reply, Status
from harness.protocol.queue import DrainEnd, Queue, Receipt, Terms, VotingProtocol

QUEUE = Queue.named("queue")
ACKNOWLEDGED = (Receipt.QUEUED, Receipt.STORED)
EPOCH_BITS = 40
HOUR_NS = 3_600 * 10**9
MOST_STEPS = 400  # of one schedule: whoever waits for a lock of the dead waits for ever
MOST_DRAINS = 50


def message_of(vote: int) -> bytes:
    return b"vote %c" % (ord("A") + vote)


class Item(NamedTuple):
    value: bytes
    cas: int
    mortal: bool


class World:
    """Memcached daemons and a database."""

    def __init__(self, protocol: VotingProtocol, *, cold: bool) -> None:
        self.protocol = protocol
        self.items: dict[Key, Item] = {}
        self.heads: dict[tuple[str, int], int] = {}
        self.ballots: Counter[bytes] = Counter()
        self.last_cas, self.now_ns = 0, 0
        if not cold:
            self.alone(protocol.vote(QUEUE, b"earlier vote"))
            self.drain()
            self.items = {k: i for k, i in self.items.items() if k.kind is not KeyKind.SLOT}

    def put(self, key: Key, value: bytes, *, mortal: bool = False) -> Reply:
        self.last_cas += 1
        self.items[key] = Item(value, self.last_cas, mortal)
        return Reply(Status.OK, cas=self.last_cas)

    def execute(self, command: Command) -> Reply:
        if isinstance(command, c.Get | c.Set | c.Add | c.Incr | c.Delete):
            return self.memcached(command, self.items.get(command.key))
        match command:
            case c.InsertBallot(message, copy):
                self.count([message], copies=copy)
            case c.InsertBallots(messages, moves, copies):
                for move in moves:
                    if self.heads.get((move.queue, move.old >> EPOCH_BITS)) != move.old:
                        return Reply(Status.EXISTS)
                for move in moves:
                    self.heads[move.queue, move.old >> EPOCH_BITS] = move.new
                self.count(messages, copies=copies)
            case c.ReadHeads(queue, _):
                mine = sorted(head for (name, _), head in self.heads.items() if name == queue)
                return Reply(Status.OK, parts=tuple(Reply(Status.OK, head) for head in mine))
            case c.IssueEpoch(queue):
                epoch = 1 + max((e for name, e in self.heads if name == queue), default=0)
                self.heads[queue, epoch] = epoch << EPOCH_BITS
                return Reply(Status.OK, epoch)
            case c.Now():
                return Reply(Status.OK, self.now_ns)
        return Reply(Status.OK)

    def memcached(self, command: c.MemcachedCommand, item: Item | None) -> Reply:
        key = command.key
        if isinstance(command, c.Set):
            return self.put(key, command.value)
        if isinstance(command, c.Add):
            if item:
                return Reply(Status.EXISTS)
            return self.put(key, command.value, mortal=command.lifetime_s > 0)
        if item is None:
            return Reply(Status.MISSING)
        if isinstance(command, c.Get):
            number = int(item.value) if item.value.isdigit() else 0
            return Reply(Status.OK, number, item.value, item.cas)
        if isinstance(command, c.Delete):
            if command.cas not in (0, item.cas):
                return Reply(Status.EXISTS)
            del self.items[key]
            return Reply(Status.OK)
        if not item.value.isdigit():
            return Reply(Status.REFUSED)
        number = int(item.value) + 1
        return self.put(key, b"%d" % number, mortal=item.mortal)._replace(number=number)

    def count(self, messages, *, copies: bool) -> None:
        for message in messages:
            self.ballots[message] += not (copies and self.ballots[message])

    def alone(self, machine):
        """The result of a machine that nobody disturbs."""

        def answer(command: Command) -> Reply:
            if isinstance(command, c.Pipeline):
                return Reply(Status.OK, parts=tuple(map(answer, command.commands)))
            return Reply(Status.OVER) if isinstance(command, c.Patience) else self.execute(command)

        try:
            command = next(machine)
            while True:
                command = machine.send(answer(command))
        except StopIteration as finished:
            return finished.value

    def drain(self) -> bool:
        """Until the queue is empty; whether it ever was."""
        for _ in range(MOST_DRAINS):
            end = self.alone(self.protocol.drain(QUEUE)).end
            if end is DrainEnd.EMPTY:
                return True
            if end is DrainEnd.LOCKED:
                self.expire(KeyKind.LOCK)
        return False

    def expire(self, kind: KeyKind) -> None:
        mortal = [k for k, item in self.items.items() if item.mortal and k.kind is kind]
        for key in mortal:
            del self.items[key]


class Process:
    """One machine after the other: a vote, or some drains."""

    def __init__(self, name: str, machines) -> None:
        self.name = name
        self.role = name.partition(" ")[0]
        self.results: list[object] = []
        self.begun = self.dead = self.holds = self.patient = False
        self._machines = list(machines)
        self._next_machine()

    def _next_machine(self) -> None:
        self.machine = self._machines.pop(0) if self._machines else None
        self.begun, self.parts = False, []
        self.asked = None
        if self.machine:
            self._go_on(None)

    def _go_on(self, reply: Reply | None) -> None:
        try:
            self.asked = next(self.machine) if reply is None else self.machine.send(reply)
        except StopIteration as finished:
            self.results.append(finished.value)
            self._next_machine()

    @property
    def command(self) -> Command | None:
        """The single command that is due; None when it has nothing left to do."""
        if self.dead or self.asked is None:
            return None
        if isinstance(self.asked, c.Pipeline):
            return self.asked.commands[len(self.parts)]
        return self.asked

    @property
    def rest(self) -> int:
        """How many replies are due together, if the connection breaks now."""
        piped = isinstance(self.asked, c.Pipeline)
        return len(self.asked.commands) - len(self.parts) if piped else 1

    def take(self, reply: Reply) -> None:
        command = self.command
        self.begun = self.begun or not isinstance(command, c.Sleep | c.Patience | c.Now)
        if isinstance(command, c.Add | c.Delete) and command.key.kind is KeyKind.LOCK:
            self.holds = isinstance(command, c.Add) and reply.status is Status.OK
            self.patient = isinstance(command, c.Add) and command.lifetime_s > 0
        if isinstance(self.asked, c.Pipeline):
            self.parts.append(reply)
            if len(self.parts) < len(self.asked.commands):
                return
            reply, self.parts = Reply(Status.OK, parts=tuple(self.parts)), []
        self._go_on(reply)


class Ending(NamedTuple):
    lost: set[bytes]
    doubled: set[bytes]
    stuck: bool
    commands: int

    @property
    def is_bad(self) -> bool:
        return bool(self.lost or self.doubled or self.stuck)


class Reality:
    """A world with the processes of some bounds in it, and what troubles are left."""

    def __init__(self, protocol_of, bounds: Bounds) -> None:
        self.protocol = protocol_of(Terms(writers=bounds.writers))
        self.bounds, self.commands = bounds, 0
        self.world = World(self.protocol, cold=bounds.cold)
        self.left = Counter(
            takeovers=bounds.takeovers,
            crash=bool(bounds.crash),
            wipe=bounds.wipe,
            evict=bounds.evict_pointer,
            jump=bounds.expire_tombstones,
            lost=bounds.lost_reply,
        )
        self.excused: set[bytes] = set()
        self.processes = [
            Process(f"writer {w + 1}", [self.protocol.vote(QUEUE, message_of(w))])
            for w in range(bounds.writers)
        ]
        self.processes += [
            Process(f"reader {r + 1}", [self.protocol.drain(QUEUE) for _ in range(bounds.drains)])
            for r in range(bounds.readers)
        ]

    @property
    def acknowledged(self) -> set[bytes]:
        writers = self.processes[: self.bounds.writers]
        return {
            message_of(place)
            for place, writer in enumerate(writers)
            if writer.results and writer.results[0] in ACKNOWLEDGED
        }

    def end(self) -> Ending:
        """What is wrong after an undisturbed drain; the world is used up by it."""
        kept, emptied = self.acknowledged, self.world.drain()
        votes = {message_of(place) for place in range(self.bounds.writers)}
        lost = {vote for vote in kept - self.excused if not self.world.ballots[vote]}
        doubled = {vote for vote in votes if self.world.ballots[vote] > 1}
        return Ending(lost, doubled, not emptied, self.commands)

    # What can happen, by name; each is a way on.

    def step(self, process: Process, reply: Reply | None = None) -> Reply:
        """The process's next command, answered by the world unless a reply is given."""
        command = process.command
        if isinstance(command, c.Get | c.Set | c.Add | c.Incr | c.Delete):
            self.commands += 1
        answer = reply or self.world.execute(command)
        process.take(answer)
        return answer

    def lose(self, process: Process, applied: int) -> None:
        """The connection breaks: so many of the commands that are due still get there."""
        for number in range(process.rest):
            if number < applied:
                self.world.execute(process.command)
            self.commands += number <= applied
            process.take(Reply(Status.LOST))

    def wipe(self, daemon: int) -> None:
        items = self.world.items
        gone = {item.value for key, item in items.items() if key.daemon == daemon}
        if self.protocol.daemons == 1:
            uncounted = {v for v in self.acknowledged if not self.world.ballots[v]}
            self.excused |= uncounted & gone
        self.world.items = {k: item for k, item in items.items() if k.daemon != daemon}

    def evict(self, daemon: int) -> None:
        self.world.items.pop(QUEUE.on(daemon).pointer, None)

    def jump(self) -> None:
        self.world.expire(KeyKind.SLOT)
        self.world.now_ns = HOUR_NS


def random_ending(protocol_of, bounds: Bounds, chance: random.Random) -> Ending | None:
    """What a random schedule comes to; None if it did not come to an end."""
    reality = Reality(protocol_of, bounds)
    present = [p for p in reality.processes if chance.random() < 0.9]
    left, eager = reality.left, chance.random() * 0.3
    for _ in range(MOST_STEPS):
        able = [p for p in present if p.command is not None]
        if not any(p.begun for p in able) and (not able or chance.random() < 0.05):
            return reality.end()
        if chance.random() < eager and befall(reality, able, chance):
            continue
        process = chance.choice(able)
        for _ in range(chance.choice((1, 1, 2, 5, 20))):  # some run on for a while
            command = process.command
            if command is None:
                break
            if isinstance(command, c.Patience):
                may = left["takeovers"] > 0 or process.patient
                over = may and chance.random() < 0.3
                left["takeovers"] -= over and not process.patient
                reality.step(process, Reply(Status.OVER if over else Status.OK))
            else:
                reality.step(process)
            while isinstance(process.command, c.Now) and not bounds.expire_tombstones:
                reality.step(process)  # time stands still, so it is no wait
    return None


def befall(reality: Reality, able: list[Process], chance: random.Random) -> bool:
    """Some trouble that is left, if it can happen now."""
    left, daemon = reality.left, chance.randrange(reality.protocol.daemons)
    held = [k for k, i in reality.world.items.items() if i.mortal and k.kind is KeyKind.LOCK]
    troubles = [name for name in left if left[name] > 0 and name != "takeovers"]
    troubles += ["expiry"] if held else []
    if not troubles:
        return False
    trouble = chance.choice(troubles)
    if trouble == "expiry":
        alive = any(p.holds and p.command is not None for p in reality.processes)
        if alive and not left["takeovers"]:
            return False
        left["takeovers"] -= alive
        reality.world.expire(KeyKind.LOCK)
        return True
    if trouble == "crash":
        mortal = [p for p in able if p.begun and p.role == reality.bounds.crash]
        if not mortal:
            return False
        chance.choice(mortal).dead = True
    elif trouble == "lost":
        sent = [p for p in able if isinstance(p.command, c.Get | c.Set | c.Add | c.Incr | c.Delete)]
        if not sent:
            return False
        process = chance.choice(sent)
        reality.lose(process, chance.randint(0, process.rest))
    elif trouble == "wipe":
        reality.wipe(daemon)
    elif trouble == "evict":
        reality.evict(daemon)
    else:
        reality.jump()
    left[trouble] -= 1
    return True


def follow(protocol_of, bounds: Bounds, steps: tuple[Step, ...]) -> Ending:
    """Do what the explorer's schedule says, and see that every reply is what it says."""
    reality = Reality(protocol_of, bounds)
    by_name = {process.name: process for process in reality.processes}
    for step in steps:
        if step.actor is None:
            name, _, daemon = step.event.rpartition(": daemon ")
            if name == "wiped":
                reality.wipe(int(daemon))
            elif name == "pointer evicted":
                reality.evict(int(daemon))
            elif step.event == "tombstones expire":
                reality.jump()
            else:
                assert step.event == "lock expires"
                reality.world.expire(KeyKind.LOCK)
            continue
        process = by_name[step.actor.name]
        if step.command is None:
            process.dead = process.dead or step.event == "dies"
            continue
        assert same(process.command, step.command), (process.name, process.command, step)
        if step.event == "lost before it arrived":
            reality.lose(process, 0)
        elif step.event == "applied, but the reply is lost":
            reality.world.execute(process.command)
            reality.commands += 1
            process.take(Reply(Status.LOST))
        elif isinstance(step.command, c.Patience):
            reality.step(process, step.reply)
        else:
            reply = reality.step(process)
            assert reply.status == step.reply.status, (process.name, step, reply)
            if step.command.__class__ is not c.Incr or step.command.key.kind is not KeyKind.LOCK:
                assert reply.number == step.reply.number, (process.name, step, reply)
                assert reply.value == step.reply.value, (process.name, step, reply)
    return reality.end()


def same(asked: Command | None, told: Command) -> bool:
    """Whether they ask for the same. The explorer's CAS are its own."""
    if isinstance(asked, c.InsertBallots):
        asked = asked._replace(messages=tuple(asked.messages))
    if isinstance(asked, c.Delete) and isinstance(told, c.Delete):
        asked, told = asked._replace(cas=bool(asked.cas)), told._replace(cas=bool(told.cas))
    return type(asked) is type(told) and asked == told
