"""The flushers as children."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Final

from harness.deployment import Deployment
from harness.errors import Exit
from harness.flusher import ready_file
from harness.services.processes import Child, Supervisor
from harness.services.service import Service, numbered
from harness.services.site import write_privately

EXIT_LIMIT_S: Final = 2.0  # beyond the drain's own limit, to say that it was not done


class Flushers:
    """All flushers of a mode, each of which drains at its interval."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.services = tuple(services)

    @property
    def children(self) -> tuple[Child, ...]:
        return tuple(service.child for service in self.services)

    def require_alive(self) -> None:
        """Raises ServiceError when one has ended."""
        for service in self.services:
            service.require_alive()

    def finish(self, limit_s: float) -> bool:
        """End all, at one time: each drains until every queue is empty.

        Whether all did, within the limit: what one has read and not yet committed, another may
        find neither in the queue nor counted.
        """
        until_s = monotonic() + limit_s + EXIT_LIMIT_S
        for child in self.children:
            child.ask_to_end()
        codes = [child.stop(max(0.0, until_s - monotonic())) for child in self.children]
        return all(code == Exit.OK for code in codes)

    def stop(self) -> None:
        """End all at once: nobody will ask what is still queued."""
        for child in self.children:
            child.stop(grace_s=0)


def start_flushers(
    supervisor: Supervisor, deployment: Deployment, logs: Path, cpus: frozenset[int] | None = None
) -> Flushers:
    """The deployment's flushers, at work. Raises ServiceError."""
    folder = Path(deployment.folder)
    file = folder / "flusher.json"
    write_privately(deployment, file)
    services = []
    for number in range(1, deployment.plan.flusher.processes + 1):
        name = numbered("flusher", number)
        service = Service(
            supervisor,
            name,
            [sys.executable, "-m", "harness.flusher", str(file), str(number)],
            log=logs / f"{name}.log",
            is_ready=partial(_is_at_work, ready_file(folder, number)),
            limit_s=deployment.plan.limits.start_s,
            cpus=cpus,
        )
        services.append(service)
    for service in services:
        service.wait_until_ready()
    return Flushers(services)


def _is_at_work(ready: Path, flusher: Child) -> bool:
    """Whether this very process has said so, and not one of the same number before it."""
    return ready.exists() and ready.read_text() == str(flusher.pid)
