"""The vote server as a child."""

import http.client
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import psutil

from harness.deployment import Deployment
from harness.services.ports import on_free_port, require_free
from harness.services.processes import Child, Supervisor

STOP_LIMIT_S: Final = 15.0  # the site gives its requests under way 10 s
ANSWER_LIMIT_S: Final = 2.0  # to one question whether it is ready


class SiteServer:
    """A site that answers at `url`."""

    def __init__(self, child: Child, host: str, port: int) -> None:
        self.child = child
        self.host = host
        self.port = port
        self.url = f"http://{host}:{port}"
        self.respawned_s = -math.inf  # CLOCK_MONOTONIC, when it last began to replace a worker

    def workers(self) -> list[psutil.Process]:
        """Those of its processes that take votes, or are about to, by process id."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.child.pid).children()
            return sorted(filter(_is_worker, children), key=lambda worker: worker.pid)
        return []

    def takes_votes(self, worker: psutil.Process) -> bool:
        """Each worker has a listener of its own. Reads the machine's table of connections."""
        try:
            sockets = worker.net_connections("tcp")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
        return any(socket.status == psutil.CONN_LISTEN for socket in sockets)

    def is_ready(self, workers: int) -> bool:
        """Whether it says so, and each of so many workers has connected and takes votes."""
        if not _says_ready(self.host, self.port):
            return False
        return sum(map(self.takes_votes, self.workers())) >= workers

    def stop(self) -> None:
        """Finish the requests under way and end; after STOP_LIMIT_S end in any case."""
        self.child.stop(STOP_LIMIT_S)


def start_site(
    supervisor: Supervisor, deployment: Deployment, log: Path, cpus: frozenset[int] | None = None
) -> SiteServer:
    """The deployment's site, ready for votes in all workers; on any free port if its port is 0.

    Raises PlanError when its port is in use, ServiceError when it does not become ready.
    """

    def start(port: int) -> SiteServer:
        file = Path(deployment.folder) / "site.json"
        write_privately(msgspec.structs.replace(deployment, port=port), file)
        argv = [sys.executable, "-m", "harness.site", str(file)]
        child = supervisor.spawn("site", argv, log=log, cpus=cpus)
        site = SiteServer(child, deployment.host, port)
        plan = deployment.plan
        supervisor.wait_until_ready(
            child, lambda: site.is_ready(plan.site.workers), plan.limits.start_s
        )
        return site

    if deployment.port == 0:
        return on_free_port(start)
    require_free(deployment.host, deployment.port)
    return start(deployment.port)


def write_privately(deployment: Deployment, file: Path) -> None:
    """Write a deployment for a child: it may hold a password, so nobody else may read it."""
    file.touch(mode=0o600)
    deployment.write(file)


def _is_worker(child: psutil.Process) -> bool:
    """Not a dead one that is not yet buried, nor a helper that Python may start beside them."""
    try:
        dead = child.status() == psutil.STATUS_ZOMBIE
        return not dead and "resource_tracker" not in " ".join(child.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _says_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
