"""Executes a protocol's commands on a real memcached, and journals each of them."""

from time import monotonic_ns, sleep
from typing import Final

from harness.armed import ArmedPage, step
from harness.cache.meta_client import MetaClient
from harness.history.journal import Journal, Role
from harness.protocol.commands import (
    COMMAND_CODES,
    Command,
    Get,
    Incr,
    InsertBallots,
    KeyKind,
    Patience,
    Reply,
    Set,
    Sleep,
    Status,
)

OVER: Final = Reply(Status.OVER)
NOT_YET: Final = Reply(Status.OK)
GET: Final = COMMAND_CODES[Get]
SET: Final = COMMAND_CODES[Set]
INCR: Final = COMMAND_CODES[Incr]
PATIENCE: Final = COMMAND_CODES[Patience]
VOTE_DIGITS: Final = 16  # a message opens with its vote's id in hex


class MemcachedExecutor:
    """One thread's hands: its client, its journal, and the page of armed faults."""

    def __init__(
        self,
        client: MetaClient,
        role: Role,
        patience_ns: int,
        journal: Journal | None,
        armed: ArmedPage | None,
    ) -> None:
        self._client = client
        self._role = role
        self._patience_ns = patience_ns
        self._journal = journal
        self._armed = armed
        self._steps = armed.steps if armed else None

    def stop_recording(self) -> None:
        """Go on without a journal."""
        self._journal = None

    def execute(self, command: Command) -> Reply:
        """Do it, and say how it ended; never raises for what memcached does."""
        kind = type(command)
        if kind is Incr:
            return self._incr(command)  # type: ignore[arg-type]
        if kind is Set:
            return self._set(command)  # type: ignore[arg-type]
        if kind is Get:
            return self._get(command)  # type: ignore[arg-type]
        if kind is Sleep:
            return _sleep(command)  # type: ignore[arg-type]
        if kind is Patience:
            return self._patience(command)  # type: ignore[arg-type]
        assert kind is not InsertBallots, "ballots are the database's"
        raise TypeError(f"memcached cannot execute {command!r}")

    def _incr(self, command: Incr) -> Reply:
        key = command.key
        self._begin(INCR, key.kind, key.slot, 0)
        reply = self._client.meta_incr(key.name)
        if self._journal:
            self._journal.close(reply.status, reply.number, reply.cas)
        return reply

    def _set(self, command: Set) -> Reply:
        key = command.key
        carries_vote = self._journal and key.kind is KeyKind.SLOT
        self._begin(SET, key.kind, key.slot, vote_in(command.value) if carries_vote else 0)
        reply = self._client.meta_set(key.name, command.value)
        if self._journal:
            self._journal.close(reply.status, 0, reply.cas)
        return reply

    def _get(self, command: Get) -> Reply:
        key = command.key
        self._begin(GET, key.kind, key.slot, 0)
        reply = self._client.meta_get(key.name)
        if self._journal:
            vote = vote_in(reply.value) if key.kind is KeyKind.SLOT else 0
            self._journal.close(reply.status, reply.number if not vote else 0, reply.cas, vote)
        return reply

    def _patience(self, command: Patience) -> Reply:
        if command.slept_ns < self._patience_ns:
            return NOT_YET
        if self._journal:
            self._journal.open(PATIENCE, KeyKind.LOCK)
            self._journal.close(Status.OVER, command.slept_ns)
        return OVER

    def _begin(self, code: int, key: KeyKind, slot: int, vote: int) -> None:
        """Meet a fault that is armed at this step, then open the command's record."""
        if self._steps:
            here = step(self._role, code, key)
            if self._steps[here] and self._armed:
                self._armed.meet(here)
        if self._journal:
            self._journal.open(code, key, slot, vote)


def vote_in(message: bytes) -> int:
    """The vote id that a message opens with; 0 for a message that is none of ours."""
    try:
        return int(message[:VOTE_DIGITS], 16)
    except ValueError:
        return 0


def _sleep(command: Sleep) -> Reply:
    begin_ns = monotonic_ns()
    sleep(command.duration_ns / 1e9)
    return Reply(Status.OK, monotonic_ns() - begin_ns)
