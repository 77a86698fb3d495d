"""What all queue protocols share: the keys of a queue, its terms, and how a run of one may end."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from harness.protocol.commands import InsertBallot, Key, KeyKind, Machine, Status

NAP_NS: Final = 1_000_000  # the post's 1/1000th of a second, between two tries for a lock


class Queue(NamedTuple):
    """One queue's keys. Several queues of a site differ by prefix only."""

    prefix: str
    daemon: int
    site: str
    """What the keys of voters begin with, which all its queues share."""
    lock: Key
    pointer: Key

    @classmethod
    def named(cls, prefix: str, daemon: int = 0, *, site: str = "") -> "Queue":
        """`site`: the prefix of its first queue; without it, this is the first."""
        return cls(
            prefix,
            daemon,
            site or prefix,
            lock=Key(f"{prefix}-lock", KeyKind.LOCK, daemon=daemon),
            pointer=Key(f"{prefix}-curr", KeyKind.POINTER, daemon=daemon),
        )

    @property
    def name(self) -> str:
        """By which the database knows it."""
        return f"{self.prefix}@{self.daemon}" if self.daemon else self.prefix

    def slot(self, number: int) -> Key:
        return Key(f"{self.prefix}-key-{number}", KeyKind.SLOT, number, self.daemon)

    def voter(self, poll: str, voter: str) -> Key:
        """At most 236 bytes, of the 250 that memcached allows; no poll has a colon in its name."""
        return Key(f"{self.site}-voter-{poll}:{voter}", KeyKind.VOTER, daemon=self.daemon)

    def on(self, daemon: int) -> "Queue":
        """The queue of the same prefix on another daemon."""
        return Queue.named(self.prefix, daemon, site=self.site)


class AfterPatience(Enum):
    """What a voter's process does when its patience ends; the post leaves it open."""

    TAKEOVER = "takeover"
    FALLBACK = "fallback"
    REFUSE = "refuse"


class Terms(NamedTuple):
    """What a deployment lays down for its queues; each protocol heeds what concerns it."""

    after_patience: AfterPatience = AfterPatience.TAKEOVER
    patience_s: float = 1.0
    writers: int = 64  # the most votes that can be on their way in at one time
    grace_ns: int = 20_000_000  # how long a ticket's slot may stay empty before it is closed
    tombstone_life_s: int = 60


class Receipt(Enum):
    """What became of a vote."""

    QUEUED = "queued"
    STORED = "stored"  # in the database
    CONFLICT = "conflict"  # was counted with another choice
    ALREADY_VOTED = "already voted"  # another vote of its voter was taken in; this one never counts
    REFUSED = "refused"  # written nowhere
    UNKNOWN = "unknown"  # written or not, nobody can say
    OUT_OF_PATIENCE = "out of patience"  # not queued
    NO_MEMCACHED = "no memcached"  # not queued


class DrainEnd(Enum):
    """How a drain ended."""

    EMPTY = "empty"  # nothing was queued, as far as memcached said
    COMMITTED = "committed"
    NOT_COMMITTED = "not committed"  # or nobody knows
    NO_MEMCACHED = "no memcached"
    LOCKED = "locked"  # not let in; nothing was read
    OVERTAKEN = "overtaken"  # another drain has counted these votes


class Drained(NamedTuple):
    """What one drain took out, and what became of it."""

    end: DrainEnd
    messages: Sequence[bytes] = ()
    strays: Sequence[bytes] = ()
    """Those of the messages that are no votes, so nobody counts them. No protocol looks for them:
    whoever runs it puts them in."""


class VotingProtocol(NamedTuple):
    """A way for votes to travel, as machines; `drain` is None when nothing is queued."""

    vote: Callable[[Queue, bytes], Machine[Receipt]]
    drain: Callable[[Queue], Machine[Drained]] | None = None
    daemons: int = 1
    needs_memcached: bool = True  # False: there need be none, neither for votes nor for totals


def straight_to_database(message: bytes, *, copy: bool = False) -> Machine[Receipt]:
    """Count the vote without a queue."""
    inserted = yield InsertBallot(message, copy)
    if inserted.status is Status.OK:
        return Receipt.STORED
    if inserted.status is Status.EXISTS:
        return Receipt.CONFLICT
    if inserted.status is Status.ALREADY_VOTED:
        return Receipt.ALREADY_VOTED
    return Receipt.UNKNOWN if inserted.status is Status.LOST else Receipt.REFUSED
