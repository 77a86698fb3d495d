"""The page that all processes of a trial share, on which faults are armed at protocol steps.

Stopping a process blindly hits the holder of the lock about once in a hundred times. So a fault
is written here instead, and the process that comes to the named step sends the signal to itself.
One byte per step is read per command; the rest happens only when it is not zero.
"""

import fcntl
import mmap
import os
import signal
import struct
import threading
from pathlib import Path
from time import monotonic_ns
from typing import Final, NamedTuple

PAGE_BYTES: Final = 4096
STEP_BYTES: Final = 1024
MAX_HITS: Final = 96  # 3 KiB of 32-byte hits; a trial arms a handful
_COUNT: Final = struct.Struct("<I")
_HIT: Final = struct.Struct("<qIII12x")
_HITS_AT: Final = STEP_BYTES
_FIRST_HIT_AT: Final = STEP_BYTES + 32


class Hit(NamedTuple):
    """A fault that a process met: it is about to send the signal to itself."""

    at_ns: int
    pid: int
    step: int
    signal: int


def step(role: int, command: int, key: int) -> int:
    """The number of a protocol step: this role is about to send this command on this key."""
    return role << 8 | command << 4 | key


class ArmedPage:
    """Create it once with `create`, open it in every process that runs a protocol."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR)
        self.steps = mmap.mmap(self._descriptor, PAGE_BYTES)
        """Byte `step(...)` is the signal armed there, or 0."""
        self._threads = threading.Lock()  # flock excludes processes, not threads of one

    @classmethod
    def create(cls, path: Path) -> "ArmedPage":
        path.write_bytes(bytes(PAGE_BYTES))
        return cls(path)

    def arm(self, step_number: int, signal_number: signal.Signals) -> None:
        """The next process to come to the step sends the signal to itself, once."""
        self.steps[step_number] = signal_number

    def disarm(self, step_number: int) -> None:
        self.steps[step_number] = 0

    def hits(self) -> list[Hit]:
        """All faults met so far, oldest first."""
        (count,) = _COUNT.unpack_from(self.steps, _HITS_AT)
        found = (
            _HIT.unpack_from(self.steps, _FIRST_HIT_AT + index * _HIT.size)
            for index in range(count)
        )
        return [Hit(*fields) for fields in found]

    def meet(self, step_number: int) -> None:
        """Called at an armed step: claim the fault, note the hit, take the signal."""
        with self._threads:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                armed = self.steps[step_number]
                (count,) = _COUNT.unpack_from(self.steps, _HITS_AT)
                if armed == 0 or count == MAX_HITS:
                    return  # another process was quicker
                self.steps[step_number] = 0
                hit = Hit(monotonic_ns(), os.getpid(), step_number, armed)
                _HIT.pack_into(self.steps, _FIRST_HIT_AT + count * _HIT.size, *hit)
                _COUNT.pack_into(self.steps, _HITS_AT, count + 1)
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        # To this thread, not to the process: a signal to the process is taken by any thread, and
        # until that one runs, this one would go on and leave the critical section.
        signal.pthread_kill(threading.get_ident(), armed)
