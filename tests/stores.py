"""A simulated and a real memcached behind the same few methods, so that one test can hold both."""

import os
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.history.journal import Role
from harness.protocol.commands import Key, KeyKind, MemcachedCommand, Reply
from harness.services.memcached import MemcachedServer
from harness.services.ports import LOOPBACK, on_free_port
from harness.services.processes import Child, Supervisor
from harness.services.programs import MEMCACHED
from harness.services.service import Service
from harness.simulation.memcached import SECOND_NS, SimulatedMemcached

TIMEOUT_S = 5.0
TICK_LIMIT_S = 3.0  # a tick comes each second, unless the machine stands still
TICK_POLL_S = 0.002
PREDICTABLE = ("-t", "1", "-o", "no_lru_maintainer,no_lru_crawler")
"""One list of items in each class, and no thread that touches it: what is simulated."""


def key(name: str) -> Key:
    return Key(name, KeyKind.SLOT)


class Store(Protocol):
    """One memcached of either kind. `now_s` is the daemon's own clock."""

    now_s: int

    def execute(self, command: MemcachedCommand) -> Reply: ...

    def wipe(self) -> None: ...

    def restart(self) -> None: ...

    def await_tick(self) -> None:
        """Wait until the daemon's clock has just gone on to its next second."""


class SimulatedStore:
    def __init__(self, simulated: SimulatedMemcached) -> None:
        self.now_s = 100
        self._simulated = simulated

    def execute(self, command: MemcachedCommand) -> Reply:
        return self._simulated.execute(command, self.now_s * SECOND_NS)

    def wipe(self) -> None:
        self._simulated.wipe()

    def restart(self) -> None:
        self._simulated.restart()

    def await_tick(self) -> None:
        self.now_s += 1


class RealStore:
    """A daemon of its own, with predictable eviction."""

    def __init__(self, supervisor: Supervisor, log: Path, memory_mib: int, *, evict: bool) -> None:
        self._supervisor, self._log = supervisor, log
        self._options = ("-m", str(memory_mib), *([] if evict else ["-M"]), *PREDICTABLE)
        self._server: MemcachedServer | None = None
        self.restart()

    def restart(self) -> None:
        if self._server is not None:
            self.close()
        self._server = on_free_port(self._start)
        self._client = MetaClient(self._server.address, TIMEOUT_S)
        self._executor = MemcachedExecutor((self._client,), Role.FLUSHER, 0, None, None)

    def close(self) -> None:
        self._client.close()
        assert self._server is not None
        self._server.stop()

    def execute(self, command: MemcachedCommand) -> Reply:
        return self._executor.execute(command)

    def wipe(self) -> None:
        assert self._server is not None
        self._server.wipe()

    @property
    def now_s(self) -> int:
        stats: dict[bytes, int] = self._client.stats()
        return stats[b"time"]

    def await_tick(self) -> None:
        before, until = self.now_s, time.monotonic() + TICK_LIMIT_S
        while self.now_s == before:
            assert time.monotonic() < until, "memcached's clock stands still"
            time.sleep(TICK_POLL_S)

    def _start(self, port: int) -> MemcachedServer:
        argv = [MEMCACHED.require(), "-l", LOOPBACK, "-p", str(port), "-U", "0", *self._options]
        argv += ["-u", "root"] if os.geteuid() == 0 else []
        address = f"{LOOPBACK}:{port}"

        def answers(child: Child) -> bool:
            with suppress(Exception), closing(MetaClient(address, TIMEOUT_S)) as client:
                return client.stats()[b"pid"] == child.pid
            return False

        service = Service(
            self._supervisor,
            "memcached",
            argv,
            log=self._log,
            is_ready=answers,
            limit_s=TIMEOUT_S,
        )
        service.wait_until_ready()
        return MemcachedServer(address, service)
