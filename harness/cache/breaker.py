"""A circuit breaker: a memcached that stands still costs one time-out, not one per vote.

Closed, it lets everything through. A failed connect or a time-out opens it: for a while nothing
is sent. Then one command is let through as a probe, and the others wait for what becomes of it.
"""

import threading
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

OPEN_S: Final = 0.5  # votes go to the database for at most so much longer than they have to


class Breaker:
    """One daemon's, shared by all threads of a process.

    `patience_s`: how long a probe may take; one of which nothing was heard by then has failed.
    """

    def __init__(self, patience_s: float, clock_ns: Callable[[], int] = monotonic_ns) -> None:
        self._open_ns = round(OPEN_S * 1e9)
        self._probe_ns = round(patience_s * 1e9) + self._open_ns
        self._clock_ns = clock_ns
        self._turns = threading.Lock()
        self._next_probe_ns = 0
        self._prober: int | None = None
        self.is_open = False
        """Read without the lock: whoever reads it a moment too early pays one time-out."""

    def admits(self) -> bool:
        """Whether a command may be sent; while it is open, to one caller per probe."""
        with self._turns:
            if not self.is_open:
                return True
            now_ns = self._clock_ns()
            if now_ns < self._next_probe_ns:
                return False
            self._next_probe_ns = now_ns + self._probe_ns
            self._prober = threading.get_ident()
            return True

    def trip(self) -> None:
        """The daemon did not answer. What was sent before a probe says nothing of the probe."""
        with self._turns:
            if self._prober not in (None, threading.get_ident()):
                return
            self.is_open = True
            self._prober = None
            self._next_probe_ns = self._clock_ns() + self._open_ns

    def reset(self) -> None:
        """The daemon answered."""
        with self._turns:
            self.is_open = False
            self._prober = None


_breakers: dict[str, Breaker] = {}
_registry: Final = threading.Lock()


def breaker_of(address: str, patience_s: float) -> Breaker:
    """This process's breaker for the daemon at that address."""
    with _registry:
        return _breakers.setdefault(address, Breaker(patience_s))
