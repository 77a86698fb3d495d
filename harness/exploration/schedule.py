"""From a path through the space to what happened, step by step, in the words of the protocol."""

from itertools import pairwise

from harness.exploration.search import Finding
from harness.exploration.space import Space, Step
from harness.exploration.store import message_of
from harness.protocol.commands import (
    Add,
    Command,
    Get,
    Incr,
    InsertBallot,
    InsertBallots,
    IssueEpoch,
    Key,
    KeyKind,
    Now,
    Patience,
    ReadHeads,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.protocol.ticket import EPOCH_BITS


def steps_of(space: Space, finding: Finding) -> tuple[Step, ...]:
    """What leads to the loss."""
    done: list[Step] = []
    unopened = dict(space.openings)
    for state, goal in pairwise(finding.path):
        steps = next(move.steps for after, move in space.successors(state) if after == goal)
        for step in steps:
            done += unopened.pop(step.actor, ()) if step.actor else ()
            done.append(step)
    return tuple(done)


def say_key(key: Key) -> str:
    """A key by its kind; a ticket's slot as epoch and number."""
    daemon = f" on {key.daemon}" if key.daemon else ""
    if key.kind is KeyKind.SLOT:
        return f"slot {say_number(key.slot)}{daemon}"
    return f"{key.kind.name.lower()}{daemon}"


def say_number(number: int) -> str:
    """A ticket as epoch:number, other numbers as they are."""
    epoch, drawn = divmod(number, 1 << EPOCH_BITS)
    return f"{epoch}:{drawn}" if epoch else str(drawn)


def say_value(value: bytes) -> str:
    """A value as a reader knows it."""
    return say_number(int(value)) if value.isdigit() else value.decode(errors="replace")


def say_command(command: Command) -> str:
    """A command in a few words."""
    match command:
        case Get(key):
            return f"get {say_key(key)}"
        case Set(key, value):
            return f"set {say_key(key)} {say_value(value)}"
        case Add(key, value):
            return f"add {say_key(key)} {say_value(value)}"
        case Incr(key):
            return f"incr {say_key(key)}"
        case InsertBallot(message, _):
            return f"insert {say_value(message)}"
        case InsertBallots(messages, moves, _):
            heads = "".join(f", head to {say_number(move.new)}" for move in moves)
            return f"commit {', '.join(map(say_value, messages)) or 'no vote'}{heads}"
        case ReadHeads():
            return "read heads"
        case IssueEpoch():
            return "issue epoch"
        case Now():
            return "look at the clock"
        case Sleep():
            return "nap"
        case Patience():
            return "patience"
        case _:
            return f"delete {say_key(command.key)}"  # type: ignore[union-attr]


def say_reply(command: Command, reply: Reply) -> str:
    """A reply in a word or two."""
    if reply.status is not Status.OK:
        return {Status.OVER: "over"}.get(reply.status, reply.status.name.lower())
    match command:
        case Patience():
            return "not yet"
        case Incr() | IssueEpoch() | Now():
            return say_number(reply.number)
        case Get():
            return say_value(reply.value)
        case ReadHeads():
            return ", ".join(say_number(part.number) for part in reply.parts) or "none"
        case _:
            return "ok"


def vote_name(vote: int) -> str:
    """As it stands in the schedule."""
    return message_of(vote).decode()
