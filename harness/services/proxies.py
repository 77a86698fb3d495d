"""A proxy as a child, and how it is told what is wrong with the network."""

import socket
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from harness.database.connections import DEFAULT_PORT
from harness.errors import ServiceError
from harness.fault import BETWEEN, Fault, target_of
from harness.plan import Plan
from harness.services.ports import LOOPBACK, on_free_port
from harness.services.processes import Child, Supervisor
from harness.services.proxy import Touched, Trouble
from harness.services.service import numbered
from harness.services.targets import Existing

MARIADB: Final = "mariadb"
START_LIMIT_S: Final = 10.0  # Python starts in a tenth of a second; a loaded machine takes longer
ANSWER_LIMIT_S: Final = 5.0  # one line over a Unix socket, from a process that may be busy


class Troubled:
    """A trouble under way; `heal` ends it."""

    def __init__(self, name: str, connection: socket.socket, answers: BinaryIO) -> None:
        self._name = name
        self._connection = connection
        self._answers = answers

    def say(self, line: bytes) -> Touched:
        """Send a line; what the trouble has touched by then. Raises ServiceError."""
        try:
            self._connection.sendall(line + b"\n")
            return msgspec.json.decode(self._answers.readline(), type=Touched)
        except (OSError, ValueError) as error:
            raise ServiceError(f"{self._name} does not answer: {error}") from error

    def heal(self) -> Touched:
        """End it; what it has touched. Raises ServiceError."""
        return self.say(b"")


class ProxyServer:
    """A proxy at `address` (host:port)."""

    def __init__(self, address: str, child: Child, control: Path) -> None:
        self.address = address
        self.child = child
        self._control = control

    @contextmanager
    def troubled(self, trouble: Trouble) -> Iterator[Troubled]:
        """The trouble is on within the block, unless healed before. Raises ServiceError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_LIMIT_S)
            try:
                connection.connect(str(self._control))
            except OSError as error:
                raise ServiceError(f"{self.child.name} does not answer: {error}") from error
            with connection.makefile("rb") as answers:
                troubled = Troubled(self.child.name, connection, answers)
                troubled.say(msgspec.json.encode(trouble))
                yield troubled

    def stop(self) -> None:
        """End it at once, with all connections through it."""
        self.child.stop(grace_s=0)


def start_proxy(
    supervisor: Supervisor,
    name: str,
    upstream: str,
    log: Path,
    cpus: frozenset[int] | None = None,
    *,
    greets: bool = False,
) -> ProxyServer:
    """A proxy on a free port in front of `upstream` (host:port, or a Unix socket's path).

    `greets`: the server there speaks first. Raises ServiceError.
    """

    def start(port: int) -> ProxyServer:
        control = supervisor.temporary_directory() / "control"
        argv = [sys.executable, "-m", "harness.services.proxy", str(port), str(control), upstream]
        argv += ["greets"] if greets else []
        child = supervisor.spawn(name, argv, log=log, cpus=cpus)
        supervisor.wait_until_ready(child, lambda: _answers(control), START_LIMIT_S)
        return ProxyServer(f"{LOOPBACK}:{port}", child, control)

    return on_free_port(start)


def planned(plan: Plan, mode: str) -> tuple[Fault, ...]:
    """The plan's faults that are not only for other modes."""
    return tuple(fault for fault in plan.faults if not fault.modes or mode in fault.modes)


def targets_between(plan: Plan, mode: str) -> frozenset[str]:
    """The targets before which the plan's faults in the mode need a proxy; mostly none."""
    return frozenset(target_of(each) for each in planned(plan, mode) if each.kind in BETWEEN)


def start_proxies(
    supervisor: Supervisor,
    servers: Existing,
    targets: Collection[str],
    logs: Path,
    cpus: frozenset[int] | None,
    ending: ExitStack,
) -> dict[str, ProxyServer]:
    """A proxy before each of these targets that there is, stopped by `ending`.

    Raises ServiceError.
    """
    upstreams = dict(named(servers.memcached))
    if servers.database is not None:
        upstreams[MARIADB] = server_of(servers.database)
    proxies = {}
    for target, upstream in upstreams.items():
        if target in targets:
            name = f"{target}-proxy"
            greets = target == MARIADB
            proxy = start_proxy(
                supervisor, name, upstream, logs / f"{name}.log", cpus, greets=greets
            )
            ending.callback(proxy.stop)
            proxies[target] = proxy
    return proxies


def named(addresses: Iterable[str]) -> list[tuple[str, str]]:
    """The memcached daemons as faults name them, each with its address."""
    return [
        (numbered("memcached", number), address)
        for number, address in enumerate(addresses, start=1)
    ]


def server_of(url: str) -> str:
    """Where the database at a URL listens: host:port, or the path of its Unix socket."""
    parts = urlsplit(url)
    path = parse_qs(parts.query).get("unix_socket", [""])[0]
    return path or f"{parts.hostname}:{parts.port or DEFAULT_PORT}"


def through(address: str, url: str) -> str:
    """The database's URL by way of a proxy at `address`."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    options = [(name, value) for name, value in parse_qsl(parts.query) if name != "unix_socket"]
    return urlunsplit(parts._replace(netloc=f"{user}{at}{address}", query=urlencode(options)))


def _answers(control: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_LIMIT_S)
        try:
            connection.connect(str(control))
        except OSError:
            return False
    return True
