"""Whether an existing memcached was restarted, or ended, while a trial was under way.

Such a restart is no fault of the plan, and yet what the daemon held is gone, as after a wipe. A
private memcached needs no watching: a run in which one of those ends is over.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from time import monotonic_ns
from typing import Final, NamedTuple

from pymemcache.exceptions import MemcacheError

from harness.result import FaultRecord
from harness.services.memcached import client_of

NS_PER_S: Final = 1_000_000_000
LOOK_S: Final = 0.5  # a connection and a question to each; so exactly is it known when one ended
MORE_TRIES: Final = 2  # before a silent one is called gone: a busy machine may be slow, too
UPTIME_AT_START_S: Final = 2  # memcached's clock starts there, so that a time of 0 can mean never


class Life(NamedTuple):
    """One life of a daemon."""

    pid: int
    started_s: int  # Unix time, by the daemon's own clock


class Restarts:
    """The lives of some daemons when the trial began, to be held against those at its end."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._lives = {address: _life(address)[0] for address in addresses}
        self._silent_since_ns: dict[str, int] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask each every `LOOK_S` whether it is there, for as long as the block runs."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_S):
                self._look()

        watcher = threading.Thread(target=watch, daemon=True)
        if self._lives:
            watcher.start()
        try:
            yield
        finally:
            ended.set()
            if self._lives:
                watcher.join()

    def _look(self) -> None:
        for address in self._lives:
            if _life(address)[0]:
                self._silent_since_ns.pop(address, None)
            else:
                self._silent_since_ns.setdefault(address, monotonic_ns())

    def since(self, load_start_ns: int) -> tuple[FaultRecord, ...]:
        """A wipe for each daemon that lives another life by now, or none, to about a second."""
        now_ns = monotonic_ns()
        records = []
        for address, before in self._lives.items():
            now, age_s = _life(address)
            for _ in range(MORE_TRIES if now is None else 0):
                now, age_s = _life(address)
            if now != before:
                seen_ns = now_ns if now else self._silent_since_ns.get(address, now_ns)
                at_s = max(0.0, (seen_ns - load_start_ns) / NS_PER_S - age_s)
                happened = "was restarted" if now else "is gone"
                records.append(
                    FaultRecord(
                        kind="wipe",
                        target="memcached",
                        start_s=at_s,
                        end_s=at_s,
                        hit=True,
                        detail=f"memcached at {address} {happened}, and not by this run",
                        planned=False,
                    )
                )
        return tuple(records)


def _life(address: str) -> tuple[Life | None, float]:
    """The daemon's life and its age in s; None and 0 when it does not answer."""
    try:
        with closing(client_of(address)) as client:
            stats: dict[bytes, int] = client.stats()  # type: ignore[no-untyped-call]
            uptime_s = stats[b"uptime"]
            life = Life(stats[b"pid"], stats[b"time"] - uptime_s)
            return life, max(0, uptime_s - UPTIME_AT_START_S)
    except (OSError, MemcacheError):
        return None, 0.0
