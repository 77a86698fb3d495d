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


class Key(NamedTuple):
    """A memcached key, with the kind and (for slots) the number that the journal records."""

    name: str
    kind: KeyKind
    slot: int = 0


class Get(NamedTuple):
    key: Key


class Set(NamedTuple):
    key: Key
    value: bytes


class Incr(NamedTuple):
    key: Key


class InsertBallots(NamedTuple):
    """Insert the votes in one transaction; a vote already counted gains a delivery."""

    messages: Sequence[bytes]


class Sleep(NamedTuple):
    """Sleep; the reply's number is the time really slept, in nanoseconds."""

    duration_ns: int


class Patience(NamedTuple):
    """Has this much sleeping used up the patience? An explorer may answer either way."""

    slept_ns: int


Command: TypeAlias = Get | Set | Incr | InsertBallots | Sleep | Patience

COMMAND_CODES: Final[dict[type[Command], int]] = {
    Get: 1,
    Set: 2,
    Incr: 3,
    InsertBallots: 4,
    Sleep: 5,
    Patience: 6,
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


class Reply(NamedTuple):
    """`number` is a counter's value or a duration in ns; `cas` orders all mutations of a daemon."""

    status: Status
    number: int = 0
    value: bytes = b""
    cas: int = 0


Result = TypeVar("Result")
Machine: TypeAlias = Generator[Command, Reply, Result]
"""A running protocol. It is a deterministic function of the replies it was sent."""
