"""Machines that run alone: to make the warm store before, and to judge a state after.

A state is judged when no process is in the middle of anything. Then the queue is drained by the
real machine, alone, until it is empty; waiting always ends, and locks with a lifetime expire.
Now every acknowledged vote has to be in the ballots, once.
"""

from itertools import count
from typing import Final, NamedTuple

from harness.errors import PlanError
from harness.exploration.automaton import NO_TIME, QUEUE
from harness.exploration.store import Left, Store, apply, expired
from harness.protocol.commands import (
    Command,
    KeyKind,
    Machine,
    Patience,
    Pipeline,
    Reply,
    Result,
    Sleep,
    Status,
)
from harness.protocol.queue import DrainEnd, VotingProtocol

ALONE: Final = 0  # the owner's number of a process that no other meets
EARLIER: Final = b"earlier vote"
MOST_DRAINS: Final = 50  # until the queue is empty; two do, and one more for each lock or epoch
MOST_COMMANDS: Final = 10_000  # of a machine alone; the longest in any bounds takes some hundred
OVER: Final = Reply(Status.OVER)


class Endless(PlanError):
    """A machine goes on and on, with nobody else about."""


class Judgement(NamedTuple):
    """What a state comes to, if nothing more happens. Votes by number, sorted."""

    lost: tuple[int, ...] = ()  # acknowledged, and not in the ballots
    doubled: tuple[int, ...] = ()  # delivered more than once
    stuck: bool = False  # the queue does not empty
    taken: tuple[int, ...] = ()  # what a wipe of memcached took, which is no fault of the protocol

    @property
    def is_bad(self) -> bool:
        return bool(self.lost or self.doubled or self.stuck)


def run_alone(
    store: Store, machine: Machine[Result], trail: list[tuple[Command, Reply]] | None = None
) -> tuple[Store, Result]:
    """The store and the result after the machine has run with nobody else about. Raises Endless."""
    answers = count()

    def answer(command: Command) -> Reply:
        nonlocal store
        if next(answers) > MOST_COMMANDS:
            raise Endless(
                f"a machine goes on after {MOST_COMMANDS} commands with nobody else about"
            )
        if isinstance(command, Pipeline):
            return Reply(Status.OK, parts=tuple(answer(single) for single in command.commands))
        if isinstance(command, Patience):
            reply = OVER
        elif isinstance(command, Sleep):
            reply = NO_TIME
        else:
            store, reply = apply(store, command, ALONE)
        if trail is not None:
            trail.append((command, reply))
        return reply

    try:
        command = next(machine)
        while True:
            command = machine.send(answer(command))
    except StopIteration as finished:
        result: Result = finished.value
        return store, result


def drain_all(
    store: Store, protocol: VotingProtocol, trail: list[tuple[Command, Reply]] | None = None
) -> tuple[Store, bool]:
    """The store when the queue has been drained; whether it was said to be empty."""
    assert protocol.drain is not None
    for _ in range(MOST_DRAINS):
        try:
            store, drained = run_alone(store, protocol.drain(QUEUE), trail)
        except Endless:
            return store, False
        if drained.end is DrainEnd.EMPTY:
            return store, True
        if drained.end is DrainEnd.LOCKED:
            store = expired(store, KeyKind.LOCK)
    return store, False


def first_store(protocol: VotingProtocol, cold: bool, votes: int, left: Left) -> Store:
    """Nothing at all; or what one earlier vote leaves once it is counted, but for old slots."""
    empty = Store(items=(), ballots=(0,) * votes, heads=(), left=left)
    if cold:
        return empty
    store, _ = run_alone(empty, protocol.vote(QUEUE, EARLIER))
    store, _ = drain_all(store, protocol)
    kept = tuple(pair for pair in store.items if pair[0].kind is not KeyKind.SLOT)
    return store._replace(items=kept)


class Judge:
    """Judges stores; those that differ in what does not matter any more only once."""

    def __init__(self, protocol: VotingProtocol) -> None:
        self._protocol = protocol
        self._drained: dict[Store, tuple[tuple[int, ...], bool]] = {}

    def judge(self, store: Store) -> Judgement:
        """What an undisturbed end makes of it."""
        core = store._replace(
            left=Left(), acknowledged=frozenset(), promised=frozenset(), taken=frozenset()
        )
        found = self._drained.get(core)
        if found is None:
            after, emptied = drain_all(core, self._protocol)
            found = self._drained[core] = (after.ballots, emptied)
        ballots, emptied = found
        missing = sorted(vote for vote in store.acknowledged if not ballots[vote])
        return Judgement(
            lost=tuple(vote for vote in missing if vote not in store.taken),
            doubled=tuple(vote for vote, count in enumerate(ballots) if count > 1),
            stuck=not emptied,
            taken=tuple(vote for vote in missing if vote in store.taken),
        )
