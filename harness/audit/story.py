"""A vote's life and death as events, in words: what `pollstorm explain` and the report show."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pandas as pd

from harness.audit.certificate import Command, Finding
from harness.audit.lives import any_of
from harness.history.journal import Role
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    Delete,
    Get,
    Incr,
    InsertBallots,
    IssueEpoch,
    KeyKind,
    Patience,
    ReadHeads,
    Set,
    Status,
)
from harness.protocol.ticket import EPOCH_BITS

WORDS: Final = {
    COMMAND_CODES[Get]: "get", COMMAND_CODES[Set]: "set", COMMAND_CODES[Incr]: "incr",
    COMMAND_CODES[Add]: "add", COMMAND_CODES[Delete]: "delete",
}  # fmt: skip
KEYS: Final = {
    KeyKind.LOCK: "lock", KeyKind.POINTER: "pointer", KeyKind.SLOT: "slot",
    KeyKind.VOTER: "voter's key",
}  # fmt: skip
NAMES: Final = {
    **{
        (code, int(key)): f"{word} {name}"
        for code, word in WORDS.items()
        for key, name in KEYS.items()
    },
    (COMMAND_CODES[InsertBallots], 0): "insert",
    (COMMAND_CODES[Patience], int(KeyKind.LOCK)): "patience",
    (COMMAND_CODES[ReadHeads], 0): "read heads",
    (COMMAND_CODES[IssueEpoch], 0): "issue epoch",
}
ENDS: Final = {
    Status.LOST: "no reply", Status.MISSING: "missing", Status.REFUSED: "refused",
    Status.UNREACHABLE: "unreachable", Status.OVER: "over", Status.EXISTS: "something is there",
    Status.ALREADY_VOTED: "another vote of the voter is counted",
}  # fmt: skip
MOST_EVENTS: Final = 60  # of one story; a drain's other slots are left out anyhow


class Event(msgspec.Struct, frozen=True):
    """One line. `mark`: `life` for the vote's own, `fatal` for what killed it, else empty."""

    at_ns: int
    actor: str
    text: str
    cas: int = 0
    mark: str = ""


Who = tuple[int, int, int]


def tell(
    connection: Any, found: Sequence[tuple[Command | None, Finding]]
) -> dict[Who, list[Command]]:
    """What the operations of votes and killers did: no failed tries, no slots of other votes."""
    who = {c.who for store, finding in found for c in (store, finding.killer) if c}
    slots = {store.slot for store, _ in found if store}
    if not who:
        return {}
    connection.register("who", pd.DataFrame(sorted(who), columns=["pid", "thread", "operation"]))
    connection.register("their_slots", pd.DataFrame({"slot": sorted(slots) or [0]}, dtype="uint64"))
    lost_try = f"{any_of(Incr)} AND number > 1 OR status = {int(Status.EXISTS)}"
    columns = ", ".join(Command._fields[:-1])
    rows = connection.execute(
        f"""SELECT {columns} FROM commands WHERE (pid, thread, operation) IN (
            SELECT (pid::UINTEGER, thread::USMALLINT, operation::UINTEGER) FROM who)
        AND NOT (key = {int(KeyKind.LOCK)} AND ({lost_try}))
        AND (key <> {int(KeyKind.SLOT)} OR slot IN (SELECT slot FROM their_slots))
        ORDER BY begin_ns"""
    ).fetchall()
    told: dict[Who, list[Command]] = defaultdict(list)
    for row in rows:
        command = Command(*row)
        told[command.who].append(command)
    return told


def said_of(
    vote: int,
    told: Any,
    store: Command | None,
    finding: Finding,
    story: dict[Who, list[Command]],
) -> list[Event]:
    """The events of one vote, in order."""
    events = [
        Event(told.planned_ns, "voter", "the vote is due", mark="life"),
        Event(told.sent_ns, "voter", "sends it", mark="life"),
    ]
    if told.answered_ns:
        events.append(Event(told.answered_ns, "voter", "is told that it is in", mark="life"))
    elif told.refused_ns:
        events.append(Event(told.refused_ns, "voter", "is told no", mark="life"))
    killer = finding.killer
    operations = {c.who for c in (store, killer) if c}
    commands = [
        c
        for who in operations
        for c in story.get(who, ())
        if c.key != KeyKind.SLOT or (store is not None and c.slot == store.slot)
    ]
    for command in commands:
        fatal = killer is not None and command[:-1] == killer[:-1]
        own = store is not None and command.who == store.who
        text = say(command, vote)
        if fatal and finding.by == "memcached":
            text += " (memcached had forgotten it by then)"
        mark = "fatal" if fatal else "life" if own else ""
        events.append(
            Event(command.end_ns or command.begin_ns, actor(command), text, command.cas, mark)
        )
    return sorted(events, key=lambda event: event.at_ns)[:MOST_EVENTS]


def actor(command: Command) -> str:
    """`flusher 812` or `site 700/3`: process and thread."""
    role = "flusher" if command.role == Role.FLUSHER else "site"
    return f"{role} {command.pid}/{command.thread}"


def say(command: Command, vote: int) -> str:
    """A command and its reply in words."""
    name = NAMES.get((command.command, command.key), f"command {command.command}")
    if command.key == KeyKind.SLOT:
        name += f" {_number(command.slot)}"
    if command.command == COMMAND_CODES[Patience]:
        return "patience is over: goes on without the lock"
    if not command.end_ns:
        return f"{name} → no reply: the process ended here, or the answer was lost"
    if command.status != Status.OK:
        return f"{name} → {ENDS.get(Status(command.status), 'failed')}{_follows(command)}"
    return f"{name} → {_result(command, vote)}"


def _number(number: int) -> str:
    """A slot's number; that of a ticket as epoch.number."""
    epoch = number >> EPOCH_BITS
    return f"{epoch}.{number & (1 << EPOCH_BITS) - 1}" if epoch else str(number)


def _follows(command: Command) -> str:
    if command.status == Status.MISSING and command.key == KeyKind.LOCK:
        return ": begins the queue anew (cold grant)"
    return ""


def _result(command: Command, vote: int) -> str:
    read = command.command == COMMAND_CODES[Get]
    if command.command == COMMAND_CODES[InsertBallots]:
        return f"committed, {command.number} votes"
    if command.command == COMMAND_CODES[Delete]:
        return "done"
    if command.key in (KeyKind.SLOT, KeyKind.VOTER):
        whose = (
            "the vote" if command.vote == vote else "another vote" if command.vote else "no vote"
        )
        return f"{whose} was {'in it' if read else 'stored'}"
    if command.key == KeyKind.POINTER:
        if command.command == COMMAND_CODES[Add]:
            return "a new epoch"
        return "set back" if command.command == COMMAND_CODES[Set] else _number(command.number)
    if command.command == COMMAND_CODES[Incr]:
        return "1: let in (clean grant)"
    return "done"
