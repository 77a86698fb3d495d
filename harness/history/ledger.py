"""What voters saw: one record per attempt, opened before it is sent and closed when it ended.

A record that was opened and never closed says: sent, and the voter never learned the outcome.
"""

import mmap
import struct
from enum import IntEnum
from pathlib import Path
from typing import Final

import numpy as np

from harness.history.recorder import Recorder
from harness.vote import Outcome, VoteId


class RequestKind(IntEnum):
    """What the voter asked for."""

    VOTE = 1
    RESULTS = 2


LEDGER_DTYPE: Final = np.dtype(
    [
        ("vote", "<u8"),  # the vote's id; for a results page the arrival's own number
        ("planned_ns", "<i8"),  # when the arrival was due
        ("taken_ns", "<i8"),  # when a user became free for it
        ("sent_ns", "<i8"),  # when the first byte was about to leave
        ("answered_ns", "<i8"),  # when the answer was complete, or given up; 0: never learned
        ("outcome", "u1"),  # Outcome
        ("kind", "u1"),  # RequestKind
        ("choice", "<u2"),
        ("status", "<u2"),  # HTTP status, 0 without one
        ("attempt", "<u2"),  # 1 for the first
        ("generator", "<u2"),
        ("error", "u1"),  # Trouble
        ("padding", "V13"),
    ]
)
"""All times are CLOCK_MONOTONIC in nanoseconds, one clock for all processes of a machine."""

TIMES: Final = ("planned_ns", "taken_ns", "sent_ns", "answered_ns")

_OPEN: Final = struct.Struct("<QqqqqBBHHHHB")
_CLOSE: Final = struct.Struct("<qB")
_CLOSE_AT: Final = 32
_STATUS: Final = struct.Struct("<H")
_STATUS_AT: Final = 44
_ERROR_AT: Final = 50
assert LEDGER_DTYPE.itemsize == 64
assert LEDGER_DTYPE.fields is not None
assert LEDGER_DTYPE.fields["answered_ns"][1] == _CLOSE_AT
assert LEDGER_DTYPE.fields["status"][1] == _STATUS_AT
assert LEDGER_DTYPE.fields["error"][1] == _ERROR_AT


class Trouble(IntEnum):
    """Why an attempt has no HTTP status."""

    NONE = 0
    TIMED_OUT = 1
    NOT_CONNECTED = 2  # certainly not received
    BROKEN = 3  # the connection ended before the answer was complete
    NONSENSE = 4  # the answer was no HTTP
    STOPPED = 5  # the run was ended while the request was under way


class OpenAttempt:
    """One attempt under way; holds its segment, which may be full and replaced meanwhile."""

    __slots__ = ("_buffer", "_offset")

    def __init__(self, buffer: mmap.mmap, offset: int) -> None:
        self._buffer = buffer
        self._offset = offset

    def close(
        self, answered_ns: int, outcome: Outcome, status: int, trouble: Trouble = Trouble.NONE
    ) -> None:
        """Write down how the attempt ended."""
        buffer, offset = self._buffer, self._offset
        _STATUS.pack_into(buffer, offset + _STATUS_AT, status)
        buffer[offset + _ERROR_AT] = trouble
        _CLOSE.pack_into(buffer, offset + _CLOSE_AT, answered_ns, outcome)


class Ledger:
    """The attempts of one generator process, in `<folder>/ledger-<generator>.<n>.bin`."""

    def __init__(self, folder: Path, generator: int) -> None:
        self._generator = generator
        self._recorder = Recorder(folder / f"ledger-{generator}", LEDGER_DTYPE.itemsize)

    def open(
        self,
        kind: RequestKind,
        vote: VoteId,
        choice: int,
        attempt: int,
        *,
        planned_ns: int,
        taken_ns: int,
        sent_ns: int,
    ) -> OpenAttempt:
        """Record an attempt that is about to be sent. Raises RecordingError on a full disk."""
        recorder = self._recorder
        offset = recorder.reserve()
        _OPEN.pack_into(
            recorder.buffer,
            offset,
            vote,
            planned_ns,
            taken_ns,
            sent_ns,
            0,
            Outcome.UNKNOWN,
            kind,
            choice,
            0,
            attempt,
            self._generator,
            Trouble.NONE,
        )
        return OpenAttempt(recorder.buffer, offset)
