"""Executes a protocol's commands on real memcached daemons, and journals each of them."""

from binascii import unhexlify
from collections.abc import Callable, Sequence
from time import monotonic_ns, sleep
from typing import Any, Final

from harness.armed import ArmedPage, step
from harness.cache.meta_client import MetaClient
from harness.errors import RecordingError
from harness.history.journal import Journal, OpenCommand, Role
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    Command,
    Delete,
    Get,
    Incr,
    Key,
    KeyKind,
    MemcachedCommand,
    Now,
    Patience,
    Pipeline,
    Reply,
    Set,
    Sleep,
    Status,
)

OVER: Final = Reply(Status.OVER)
NOT_YET: Final = Reply(Status.OK)
GET: Final = COMMAND_CODES[Get]
SET: Final = COMMAND_CODES[Set]
ADD: Final = COMMAND_CODES[Add]
INCR: Final = COMMAND_CODES[Incr]
DELETE: Final = COMMAND_CODES[Delete]
PATIENCE: Final = COMMAND_CODES[Patience]
VOTE_DIGITS: Final = 16  # a message opens with its vote's id in hex, and a voter's key has only it
SLOT: Final = KeyKind.SLOT  # looked up once: the hot path of every command
VOTER: Final = KeyKind.VOTER


class MemcachedExecutor:
    """One thread's hands: a client for each daemon, its journal, and the page of armed faults."""

    def __init__(
        self,
        clients: Sequence[MetaClient],
        role: Role,
        patience_ns: int,
        journal: Journal | None,
        armed: ArmedPage | None,
    ) -> None:
        self._clients = tuple(clients)
        self._role = role
        self._patience_ns = patience_ns
        self._journal = journal
        self._armed = armed
        self._steps = armed.steps if armed else None
        self._performers: dict[type[Command], Callable[[Any], Reply]] = {
            Incr: self._incr,
            Set: self._set,
            Get: self._get,
            Add: self._add,
            Delete: self._delete,
            Pipeline: self._pipeline,
            Now: _now,
            Sleep: _sleep,
            Patience: self._patience,
        }

    def stop_recording(self) -> None:
        """Go on without a journal."""
        self._journal = None

    def execute(self, command: Command) -> Reply:
        """Do it, and say how it ended; never raises for what memcached does.

        Raises RecordingError, before anything is sent, when it cannot be recorded.
        """
        perform = self._performers.get(type(command))
        if perform is None:
            raise TypeError(f"memcached cannot execute {command!r}")
        return perform(command)

    def _incr(self, command: Incr) -> Reply:
        key = command.key
        self._begin(INCR, key, 0)
        reply = self._clients[key.daemon].meta_incr(key.name)
        if self._journal:
            self._journal.close(reply.status, reply.number, reply.cas)
        return reply

    def _set(self, command: Set) -> Reply:
        key = command.key
        self._begin(SET, key, self._vote_sent(key, command.value))
        reply = self._clients[key.daemon].meta_set(key.name, command.value)
        if self._journal:
            self._journal.close(reply.status, 0, reply.cas)
        return reply

    def _get(self, command: Get) -> Reply:
        key = command.key
        self._begin(GET, key, 0)
        reply = self._clients[key.daemon].meta_get(key.name)
        if self._journal:
            _close(self._journal, key, reply)
        return reply

    def _add(self, command: Add) -> Reply:
        key = command.key
        self._begin(ADD, key, self._vote_sent(key, command.value))
        reply = self._clients[key.daemon].meta_add(key.name, command.value, command.lifetime_s)
        if self._journal:
            self._journal.close(reply.status, 0, reply.cas)
        return reply

    def _delete(self, command: Delete) -> Reply:
        key = command.key
        self._begin(DELETE, key, 0)
        reply = self._clients[key.daemon].meta_delete(key.name, command.cas)
        if self._journal:
            self._journal.close(reply.status)
        return reply

    def _pipeline(self, pipeline: Pipeline) -> Reply:
        """Meet faults and open all records, then send, then close each with its own reply."""
        commands = pipeline.commands
        if not commands:
            return Reply(Status.OK)
        daemon = commands[0].key.daemon
        assert all(command.key.daemon == daemon for command in commands), "one daemon's commands"
        if self._steps:
            for command in commands:
                self._meet(COMMAND_CODES[type(command)], command.key.kind)
        journal = self._journal
        opened = self._open_all(journal, commands) if journal else []
        replies = self._clients[daemon].pipeline(commands)
        if journal:
            for command, record, reply in zip(commands, opened, replies, strict=True):
                journal.resume(record)
                _close(journal, command.key, reply)
        return Reply(Status.OK, parts=tuple(replies))

    def _open_all(
        self, journal: Journal, commands: Sequence[MemcachedCommand]
    ) -> list[OpenCommand]:
        """Raises RecordingError when there is no room for all; those opened are closed unsent."""
        opened: list[OpenCommand] = []
        try:
            for command in commands:
                key = command.key
                value = command.value if isinstance(command, Set | Add) else b""
                vote = self._vote_sent(key, value)
                journal.open(COMMAND_CODES[type(command)], key.kind, key.slot, vote, key.daemon)
                opened.append(journal.opened())
        except RecordingError:
            for record in opened:
                journal.resume(record)
                journal.close(Status.UNREACHABLE)
            raise
        return opened

    def _patience(self, command: Patience) -> Reply:
        if command.slept_ns < self._patience_ns:
            return NOT_YET
        if self._journal:
            self._journal.open(PATIENCE, KeyKind.LOCK)
            self._journal.close(Status.OVER, command.slept_ns)
        return OVER

    def _begin(self, code: int, key: Key, vote: int) -> None:
        """Meet a fault that is armed at this step, then open the command's record."""
        if self._steps:
            self._meet(code, key.kind)
        if self._journal:
            self._journal.open(code, key.kind, key.slot, vote, key.daemon)

    def _meet(self, code: int, key: KeyKind) -> None:
        here = step(self._role, code, key)
        if self._steps and self._steps[here] and self._armed:
            self._armed.meet(here)

    def _vote_sent(self, key: Key, value: bytes) -> int:
        return vote_at(key, value) if self._journal else 0


def vote_at(key: Key, value: bytes) -> int:
    """Whose vote lies at the key, or is put there; 0 at a key that is no vote's."""
    kind = key.kind
    if kind is SLOT:
        return vote_in(value)
    return vote_in(value + b" ") if kind is VOTER else 0  # what a message opens with, alone


def vote_in(message: bytes) -> int:
    """The vote id that a message opens with; 0 for a message that is none of ours.

    Not by `int`, which reads much that is no id, such as `-1`, of which there is no record.
    """
    if message[VOTE_DIGITS : VOTE_DIGITS + 1] != b" ":
        return 0
    try:
        return int.from_bytes(unhexlify(message[:VOTE_DIGITS]))
    except ValueError:
        return 0


def _close(journal: Journal, key: Key, reply: Reply) -> None:
    """Record the reply; what a vote left there counts as a vote, not as a number."""
    vote = vote_at(key, reply.value)
    journal.close(reply.status, 0 if vote else reply.number, reply.cas, vote)


def _now(_: Now) -> Reply:
    return Reply(Status.OK, monotonic_ns())


def _sleep(command: Sleep) -> Reply:
    begin_ns = monotonic_ns()
    sleep(command.duration_ns / 1e9)
    return Reply(Status.OK, monotonic_ns() - begin_ns)
