"""What a fault can reach, and what it says of itself afterwards."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import ClassVar, NamedTuple

from harness.armed import ArmedPage


class Met(NamedTuple):
    """A fault met its target. `at_ns`: when, if that was later than it was started."""

    detail: str
    at_ns: int = 0
    target: str = ""  # what it met, if that has another name in this mode


@dataclass(frozen=True)
class Reach:
    """What of the running trial a fault can touch."""

    WATCH_S: ClassVar[float] = 0.002  # how often an armed step is looked at: finer than a nap

    armed: ArmedPage
    wipe: Callable[[], None] | None  # of the first memcached; None: it is not ours
    daemons: int = 1  # how many memcached there are
    ended: threading.Event = field(default_factory=threading.Event)

    @staticmethod
    def since_s(moment_ns: int) -> float:
        return (monotonic_ns() - moment_ns) / 1e9
