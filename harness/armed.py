"""The page that all processes of a trial share, on which faults are armed at protocol steps.

Stopping a process blindly hits the holder of the lock about once in a hundred times. So a fault
is written here instead, and the process that comes to the named step sends the signal to itself.
One byte per step is read per command; the rest happens only when it is not zero.

A fault may be armed at several steps of one role, of which a protocol has some; whoever meets one
first disarms all of that role. And it may be armed `after` another step: then it is for the process
that passed that one, when it comes to its own.
"""

import fcntl
import mmap
import os
import signal
import struct
import threading
from enum import IntEnum
from pathlib import Path
from time import monotonic_ns
from typing import Final, NamedTuple

PAGE_BYTES: Final = 4096
STEP_BYTES: Final = 1024
MAX_HITS: Final = 92  # of 32 bytes; a trial arms a handful
_COUNT: Final = struct.Struct("<I")
_HIT: Final = struct.Struct("<qIII12x")
_HITS_AT: Final = STEP_BYTES
_FIRST_HIT_AT: Final = STEP_BYTES + 32
_LATER: Final = struct.Struct("<IBB2H")  # process, signal, how many steps, steps
_LATER_AT: Final = 4064
_STEPS_LATER: Final = 2  # at most
_PASSING: Final = 0xFF  # no signal: here the fault gets its process
assert _FIRST_HIT_AT + MAX_HITS * _HIT.size <= _LATER_AT <= PAGE_BYTES - _LATER.size


class Passage(IntEnum):
    """Where in the transaction of a batch a process is; stands in a step in place of a key."""

    BEFORE_INSERT = 0  # nothing has been sent
    BEFORE_COMMIT = 1  # all rows have been sent and answered
    AFTER_COMMIT = 2  # the commit has been answered


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

    def arm(
        self, step_number: int, signal_number: signal.Signals, *others: int, after: int = 0
    ) -> None:
        """The next process to come to the step, or one of the others, sends the signal to itself.

        Once. With `after` it is the next to pass that step; with it, one other at most.
        """
        steps = (step_number, *others)
        if after:
            padded = (*steps, *[0] * (_STEPS_LATER - len(steps)))
            _LATER.pack_into(self.steps, _LATER_AT, 0, signal_number, len(steps), *padded)
            self.steps[after] = _PASSING
            return
        for each in steps:
            self.steps[each] = signal_number

    def disarm(self, step_number: int) -> None:
        """Nothing is armed at any step of its role any more."""
        first = step_number >> 8 << 8
        self.steps[first : first + 256] = bytes(256)
        _, _, count, *steps = _LATER.unpack_from(self.steps, _LATER_AT)
        if count and steps[0] >> 8 << 8 == first:
            _LATER.pack_into(self.steps, _LATER_AT, 0, 0, 0, 0, 0)

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
                if armed == _PASSING:
                    self.steps[step_number] = 0
                    self._arm_for_this_process()
                    return
                if not self._is_for_this_process(step_number):
                    return
                self.disarm(step_number)
                hit = Hit(monotonic_ns(), os.getpid(), step_number, armed)
                _HIT.pack_into(self.steps, _FIRST_HIT_AT + count * _HIT.size, *hit)
                _COUNT.pack_into(self.steps, _HITS_AT, count + 1)
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        # To this thread, not to the process: a signal to the process is taken by any thread, and
        # until that one runs, this one would go on and leave the critical section.
        signal.pthread_kill(threading.get_ident(), armed)

    def _arm_for_this_process(self) -> None:
        _, armed, count, *steps = _LATER.unpack_from(self.steps, _LATER_AT)
        _LATER.pack_into(self.steps, _LATER_AT, os.getpid(), armed, count, *steps)
        for each in steps[:count]:
            self.steps[each] = armed

    def _is_for_this_process(self, step_number: int) -> bool:
        pid, _, count, *steps = _LATER.unpack_from(self.steps, _LATER_AT)
        return step_number not in steps[:count] or pid == os.getpid()
