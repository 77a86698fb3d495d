"""What site and flusher did: one record per command, opened before it is sent.

An open record says: sent, reply unknown. CAS numbers order all mutations of one memcached life,
whatever the clocks of the processes say.
"""

import itertools
import mmap
import os
import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from time import monotonic_ns
from typing import Final, NamedTuple

import numpy as np

from harness.history.recorder import SEGMENT_RECORDS, Recorder
from harness.protocol.commands import KeyKind, Status


class Role(IntEnum):
    """Who sent a command."""

    SITE = 1
    FLUSHER = 2


JOURNAL_DTYPE: Final = np.dtype(
    [
        ("begin_ns", "<i8"),  # CLOCK_MONOTONIC; 0: the record is unused
        ("end_ns", "<i8"),  # 0: no reply was seen
        ("vote", "<u8"),  # the vote whose message was written or read; 0: none
        ("number", "<u8"),  # counter value in the reply; votes in a batch; ns slept
        ("cas", "<u8"),  # memcached's CAS: of the write made, or of the write that a read saw
        ("slot", "<u8"),
        ("pid", "<u4"),
        ("operation", "<u4"),  # one machine's run: a vote on its way in, or one drain
        ("thread", "<u2"),
        ("queue", "u1"),
        ("daemon", "u1"),  # which memcached; 0 for what is not memcached's
        ("role", "u1"),  # Role
        ("command", "u1"),  # commands.COMMAND_CODES
        ("key", "u1"),  # KeyKind
        ("status", "u1"),  # Status
    ]
)
"""(pid, thread, operation) names one machine's run; its records in begin order are its life."""

ROOM: Final = 64  # records for one run of a machine that need not wait: `mirrored` takes up to 49

_OPEN: Final = struct.Struct("<qqQQQQIIHBBBBBB")
_CLOSE: Final = struct.Struct("<q")
_CLOSE_AT: Final = 8
_REPLY: Final = struct.Struct("<QQQ")
_REPLY_AT: Final = 16
_STATUS_AT: Final = 63
_LOST: Final = int(Status.LOST)  # looked up once: this is the hot path of every command
assert JOURNAL_DTYPE.itemsize == 64


class OpenCommand(NamedTuple):
    """One command under way; holds its segment, which may be full and replaced meanwhile."""

    buffer: mmap.mmap
    offset: int
    vote: int


class Journal:
    """The commands of one thread, in `<folder>/journal-<pid>-<thread>.<n>.bin`.

    Commands of a thread follow one another, and `close` is of the one opened last. Only those of a
    pipeline are under way together: keep what `opened` says, and `resume` it before it is closed.
    """

    _threads: Iterator[int] = itertools.count()  # numbers of this process's journals

    def __init__(self, folder: Path, role: Role) -> None:
        self._pid = os.getpid()
        self._thread = next(self._threads)
        self._role = role
        self._operation = 0
        self._queue = 0
        self._recorder = Recorder(
            folder / f"journal-{self._pid}-{self._thread}", JOURNAL_DTYPE.itemsize
        )
        self._buffer: mmap.mmap
        self._offset = 0
        self._vote = 0

    def start_operation(self, queue: int = 0, records: int = ROOM) -> None:
        """The next records belong to a new machine's run on that queue.

        Raises RecordingError when the disk has no room for so many; nothing has been sent then.
        """
        self._recorder.require_room(min(records, SEGMENT_RECORDS))
        self._operation += 1
        self._queue = queue

    def open(
        self,
        command: int,
        key: KeyKind = KeyKind.NONE,
        slot: int = 0,
        vote: int = 0,
        daemon: int = 0,
    ) -> None:
        """Record a command that is about to be sent. Raises RecordingError on a full disk."""
        recorder = self._recorder
        self._offset = offset = recorder.reserve()
        self._buffer = buffer = recorder.buffer
        self._vote = vote
        _OPEN.pack_into(
            buffer,
            offset,
            monotonic_ns(),
            0,
            vote,
            0,
            0,
            slot,
            self._pid,
            self._operation,
            self._thread,
            self._queue,
            daemon,
            self._role,
            command,
            key,
            _LOST,
        )

    def close(self, status: Status, number: int = 0, cas: int = 0, vote: int = 0) -> None:
        """Record the reply to the open command. `vote`: whose message a read brought."""
        buffer, offset = self._buffer, self._offset
        _REPLY.pack_into(buffer, offset + _REPLY_AT, vote or self._vote, number, cas)
        buffer[offset + _STATUS_AT] = status
        _CLOSE.pack_into(buffer, offset + _CLOSE_AT, monotonic_ns())

    def opened(self) -> OpenCommand:
        """The command opened last, to be resumed when others have been opened since."""
        return OpenCommand(self._buffer, self._offset, self._vote)

    def resume(self, command: OpenCommand) -> None:
        """Make it the one that `close` is of."""
        self._buffer, self._offset, self._vote = command
