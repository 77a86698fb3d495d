"""What carries out a protocol's commands in one thread: all of memcached's, and the database's."""

from math import ceil
from pathlib import Path
from typing import Final, get_args

from harness.armed import ArmedPage
from harness.cache import NamespacedCache
from harness.cache.breaker import breaker_of
from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.cache.ring import Ring
from harness.cache.spread import SpreadExecutor
from harness.database.ballots import Ballots
from harness.database.executor import DatabaseExecutor
from harness.deployment import Deployment
from harness.history.journal import Journal, Role
from harness.plan import Plan
from harness.protocol.commands import Command, DatabaseCommand, Reply

ARMED_PAGE: Final = "armed.page"  # in a deployment's folder, when faults can be armed
NS_PER_S: Final = 1_000_000_000
_OF_DATABASE: Final = frozenset(get_args(DatabaseCommand))


class Hands:
    """One session's connections. `execute` never raises for what memcached or the database does.

    `daemons`: how many the protocol knows of. If that is one, the plan may have its keys spread.
    """

    def __init__(
        self,
        deployment: Deployment,
        role: Role,
        journal: Journal | None,
        *,
        breakers: bool,
        daemons: int,
    ) -> None:
        plan = deployment.plan
        timeout_s = plan.memcached.timeout_s
        self.clients = [
            MetaClient(address, timeout_s, breaker_of(address, timeout_s) if breakers else None)
            for address in deployment.memcached
        ]
        self.cache = (
            NamespacedCache(self.clients[0], plan.queue.prefix, separator="-")
            if self.clients
            else None
        )
        """What beside the queue lies on the first daemon; it heeds the client's breaker."""
        page = Path(deployment.folder) / ARMED_PAGE
        armed = ArmedPage(page) if page.exists() else None
        executor = MemcachedExecutor(
            self.clients,
            role,
            patience_ns=round(plan.queue.patience_s * NS_PER_S),
            journal=journal,
            armed=armed,
        )
        self._memcached: MemcachedExecutor | SpreadExecutor = executor
        if daemons == 1 < plan.memcached.daemons:
            dead_s = plan.memcached.dead_s if plan.memcached.rehash else None
            self._memcached = SpreadExecutor(executor, Ring(plan.memcached.daemons, dead_s))
        self.ballots = Ballots(deployment.database, plan.database.timeout_s, journal, armed)
        self._database = DatabaseExecutor(self.ballots, plan.flusher.batch_rows)

    def execute(self, command: Command) -> Reply:
        if type(command) in _OF_DATABASE:
            return self._database.execute(command)  # type: ignore[arg-type]
        return self._memcached.execute(command)

    def take_strays(self) -> list[bytes]:
        """As `DatabaseExecutor.take_strays`."""
        return self._database.take_strays()

    def stop_recording(self) -> None:
        """Go on without a journal."""
        self._memcached.stop_recording()
        self._database.stop_recording()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self._database.close()


def calculation_s(plan: Plan) -> int:
    """What is longer than any question to the database may take, for a lease on its answer."""
    return ceil(plan.database.timeout_s) + 1
