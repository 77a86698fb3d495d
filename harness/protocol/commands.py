"""What a protocol may ask for, and what it may get back.

A command is a request that has not happened yet. The executor of a real site sends it, a
simulator models it, an explorer tries it in every order; the protocol cannot tell which.
"""

from collections.abc import Generator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias, TypeVar


class KeyKind(IntEnum):
    """What a memcached key is for; the journal and the faults speak of keys by kind."""

    NONE = 0
    LOCK = 1
    POINTER = 2
    SLOT = 3
    VOTER = 4


class Key(NamedTuple):
    """A memcached key, with the kind and (for slots) the number that the journal records."""

    name: str
    kind: KeyKind
    slot: int = 0
    daemon: int = 0  # which of the deployment's memcached daemons


class Get(NamedTuple):
    key: Key


class Set(NamedTuple):
    key: Key
    value: bytes


class Add(NamedTuple):
    """Store unless there is one: then the reply is `EXISTS`. A lifetime of 0 is for good."""

    key: Key
    value: bytes
    lifetime_s: int = 0


class Incr(NamedTuple):
    key: Key


class Delete(NamedTuple):
    """Remove the item; with a CAS only if it is still that one, otherwise the reply is `EXISTS`."""

    key: Key
    cas: int = 0


MemcachedCommand: TypeAlias = Get | Set | Add | Incr | Delete


class Pipeline(NamedTuple):
    """Commands sent together to one daemon, and carried out in turn.

    Others may come between any two of them. The reply's parts are their replies.
    """

    commands: Sequence[MemcachedCommand]


class InsertBallot(NamedTuple):
    """Count one vote, and commit.

    A vote already counted gains a delivery, but stays as it is if this may be a `copy` of it. The
    reply is `EXISTS` when the vote was counted with another choice, and `ALREADY_VOTED` when it is
    its voter's only one, and another is counted.
    """

    message: bytes
    copy: bool = False


class Move(NamedTuple):
    """The head of one epoch of a queue: from the ticket last drained to the one drained now."""

    queue: str
    old: int
    new: int


class InsertBallots(NamedTuple):
    """Count the votes and move the heads, all in one transaction.

    The reply is `EXISTS`, and nothing was written, when a head was no longer where it is to move
    from: another drain took these votes. Votes already counted as for `InsertBallot`; of a voter
    who has only one, any other is rejected, which the reply does not say.
    """

    messages: Sequence[bytes]
    moves: tuple[Move, ...] = ()
    copies: bool = False


class ReadHeads(NamedTuple):
    """The heads of all epochs of a queue that may still have undrained tickets, oldest first.

    The reply's parts have a ticket each as their number. `current`: the epoch that tickets are
    taken from just now, 0 if that is not known; it gets a head if it has none. Others are forgotten
    when they have not been current for long.
    """

    queue: str
    current: int


class IssueEpoch(NamedTuple):
    """A new epoch of the queue, never issued before; its head is 0. The reply's number is it."""

    queue: str


class Now(NamedTuple):
    """The time in nanoseconds, on a clock that only goes forward."""


class Sleep(NamedTuple):
    """Sleep; the reply's number is the time really slept, in nanoseconds."""

    duration_ns: int


class Patience(NamedTuple):
    """Has this much sleeping used up the patience? An explorer may answer either way."""

    slept_ns: int


DatabaseCommand: TypeAlias = InsertBallot | InsertBallots | ReadHeads | IssueEpoch
Command: TypeAlias = MemcachedCommand | Pipeline | DatabaseCommand | Now | Sleep | Patience

COMMAND_CODES: Final[dict[type[Command], int]] = {
    Get: 1,
    Set: 2,
    Incr: 3,
    InsertBallots: 4,
    InsertBallot: 4,  # the record names its vote
    Sleep: 5,
    Patience: 6,
    Add: 7,
    Delete: 8,
    ReadHeads: 9,
    IssueEpoch: 10,
}
"""The journal's number for each command; fixed, because histories outlive versions."""


class Status(IntEnum):
    """How a command ended. `LOST` and `UNREACHABLE` differ in what may have happened there."""

    LOST = 0  # sent, and no (whole) reply came: applied or not, nobody knows
    OK = 1  # stored, or the value is in the reply
    MISSING = 2  # no such key
    REFUSED = 3  # the server answered that it will not
    UNREACHABLE = 4  # no connection: certainly not applied
    OVER = 5  # patience has run out
    EXISTS = 6  # not applied, because of what is there
    ALREADY_VOTED = 7  # not applied, because its voter is counted with another vote


UNANSWERED: Final = (Status.LOST, Status.UNREACHABLE)


class Reply(NamedTuple):
    """`number` is a counter's value or a duration in ns; `cas` orders all mutations of a daemon."""

    status: Status
    number: int = 0
    value: bytes = b""
    cas: int = 0
    parts: tuple["Reply", ...] = ()


Result = TypeVar("Result")
Machine: TypeAlias = Generator[Command, Reply, Result]
"""A running protocol. It is a deterministic function of the replies it was sent."""
