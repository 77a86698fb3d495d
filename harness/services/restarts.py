"""Whether an existing memcached was restarted while a trial was under way, by somebody else.

Such a restart is no fault of the plan, and yet what the daemon held is gone, as after a wipe. A
private memcached needs no watching: a run in which one of those ends is over.
"""

from collections.abc import Sequence
from contextlib import closing
from time import monotonic_ns
from typing import Final, NamedTuple

from pymemcache.exceptions import MemcacheError

from harness.result import FaultRecord
from harness.services.memcached import client_of

NS_PER_S: Final = 1_000_000_000
UPTIME_AT_START_S: Final = 2  # memcached's clock starts there, so that a time of 0 can mean never


class Life(NamedTuple):
    """One life of a daemon."""

    pid: int
    started_s: int  # Unix time, by the daemon's own clock


class Restarts:
    """The lives of some daemons when the trial began, to be held against those at its end."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._lives = {address: _life(address)[0] for address in addresses}

    def since(self, load_start_ns: int) -> tuple[FaultRecord, ...]:
        """A wipe for each daemon that lives another life by now, or none, to about a second."""
        loaded_s = (monotonic_ns() - load_start_ns) / NS_PER_S
        records = []
        for address, before in self._lives.items():
            now, age_s = _life(address)
            if now != before:
                at_s = max(0.0, loaded_s - age_s)
                happened = "was restarted, and not by this run" if now else "is gone"
                records.append(
                    FaultRecord(
                        kind="wipe",
                        target="memcached",
                        start_s=at_s,
                        end_s=at_s,
                        hit=True,
                        detail=f"memcached at {address} {happened}",
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
