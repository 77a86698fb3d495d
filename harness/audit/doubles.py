"""Why a vote was delivered more often than it was sent, or with another choice than it was cast."""

from itertools import groupby

from harness.audit.certificate import UNKNOWN, Command, Finding
from harness.audit.queues import Queues, Reset
from harness.protocol.commands import KeyKind, Status


def cause_of_double(queues: Queues, vote: int) -> Finding:
    """Which second delivery there was, and what made it possible."""
    reads = _delivered(queues, vote)
    for _, same in groupby(
        sorted(reads, key=lambda c: (c.daemon, c.life, c.cas, c.begin_ns)),
        key=lambda c: (c.daemon, c.life, c.cas),
    ):
        first, *again = same
        if again:
            return _read_twice(queues, first, again[0])
    return _several_ways(queues, vote, reads)


def cause_of_alteration(queues: Queues, vote: int) -> Finding:
    """Which delivery may have brought the other choice."""
    stored = {(c.daemon, c.life, c.cas) for c in queues.own.get(vote, ()) if c.cas}
    for read in queues.carried.get(vote, ()):
        if (read.daemon, read.life, read.cas) not in stored:
            why = "A message with its id lay in the slot, that no process of this trial had stored."
            return Finding("overwritten", True, why, read, "outside")
    if len(queues.own.get(vote, ())) > 1:
        return _several_ways(queues, vote, _delivered(queues, vote))
    return Finding(UNKNOWN, False, "It was handed on once, and the database has another choice.")


def _delivered(queues: Queues, vote: int) -> list[Command]:
    """The reads whose drains committed, or may have."""
    return [
        read
        for read in queues.carried.get(vote, ())
        if any(
            b.status in (Status.OK, Status.LOST) and b.begin_ns >= read.begin_ns
            for b in queues.batches.get(read.who, ())
        )
    ]


def _surely(queues: Queues, *reads: Command) -> bool:
    return all(any(b.status == Status.OK for b in queues.batches[read.who]) for read in reads)


def _read_twice(queues: Queues, first: Command, second: Command) -> Finding:
    """The same stored message went into two batches."""
    looks = [look for read in (first, second) for look in queues.looks.get(read.who, [])[-1:]]
    certain = _surely(queues, first, second)
    between: list[Reset] = []
    high = 0
    if len(looks) == 2 and looks[0].life == looks[1].life and all(look.cas for look in looks):
        low, high = (look.cas for look in looks)
        between = queues.resets_between(looks[0].place, looks[0].life, low, high)
    else:
        certain = False
    if between:
        drawn_on = second._replace(daemon=looks[0].daemon, life=looks[0].life)
        again = queues.draw_in(drawn_on, between[-1].at, high)
        why = "Its slot was counted again after a reset and not filled, so the drain read it again."
        return Finding("stale-slot", certain, why, again or second)
    batch = [b for b in queues.batches[second.who] if b.begin_ns >= second.begin_ns]
    why = "Two drains read the same slots, with no reset of the pointer between their looks at it."
    return Finding("double-drain", certain, why, batch[-1])


def _several_ways(queues: Queues, vote: int, reads: list[Command]) -> Finding:
    """It was stored, or inserted, more than once."""
    inserts = [
        c
        for c in queues.own.get(vote, ())
        if c.key != KeyKind.SLOT and c.status in (Status.OK, Status.LOST)
    ]
    ways = sorted([*reads, *inserts], key=lambda c: c.begin_ns)
    if len(ways) < 2:
        return Finding(UNKNOWN, False, "The journal has one delivery at most.")
    why = "It came in more than once under the same id, and each was handed to the database."
    return Finding("client-retry", all(c.status == Status.OK for c in ways), why, ways[1])
