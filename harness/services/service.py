"""A program that may be brought down for a while, and is started again as it was."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psutil

from harness.errors import ServiceError
from harness.services.ports import TAKEN
from harness.services.processes import Child, Supervisor

AGAIN_S: Final = 0.1  # between two tries to listen on a port that something else has just now


class Service:
    """A child, and after that has died another of the same command; `child` is the present one."""

    def __init__(
        self,
        supervisor: Supervisor,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        is_ready: Callable[[Child], bool],
        limit_s: float,
        cpus: frozenset[int] | None = None,
    ) -> None:
        """Start it; `wait_until_ready` then waits at most `limit_s` for its answer."""
        self.name = name
        self._supervisor = supervisor
        self._argv = tuple(argv)
        self._log = log
        self._is_ready = is_ready
        self._limit_s = limit_s
        self._cpus = cpus
        self._may_be_dead = False
        self._spent_s = 0.0  # processor time of those that died
        self.child = self._spawn()

    def wait_until_ready(self) -> None:
        """Raises ServiceError when it ended or the limit has passed."""
        self._supervisor.wait_until_ready(
            self.child, lambda: self._is_ready(self.child), self._limit_s
        )

    def require_alive(self) -> None:
        """Raises ServiceError when it has ended, unless that is what a fault is about."""
        if not self._may_be_dead:
            self.child.require_alive()

    @contextmanager
    def mortal(self) -> Iterator[None]:
        """Within the block its death is no failure; the block's end starts it again if it died.

        Raises ServiceError when it does not come back, and `require_alive` then does so too.
        """
        self._may_be_dead = True
        try:
            yield
        finally:
            try:
                if self.child.poll() is not None:
                    self._start_again()
            finally:
                self._may_be_dead = False

    def cpu_s(self) -> float:
        """The processor time that it has used up to now, all its lives and descendants together."""
        return self._spent_s + cpu_s(self.child)

    def _start_again(self) -> None:
        """Its port was free for a while, and a connection elsewhere may have got it: try again."""
        self._spent_s += cpu_s(self.child)
        until_s = monotonic() + self._limit_s
        while True:
            self.child.stop(grace_s=0)
            self.child = self._spawn()
            try:
                return self.wait_until_ready()
            except ServiceError as error:
                if TAKEN not in str(error) or monotonic() > until_s:
                    raise
            sleep(AGAIN_S)

    def _spawn(self) -> Child:
        return self._supervisor.spawn(self.name, self._argv, log=self._log, cpus=self._cpus)


def cpu_s(child: Child) -> float:
    """Of the child and its descendants, in user and kernel; 0 when it has been buried."""
    used_s = 0.0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(child.pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            dead_s = times.children_user + times.children_system  # of those that each has buried
            used_s += times.user + times.system + dead_s
    return used_s


def numbered(name: str, number: int) -> str:
    """What the first, second … of several services of a kind is called: memcached, memcached-2."""
    return name if number == 1 else f"{name}-{number}"
