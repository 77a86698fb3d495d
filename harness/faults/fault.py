"""What a fault can reach, and what it says of itself afterwards."""

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import ClassVar, Final, NamedTuple

from harness.armed import ArmedPage
from harness.plan import Plan
from harness.services.memcached import MemcachedServer
from harness.services.stack import Stack

DAEMONS: Final = ("memcached", "memcached-2")
"""The targets that are memcached daemons, in the order of their numbers."""


class Met(NamedTuple):
    """A fault met its target. `at_ns`: when, if that was later than it was started."""

    detail: str
    at_ns: int = 0
    target: str = ""  # what it met, if that has another name in this mode


@dataclass(frozen=True)
class Reach:
    """What of the running trial a fault can touch: its services, and when it must be over."""

    WATCH_S: ClassVar[float] = 0.002  # how often an armed step is looked at: finer than a nap

    stack: Stack
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the load has ended: whatever a fault did, it undoes now."""
    arming: defaultdict[int, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )
    """By role: who arms a step of it."""

    @property
    def armed(self) -> ArmedPage:
        return self.stack.armed

    @property
    def plan(self) -> Plan:
        return self.stack.deployment.plan

    @property
    def database(self) -> str:
        """The URL of the mode's database, past any proxy."""
        return self.stack.servers.database or self.stack.deployment.database

    def daemon(self, target: str) -> MemcachedServer | None:
        """The memcached of that name; None when it is not ours, or the mode has none such."""
        number = DAEMONS.index(target)
        return self.stack.memcached[number] if number < len(self.stack.memcached) else None

    @staticmethod
    def since_s(moment_ns: int) -> float:
        return (monotonic_ns() - moment_ns) / 1e9
