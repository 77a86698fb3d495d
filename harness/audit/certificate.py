"""What a death certificate says, and the words for causes.

    lost      overwritten        another message was stored in the vote's slot before it was read
              skipped            a drain that had not read the slot set the pointer back
              stored-late        the vote came into its slot after the drain had passed
              cold-reset         a second initialisation of a queue that was in use
              foreign-reset      nobody of this trial set the pointer back, yet it went back
              nil-pointer        without a pointer, the vote went to slot 0, which no drain reads
              wiped, evicted     memcached forgot everything, or just this
              silent-refusal     memcached refused the vote, and nobody looked
              read-not-committed the drain that had taken the vote ended before the commit
              batch-rolled-back  the database did not take the batch
              moved              the drains asked another daemon
    doubled   stale-slot         a slot was drawn again, not filled, and its old message read again
              double-drain       two drains read the same slot between two resets
              client-retry       it was delivered once for each of several ways in

A cause is *certain* when it rests on CAS numbers, on the order within one operation, or on
intervals that do not overlap. No cause is decided by looking at the timetable of faults.
"""

from typing import Final, NamedTuple

import msgspec

LOST_BY: Final = (
    *("overwritten", "skipped", "stored-late", "cold-reset", "foreign-reset", "nil-pointer"),
    *("wiped", "evicted", "silent-refusal", "read-not-committed", "batch-rolled-back", "moved"),
)
DOUBLED_BY: Final = ("stale-slot", "double-drain", "client-retry")
UNKNOWN: Final = "unknown"


class Command(NamedTuple):
    """One journal row; `life` is memcached's, -1 when it may belong to either of two."""

    begin_ns: int
    end_ns: int
    vote: int
    number: int
    cas: int
    slot: int
    pid: int
    operation: int
    thread: int
    queue: int
    daemon: int
    role: int
    command: int
    key: int
    status: int
    life: int = 0

    @property
    def who(self) -> tuple[int, int, int]:
        """The machine's run that it belongs to."""
        return self.pid, self.thread, self.operation

    @property
    def place(self) -> tuple[int, int]:
        """The queue, and the daemon that it lies on."""
        return self.queue, self.daemon


class Finding(NamedTuple):
    """Why a vote died. `killer` is the command that did it, or that found it gone."""

    cause: str
    certain: bool
    why: str
    killer: Command | None = None
    by: str = ""  # site, flusher, memcached, outside; empty: that of the killer


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """One lost, altered or doubled vote. Times are CLOCK_MONOTONIC in ns, 0 where unknown."""

    vote: int
    fate: str  # lost, altered, doubled
    cause: str
    certain: bool
    why: str  # a sentence
    planned_ns: int = 0
    sent_ns: int = 0
    answered_ns: int = 0
    attempts: int = 0
    pid: int = 0  # of the operation that stored it
    thread: int = 0
    operation: int = 0
    grant: str = ""  # clean, cold, takeover; empty without a lock
    queue: int = 0
    daemon: int = 0
    slot: int = 0
    drawn_ns: int = 0
    drawn_cas: int = 0
    stored_ns: int = 0
    stored_cas: int = 0
    killer: str = ""  # the command, such as "set pointer"
    killer_by: str = ""  # site, flusher, memcached (it forgot; the command found out), outside
    killer_pid: int = 0
    killer_thread: int = 0
    killer_operation: int = 0
    killer_cas: int = 0
    killer_begin_ns: int = 0
    killer_end_ns: int = 0
    killer_vote: int = 0  # whose message overwrote it
    killer_grant: str = ""
    killer_overlapped: str = ""  # whose hold the killer's overlapped, as pid/thread/operation
    fault: str = ""  # those active between its sending and its death, attached afterwards
    story: str = "[]"  # JSON: the events that `pollstorm explain` shows
