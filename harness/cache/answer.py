"""What memcached answers to a meta command, with all that the library asks it to tell."""

from enum import Enum
from typing import Final, NamedTuple

from harness.cache.meta_client import REFUSED, reply_at
from harness.protocol.commands import Status


class Lease(Enum):
    """Whose business it is to calculate a value anew, as memcached sees it."""

    NONE = ""
    WON = "W"  # the asker's, from now on
    HELD = "Z"  # somebody else's


class Written(Enum):
    """What became of a write; true only when it was certainly carried out."""

    STORED = "stored"  # of a deletion or a new lifetime: carried out
    NOT_STORED = "not stored"  # refused, a condition was not met, or it was never sent
    UNKNOWN = "unknown"  # sent, and the reply was lost

    def __bool__(self) -> bool:
        return self is Written.STORED


class Answer(NamedTuple):
    """One answer; `why` says what was amiss where there is none, and names the daemon."""

    status: Status
    value: bytes = b""
    number: int = 0
    flags: int = 0
    cas: int = 0
    lease: Lease = Lease.NONE
    why: str = ""

    @property
    def is_placeholder(self) -> bool:
        """Whether it is what memcached itself put where nothing was, to be replaced."""
        return self.lease is not Lease.NONE and not self.value and not self.flags

    @property
    def is_value(self) -> bool:
        """Whether something is there, and no placeholder."""
        return self.status is Status.OK and not self.is_placeholder

    @property
    def written(self) -> Written:
        if self.status is Status.OK:
            return Written.STORED
        return Written.UNKNOWN if self.status is Status.LOST else Written.NOT_STORED


LEASES: Final = {ord(lease.value): lease for lease in (Lease.WON, Lease.HELD)}


def answer_at(received: bytes, start: int) -> tuple[Answer, int] | None:
    """The answer that begins at `start`, and where it ends; None while it is not all there.

    Raises ValueError for bytes that are no answer: the connection is unusable.
    """
    found = reply_at(received, start, REFUSED)
    if found is None:
        return None
    reply, end = found
    status, number, value, _, _ = reply
    line = received[start : received.index(b"\r\n", start)]
    if status is not Status.OK:
        why = line.decode("ascii", "replace") if status is Status.REFUSED else ""
        return Answer(status, why=why), end
    flags, cas, lease = 0, 0, Lease.NONE
    for token in line.split(b" ")[1:]:
        kind = token[0]
        if kind == 102:  # f
            flags = int(token[1:])
        elif kind == 99:  # c
            cas = int(token[1:])
        elif kind in LEASES:
            lease = LEASES[kind]
    return Answer(status, value, number, flags, cas, lease), end
