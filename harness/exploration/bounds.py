"""What may happen within one exploration, and what the search may leave out."""

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

WRITER: Final = "writer"
READER: Final = "reader"

MOST_WRITERS: Final = 8  # half of it is far beyond exhaustion already
MOST_READERS: Final = 6
MOST_DRAINS: Final = 20
MOST_TAKEOVERS: Final = 20


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many processes there are, and how often each kind of trouble may come."""

    writers: Annotated[int, Meta(ge=1, le=MOST_WRITERS)] = 2  # each has one vote
    readers: Annotated[int, Meta(ge=0, le=MOST_READERS)] = 1
    drains: Annotated[int, Meta(ge=1, le=MOST_DRAINS)] = 1  # of each reader, one after the other
    takeovers: Annotated[int, Meta(ge=0, le=MOST_TAKEOVERS)] = (
        1  # of a lock; of an owned lock, expiries while it is held
    )
    cold: bool = False  # nothing is in memcached at the start
    crash: str = ""  # a writer or a reader that may die before any of its commands
    wipe: bool = False  # one daemon loses all that it holds, once
    evict_pointer: bool = False  # one pointer goes missing, once
    expire_tombstones: bool = False  # once, more time passes than a tombstone lives
    lost_reply: bool = False  # once, a command's reply is lost; it may have been applied or not

    def flags(self) -> str:
        """The command line that says the same."""
        said = [f"--writers {self.writers}", f"--readers {self.readers}"]
        said += [f"--drains {self.drains}", f"--takeovers {self.takeovers}"]
        said += [f"--crash {self.crash}"] if self.crash else []
        for name in ("cold", "wipe", "evict_pointer", "expire_tombstones", "lost_reply"):
            said += [f"--{name.replace('_', '-')}"] if getattr(self, name) else []
        return " ".join(said)


class Reductions(NamedTuple):
    """What makes the space smaller and the shortest loss no longer; a test compares with none."""

    merge_local: bool = True  # steps that nobody else can notice are part of the step before
    merge_commits: bool = True  # and so are commits that move no head
    merge_known: bool = True  # so are histories of which a machine remembers the same
    merge_futures: bool = True  # so are histories after which a machine does just the same
    doomed_first: bool = True  # a commit that can only be refused is tried before all else
    idle_drains: bool = True  # a drain that changed nothing is as if it had not been
    symmetry: bool = True  # states that differ in who is who are one


ALL: Final = Reductions()
DRAWN: Final = Reductions(merge_commits=False, idle_drains=False)  # or runs would have no end
PLAIN: Final = Reductions(*[False] * len(Reductions._fields))
