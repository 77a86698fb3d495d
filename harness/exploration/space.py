"""Which states follow a state, one process or event at a time, by numbers that stand for values."""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from harness.errors import PlanError
from harness.exploration.automaton import (
    ACKNOWLEDGED,
    LOST,
    NO_TIME,
    NOT_YET,
    Actor,
    Automaton,
    automata,
    said_of,
)
from harness.exploration.bounds import ALL, WRITER, Bounds, Reductions
from harness.exploration.store import (
    COMMAND_LOST,
    DEATH,
    REPLY_LOST,
    Store,
    apply,
    budgets,
    events,
    is_memcached,
    orphaned,
)
from harness.exploration.undisturbed import first_store
from harness.protocol.commands import (
    Command,
    InsertBallot,
    InsertBallots,
    KeyKind,
    Now,
    Patience,
    Reply,
    Sleep,
    Status,
)
from harness.protocol.queue import Receipt, Terms, VotingProtocol
from harness.protocol.ticket import epoch_of

OVER: Final = Reply(Status.OVER)
MOST_LOCAL: Final = 1_000  # steps that a machine takes in a row without touching anything shared

State: TypeAlias = tuple[int, ...]  # a store, then a node for each process
ProtocolOf: TypeAlias = Callable[[Terms], VotingProtocol]


class MixedCopies(Exception):
    """The order of commits matters: some may be of copies, and some may not."""


class Step(NamedTuple):
    """One command with its reply, as the schedule shows it; `event` is not the machine's doing."""

    actor: Actor | None
    command: Command | None = None
    reply: Reply | None = None
    event: str = ""


class Move(NamedTuple):
    """One way on: the store after it, where the process is then, and what it took."""

    store: int
    node: int
    commands: int  # of memcached: 0 or 1
    steps: tuple[Step, ...]


class Space:
    """The tables of one exploration. Stores and nodes have numbers, given when first met."""

    def __init__(
        self, protocol_of: ProtocolOf, bounds: Bounds, reductions: Reductions = ALL
    ) -> None:
        self.bounds = bounds
        self.reductions = reductions
        # The fewest writers that are right keep the search of an old epoch short.
        self.protocol = protocol_of(Terms(writers=max(1, bounds.writers)))
        self.actors = automata(self.protocol, bounds, reductions)
        self.openings: dict[Actor, tuple[Step, ...]] = {}  # what each has done in the first state
        self._copies: set[bool] = set()  # whether votes are counted as possible copies
        self.stores: list[Store] = []
        self._store_numbers: dict[Store, int] = {}
        self._applied: dict[tuple[int, type[Command], Command, int], tuple[int, Reply]] = {}
        self._clock_moves = bounds.expire_tombstones
        self.first = self.store_number(
            first_store(self.protocol, bounds.cold, bounds.writers, budgets(bounds))
        )

    def store_number(self, store: Store) -> int:
        """The number that stands for the store."""
        number = self._store_numbers.setdefault(store, len(self.stores))
        if number == len(self.stores):
            self.stores.append(store)
        return number

    def start(self) -> State:
        """The first state."""
        store, nodes = self.first, []
        for automaton in self.actors:
            landed = self._settle(automaton, store, automaton.start, ())
            node = automaton.start
            if len(landed) == 1:
                store, node, self.openings[automaton.actor] = landed[0]
            nodes.append(node)
        return (store, *nodes)

    def apply(self, store: int, command: Command, owner: int) -> tuple[int, Reply]:
        """The store after the command, and its reply."""
        key = (store, type(command), command, owner)  # Get and Incr of one key are equal tuples
        found = self._applied.get(key)
        if found is None:
            if isinstance(command, InsertBallot | InsertBallots):
                self._note(command)
            after, reply = apply(self.stores[store], command, owner)
            found = self._applied[key] = (self.store_number(after), reply)
        return found

    def _note(self, command: InsertBallot | InsertBallots) -> None:
        """Note how votes are counted. Raises MixedCopies when that forbids a reduction."""
        self._copies.add(command.copy if isinstance(command, InsertBallot) else command.copies)
        if self.reductions.merge_commits and len(self._copies) > 1:
            raise MixedCopies("commits of copies and of others: their order matters")

    def events(self, store: int) -> list[Move]:
        """What may happen without any process."""
        return [
            Move(self.store_number(after), -1, 0, (Step(None, event=name),))
            for name, after in events(self.stores[store], self.protocol.daemons)
        ]

    def moves(self, process: int, store: int, node: int) -> list[Move]:
        """What the process may do next."""
        automaton = self.actors[process]
        found = []
        for after, next_node, commands, steps in self._raw(automaton, store, node):
            for s, n, trail in self._settle(automaton, after, next_node, steps):
                if s != store or n != node:
                    found.append(Move(s, n, commands, trail))
        return found

    def successors(self, state: State) -> Iterator[tuple[State, Move]]:
        """All states that follow, each with the move that leads there."""
        store, *nodes = state
        for move in self.events(store):
            yield (move.store, *nodes), move
        for process, node in enumerate(nodes):
            for move in self.moves(process, store, node):
                yield (move.store, *nodes[:process], move.node, *nodes[process + 1 :]), move

    def _raw(
        self, automaton: Automaton, store: int, node: int
    ) -> Iterator[tuple[int, int, int, tuple[Step, ...]]]:
        """Single steps."""
        here = automaton.nodes[node]
        if here.command is None:
            return
        actor, left = automaton.actor, self.stores[store].left
        if left.crashes and actor.role == self.bounds.crash and not here.fresh:
            died = self._spend(store, crashes=left.crashes - 1)
            died = self._orphan(automaton, died, automaton.end)
            yield died, automaton.end, 0, (Step(actor, event=DEATH),)
        if self._is_local(here.command):
            yield from ((s, n, 0, t) for s, n, t in self._local(automaton, store, node, ()))
            return
        commands = int(is_memcached(here.command) is not None)
        after, reply = self.apply(store, here.command, automaton.owner)
        if not here.broken:
            step = Step(actor, here.command, reply)
            yield after, automaton.step(node, reply), commands, (step,)
        if commands and (left.lost_replies or here.broken):
            if not here.broken:
                store = self._spend(store, lost_replies=left.lost_replies - 1)
                after, _ = self.apply(store, here.command, automaton.owner)
            unheard, unsent = automaton.step(node, LOST), automaton.lose_rest(node)
            came = Step(actor, here.command, LOST, REPLY_LOST)
            never = Step(actor, here.command, LOST, COMMAND_LOST)
            yield self._orphan(automaton, after, unheard), unheard, commands, (came,)
            yield self._orphan(automaton, store, unsent), unsent, commands, (never,)

    def _orphan(self, automaton: Automaton, store: int, node: int) -> int:
        """The store in which a lock is nobody's if its owner is dead, or does not know of it."""
        if automaton.nodes[node].inside:
            return store
        return self.store_number(orphaned(self.stores[store], automaton.owner))

    def _is_local(self, command: Command) -> bool:
        """Whether nobody else can notice the command, nor it anybody else."""
        return isinstance(command, Sleep | Patience) or (
            isinstance(command, Now) and not self._clock_moves
        )

    def _local(
        self, automaton: Automaton, store: int, node: int, trail: tuple[Step, ...]
    ) -> Iterator[tuple[int, int, tuple[Step, ...]]]:
        here = automaton.nodes[node]
        command, actor = here.command, automaton.actor
        assert command is not None
        if isinstance(command, Patience):
            more = (*trail, Step(actor, command, NOT_YET))
            yield store, automaton.step(node, NOT_YET), more
            takeovers = self.stores[store].left.takeovers
            if takeovers or here.patient:
                after = store if here.patient else self._spend(store, takeovers=takeovers - 1)
                yield after, automaton.step(node, OVER), (*trail, Step(actor, command, OVER))
            return
        reply = NO_TIME
        if isinstance(command, Now):
            store, reply = self.apply(store, command, automaton.owner)
        yield store, automaton.step(node, reply), (*trail, Step(actor, command, reply))

    def _settle(
        self, automaton: Automaton, store: int, node: int, trail: tuple[Step, ...]
    ) -> list[tuple[int, int, tuple[Step, ...]]]:
        """Go on to where the process next does what others can notice."""
        merge = self.reductions.merge_local
        settled: list[tuple[int, int, tuple[Step, ...]]] = []
        waiting = [(store, node, trail)]
        for _ in range(MOST_LOCAL):
            if not waiting:
                return settled
            store, node, trail = waiting.pop()
            here = automaton.nodes[node]
            if here.command is None and here.result is not None:
                waiting.append(self._finish(automaton, store, node, trail))
            elif merge and here.command is not None and self._is_local(here.command):
                waiting += self._local(automaton, store, node, trail)
            elif self.reductions.merge_commits and self._commutes(automaton, store, here.command):
                assert here.command is not None
                after, reply = self.apply(store, here.command, automaton.owner)
                step = Step(automaton.actor, here.command, reply)
                waiting.append((after, automaton.step(node, reply), (*trail, step)))
            else:
                settled.append((self._promise(automaton, store, node), node, trail))
        raise PlanError(f"{automaton.actor.name} never does anything that others notice")

    def _promise(self, automaton: Automaton, store: int, node: int) -> int:
        """Note in the store that the vote's last reply has come: only the time is still asked."""
        here, now = automaton.nodes[node], self.stores[store]
        vote = automaton.actor.place
        if here.fresh or automaton.actor.role != WRITER or vote in now.promised:
            return store
        while isinstance(here.command, Now):
            node = automaton.step(node, Reply(Status.OK, now.now_ns))
            here = automaton.nodes[node]
        if here.result not in ACKNOWLEDGED:
            return store
        return self.store_number(now._replace(promised=now.promised | {vote}))

    def _commutes(self, automaton: Automaton, store: int, command: Command | None) -> bool:
        """A commit that moves no head is noticed by nobody, unless its process may die before."""
        may_die = self.bounds.crash == automaton.actor.role and self.stores[store].left.crashes
        return not may_die and (
            isinstance(command, InsertBallot)
            or (isinstance(command, InsertBallots) and not command.moves)
        )

    def goes_first(self, process: int, store: int, node: int) -> bool:
        """Whether the process's next step may be taken before all others', and none after.

        So it is with a commit whose head another drain has passed. It will be refused whenever it
        comes, since heads only go forward; and it changes nothing that anybody could notice.
        """
        automaton = self.actors[process]
        here = automaton.nodes[node]
        command = here.command
        if not self.reductions.doomed_first or not isinstance(command, InsertBallots):
            return False
        if here.inside:
            return False  # others may meet it there
        now = self.stores[store]
        if self.bounds.crash == automaton.actor.role and now.left.crashes:
            return False
        return any(
            head.queue == move.queue and head.epoch == epoch_of(move.old) and head.ticket > move.old
            for move in command.moves
            for head in now.heads
        )

    def _finish(
        self, automaton: Automaton, store: int, node: int, trail: tuple[Step, ...]
    ) -> tuple[int, int, tuple[Step, ...]]:
        """Hand over the result: a vote is acknowledged now, or a drain is over."""
        result = automaton.nodes[node].result
        if isinstance(result, Receipt):
            event = f"{'not ' if result not in ACKNOWLEDGED else ''}acknowledged: {said_of(result)}"
            if result in ACKNOWLEDGED:
                now = self.stores[store]
                vote = frozenset([automaton.actor.place])
                store = self.store_number(
                    now._replace(acknowledged=now.acknowledged | vote, promised=now.promised | vote)
                )
        else:
            assert result is not None
            event = f"drain over: {said_of(result)}"
        step = Step(automaton.actor, event=event)
        return store, automaton.after(node), (*trail, step)

    def _spend(self, store: int, **left: int) -> int:
        now = self.stores[store]
        return self.store_number(now._replace(left=now.left._replace(**left)))

    def is_quiet(self, process: int, node: int) -> bool:
        """Whether the process has ended, or has not begun what anyone could notice."""
        here = self.actors[process].nodes[node]
        return here.fresh or (here.command is None and here.result is None)

    def is_blocked(self, process: int, store: int, node: int) -> bool:
        """Whether the process tries for a lock in vain, for ever if nobody else does anything."""
        automaton = self.actors[process]
        command = is_memcached(automaton.nodes[node].command)
        if command is None or command.key.kind is not KeyKind.LOCK:
            return False
        after, reply = self.apply(store, command, automaton.owner)
        at = automaton.step(node, reply)
        for _ in range(MOST_LOCAL):
            here = automaton.nodes[at]
            if after != store or here.command is None or not self._is_local(here.command):
                return at == node and after == store
            ways = list(self._local(automaton, store, at, ()))
            if len(ways) > 1:
                return False  # patience may end
            ((after, at, _),) = ways
        return False

    def is_inside(self, process: int, node: int) -> bool:
        """Whether the process certainly holds the lock."""
        return self.actors[process].nodes[node].inside
