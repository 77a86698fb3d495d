"""The flushers as children."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from harness.errors import Exit
from harness.flusher import ready_file
from harness.plan import Deployment
from harness.services.processes import Child, Supervisor
from harness.services.site import write_privately

EXIT_LIMIT_S: Final = 2.0  # beyond the drain's own limit, to say that it was not done


class Flushers:
    """All flushers of a mode, each of which drains at its interval."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = tuple(children)

    def require_alive(self) -> None:
        """Raises ServiceError when one has ended."""
        for child in self.children:
            child.require_alive()

    def finish(self, limit_s: float) -> bool:
        """End all, at one time: each drains until every queue is empty.

        Whether all did, within the limit: what one has read and not yet committed, another may
        find neither in the queue nor counted.
        """
        if not self.children:
            return True
        with ThreadPoolExecutor(len(self.children)) as ending:
            codes = ending.map(lambda child: child.stop(limit_s + EXIT_LIMIT_S), self.children)
            return all(code == Exit.OK for code in codes)


def start_flushers(
    supervisor: Supervisor, deployment: Deployment, logs: Path, cpus: frozenset[int] | None = None
) -> Flushers:
    """The deployment's flushers, at work. Raises ServiceError."""
    folder = Path(deployment.folder)
    file = folder / "flusher.json"
    write_privately(deployment, file)
    children = []
    for number in range(1, deployment.plan.flusher.processes + 1):
        name = "flusher" if number == 1 else f"flusher-{number}"
        argv = [sys.executable, "-m", "harness.flusher", str(file), str(number)]
        children.append(supervisor.spawn(name, argv, log=logs / f"{name}.log", cpus=cpus))
    for number, child in enumerate(children, start=1):
        ready = ready_file(folder, number)
        supervisor.wait_until_ready(child, ready.exists, deployment.plan.limits.start_s)
    return Flushers(children)
