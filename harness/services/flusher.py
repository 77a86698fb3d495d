"""The flusher as a child."""

import sys
from pathlib import Path
from typing import Final

from harness.errors import Exit
from harness.flusher import READY_FILE
from harness.plan import Deployment
from harness.services.processes import Child, Supervisor
from harness.services.site import write_privately

EXIT_LIMIT_S: Final = 2.0  # beyond the drain's own limit, to say that it was not done


class FlusherServer:
    """A flusher that drains at its interval."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def finish(self, limit_s: float) -> bool:
        """End it: it drains until every queue is empty. Whether it did, within the limit."""
        return self.child.stop(limit_s + EXIT_LIMIT_S) == Exit.OK


def start_flusher(
    supervisor: Supervisor, deployment: Deployment, log: Path, cpus: frozenset[int] | None = None
) -> FlusherServer:
    """The deployment's flusher, at work. Raises ServiceError."""
    folder = Path(deployment.folder)
    file = folder / "flusher.json"
    write_privately(deployment, file)
    argv = [sys.executable, "-m", "harness.flusher", str(file)]
    child = supervisor.spawn("flusher", argv, log=log, cpus=cpus)
    ready = folder / READY_FILE
    supervisor.wait_until_ready(child, ready.exists, deployment.plan.limits.start_s)
    return FlusherServer(child)
