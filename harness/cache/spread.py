"""Executes a protocol's commands on several daemons, where the protocol knows of one.

The ring says where each key lies; the command is then executed there, and journalled so. With
rehashing, one that certainly was not applied is tried once more on each daemon that its key moves
to: a record each. One that was sent and not answered is not, since nobody knows what it did.
"""

from typing import Final

from harness.cache.executor import MemcachedExecutor
from harness.cache.ring import Ring
from harness.protocol.commands import (
    UNANSWERED,
    Add,
    Command,
    Delete,
    Get,
    Incr,
    MemcachedCommand,
    Pipeline,
    Reply,
    Set,
    Status,
)

OF_A_KEY: Final = frozenset({Get, Set, Add, Incr, Delete})


class SpreadExecutor:
    """One thread's hands on as many daemons as the ring has."""

    def __init__(self, executor: MemcachedExecutor, ring: Ring) -> None:
        self._executor = executor
        self._ring = ring

    def stop_recording(self) -> None:
        """Go on without a journal."""
        self._executor.stop_recording()

    def execute(self, command: Command) -> Reply:
        """As `MemcachedExecutor.execute`."""
        if type(command) is Pipeline:
            return self._pipeline(command)
        if type(command) not in OF_A_KEY:
            return self._executor.execute(command)
        return self._one(command)  # type: ignore[arg-type]

    def _one(self, command: MemcachedCommand) -> Reply:
        while True:  # at most once for each daemon: an alive one is left, or else it ends
            daemon = self._ring.daemon_of(command.key.name)
            reply = self._executor.execute(_on(command, daemon))
            moved = reply.status in UNANSWERED and self._ring.mark_dead(daemon)
            if reply.status is not Status.UNREACHABLE or not moved:
                return reply

    def _pipeline(self, pipeline: Pipeline) -> Reply:
        """A pipeline for each daemon, in the order in which they come up.

        On one daemon the commands are carried out in turn, and none on another before the first
        that is left: so what the first command does has been done when any other is carried out.
        """
        replies: list[Reply | None] = [None] * len(pipeline.commands)
        left = list(range(len(replies)))
        while left:  # each time what lies on the first one's daemon, or that daemon is dead
            placed = [self._ring.daemon_of(pipeline.commands[n].key.name) for n in left]
            daemon = placed[0]
            mine = [n for n, at in zip(left, placed, strict=True) if at == daemon]
            answer = self._executor.execute(
                Pipeline([_on(pipeline.commands[n], daemon) for n in mine])
            )
            unheard = any(reply.status in UNANSWERED for reply in answer.parts)
            moved = unheard and self._ring.mark_dead(daemon)
            for n, reply in zip(mine, answer.parts, strict=True):
                if reply.status is not Status.UNREACHABLE or not moved:
                    replies[n] = reply
            left = [n for n in left if replies[n] is None]
        return Reply(Status.OK, parts=tuple(reply for reply in replies if reply))


def _on(command: MemcachedCommand, daemon: int) -> MemcachedCommand:
    return command._replace(key=command.key._replace(daemon=daemon))
