"""A private memcached; and whether an existing one answers."""

import os
import resource
import secrets
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from harness.errors import PlanError, ServiceError
from harness.plan import MemcachedPlan
from harness.services.ports import LOOPBACK, on_free_port
from harness.services.processes import Child, Supervisor
from harness.services.programs import MEMCACHED
from harness.services.service import Service

START_LIMIT_S: Final = 10.0  # it starts in 20 ms; a loaded machine takes longer
ANSWER_LIMIT_S: Final = 1.0  # for one reply over loopback
THREADS: Final = 2  # one does 100,000 commands/s; two show real concurrency inside the daemon
CONNECTIONS: Final = 4096  # of 240 workers with 16 threads; `stack.require_room` refuses more
SEEN_S: Final = 10  # how long a mark on an existing memcached lives, to be read at once
SPARE_FILES: Final = 64  # descriptors that memcached needs beside its connections


class MemcachedServer:
    """A private memcached at `address` (host:port)."""

    def __init__(self, address: str, service: Service) -> None:
        self.address = address
        self.service = service

    @property
    def child(self) -> Child:
        return self.service.child

    def wipe(self) -> None:
        """Forget all keys. Raises ServiceError when it does not answer."""
        try:
            with closing(client_of(self.address)) as client:
                client.flush_all(noreply=False)
        except (OSError, MemcacheError) as error:
            raise ServiceError(f"memcached at {self.address} cannot be wiped: {error}") from error

    def stop(self) -> None:
        """End it at once; it has nothing to save."""
        self.child.stop(grace_s=0)


def require_answer(address: str) -> None:
    """Raises ServiceError when nothing that speaks memcached's protocol answers there."""
    try:
        with closing(client_of(address)) as client:
            client.version()
    except (OSError, MemcacheError) as error:
        raise ServiceError(
            f"memcached at {address} does not answer: {error}; start it, or leave --memcached "
            "away for a private one"
        ) from error


def require_different(addresses: Sequence[str]) -> None:
    """Raises PlanError when two addresses lead to one memcached; whichever was asked last has told
    it who it is, and says so under every name. Raises ServiceError when one does not answer.
    """
    key = f"pollstorm-who-{secrets.token_hex(8)}"
    found: dict[bytes, str] = {}
    try:
        for number, address in enumerate(addresses):
            with closing(client_of(address)) as client:
                client.set(key, b"%d" % number, expire=SEEN_S, noreply=False)
        for address in addresses:
            with closing(client_of(address)) as client:
                told: bytes | None = client.get(key)
            if told is None:
                continue  # it keeps nothing, which a run may well be about
            if told in found:
                raise PlanError(
                    f"{found[told]} and {address} are one memcached; two queues would be one"
                )
            found[told] = address
    except (OSError, MemcacheError) as error:
        raise ServiceError(f"memcached at {address} does not answer: {error}") from error


def start_memcached(
    supervisor: Supervisor, plan: MemcachedPlan, log: Path, cpus: frozenset[int] | None = None
) -> MemcachedServer:
    """A fresh memcached on a free port, answering. Raises ServiceError."""
    program = MEMCACHED.require()
    connections = most_connections()

    def start(port: int) -> MemcachedServer:
        options = {
            "-l": LOOPBACK,
            "-p": port,
            "-U": 0,
            "-m": plan.memory_mib,
            "-t": THREADS,
            "-c": connections,
        }
        argv = [program, *(str(part) for option in options.items() for part in option)]
        argv += [] if plan.evict else ["-M"]
        argv += ["-u", "root"] if os.geteuid() == 0 else []
        address = f"{LOOPBACK}:{port}"
        service = Service(
            supervisor,
            "memcached",
            argv,
            log=log,
            is_ready=lambda child: _is_child(address, child),
            limit_s=START_LIMIT_S,
            cpus=cpus,
        )
        service.wait_until_ready()
        return MemcachedServer(address, service)

    return on_free_port(start)


def most_connections() -> int:
    """How many one daemon takes: fewer where a process may not have so many files open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files < 0 else min(CONNECTIONS, files - SPARE_FILES)


def _is_child(address: str, child: Child) -> bool:
    """Whether a memcached answers there, and is this very process."""
    try:
        with closing(client_of(address)) as client:
            stats: dict[bytes, object] = client.stats()  # type: ignore[no-untyped-call]
            return stats[b"pid"] == child.pid
    except (OSError, MemcacheError):
        return False


def client_of(address: str) -> Client:
    """For a few questions about the daemon itself; votes travel by `cache`."""
    return Client(
        address,
        connect_timeout=ANSWER_LIMIT_S,
        timeout=ANSWER_LIMIT_S,
        no_delay=True,
        default_noreply=False,
        socket_module=socket,
    )
