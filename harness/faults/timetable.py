"""Starts each fault at its time, and records when it began, ended, and whether it hit."""

import threading
from collections.abc import Callable
from time import monotonic, monotonic_ns
from typing import Any, Final, TypeAlias

import msgspec
import psutil
import pymysql
from pymemcache.exceptions import MemcacheError

from harness.errors import PollstormError
from harness.fault import BETWEEN, Fault, describe, target_of
from harness.faults import (
    connections,
    deadlock,
    full_disk,
    kill,
    lock_table,
    network,
    pause,
    slow_commit,
    squeeze,
    wipe,
)
from harness.faults.fault import DAEMONS, Met, Reach
from harness.result import FaultRecord

START: Final[dict[str, Callable[[Fault, Reach], Met | None]]] = {
    "connections": connections.start,
    "deadlock": deadlock.start,
    "full-disk": full_disk.start,
    "kill": kill.start,
    "lock-table": lock_table.start,
    "pause": pause.start,
    "slow-commit": slow_commit.start,
    "squeeze": squeeze.start,
    "wipe": wipe.start,
    **dict.fromkeys(BETWEEN, network.start),
}
OF_QUEUES: Final = ("lock-holder", "flusher")
END_S: Final = 45.0  # longer than a MariaDB takes to come back, and that than anything else
BROKEN_OFF: Final = (
    PollstormError,
    OSError,
    psutil.Error,
    pymysql.MySQLError,
    MemcacheError,
)
"""What may go wrong while a fault strikes a world that other faults have struck as well."""


def applicable(
    faults: tuple[Fault, ...], mode: str, queues: bool, daemons: int = len(DAEMONS)
) -> tuple[Fault, ...]:
    """The faults that have a target in the mode, which has so many memcached daemons."""
    present = DAEMONS[:daemons]

    def has(target: str) -> bool:
        if target in DAEMONS:
            return target in present
        return queues or target not in OF_QUEUES

    return tuple(
        fault
        for fault in faults
        if (not fault.modes or mode in fault.modes) and has(target_of(fault))
    )


Note: TypeAlias = Callable[[str, Any], None]
"""Told that "fault begins", with its description, and "fault is over", with its record."""


class Timetable:
    """One thread per fault, from `begin` to `heal`."""

    def __init__(
        self, faults: tuple[Fault, ...], reach: Reach, note: Note = lambda *_: None
    ) -> None:
        self._faults = faults
        self._reach = reach
        self._note = note
        self._start_ns = 0
        self._records: dict[int, FaultRecord] = {}
        self._threads: list[threading.Thread] = []

    def begin(self, start_ns: int) -> None:
        """The load starts at this CLOCK_MONOTONIC time; faults count from it."""
        self._start_ns = start_ns
        for number, fault in enumerate(self._faults):
            thread = threading.Thread(target=self._run, args=(number, fault), daemon=True)
            self._threads.append(thread)
            thread.start()

    def heal(self) -> tuple[FaultRecord, ...]:
        """The load has ended: end what lasts, and say what happened to each fault."""
        self._reach.ended.set()
        until_s = monotonic() + END_S
        for thread in self._threads:
            thread.join(max(0.0, until_s - monotonic()))
        why = f"was not over {END_S:g} s after the load, or broke off; what it did may last"
        return tuple(
            self._records.get(number) or self._record(fault, self._start_ns, None, why)
            for number, fault in enumerate(self._faults[: len(self._threads)])
        )

    def _run(self, number: int, fault: Fault) -> None:
        due_ns = self._start_ns + round(fault.at_s * 1e9)
        early = self._reach.ended.wait(max(0, due_ns - monotonic_ns()) / 1e9)
        begin_ns = monotonic_ns()
        met: Met | None = None
        why = "the load ended before it"
        if not early:
            self._note("fault begins", describe(fault))
            try:
                met = START[fault.kind](fault, self._reach)
                why = "did not meet its target"
            except BROKEN_OFF as error:
                why = str(error) or type(error).__name__
        record = self._record(fault, begin_ns, met, why)
        self._records[number] = record
        self._note("fault is over", msgspec.to_builtins(record))

    def _record(self, fault: Fault, begin_ns: int, met: Met | None, why: str) -> FaultRecord:
        """One that is over now; `why` it did not hit, if it did not."""
        return FaultRecord(
            kind=fault.kind,
            target=(met and met.target) or target_of(fault),
            start_s=self._seconds(met.at_ns if met and met.at_ns else begin_ns),
            end_s=self._seconds(monotonic_ns()),
            hit=met is not None,
            detail=met.detail if met else why,
        )

    def _seconds(self, moment_ns: int) -> float:
        return round((moment_ns - self._start_ns) / 1e9, 4)
