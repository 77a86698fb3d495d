"""All that one mode needs, started in order and stopped in the reverse of it."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import pymysql

from harness.armed import ArmedPage
from harness.database import schema
from harness.deployment import Deployment
from harness.errors import PlanError, ServiceError
from harness.modes.hands import ARMED_PAGE
from harness.modes.mode import Mode, daemons_of, require_memcached
from harness.plan import Plan
from harness.services.cores import share_cores
from harness.services.flusher import Flushers, start_flushers
from harness.services.mariadb import MariadbServer, start_mariadb
from harness.services.memcached import (
    MemcachedServer,
    most_connections,
    require_answer,
    require_different,
    start_memcached,
)
from harness.services.processes import Supervisor
from harness.services.proxies import (
    MARIADB,
    ProxyServer,
    named,
    planned,
    start_proxies,
    targets_between,
    through,
)
from harness.services.service import cpu_s, numbered
from harness.services.site import SiteServer, start_site
from harness.services.targets import Existing

PREFIX_LENGTH: Final = 90  # of the 100 that a plan allows, so that a token still fits
MOST_WORKERS: Final = 64  # as many cores as a large machine has
ASKING: Final = 1  # session per worker beside its threads: to say whether it is ready
OURS: Final = 8  # connections: ballots are read, faults have up to three, somebody looks by hand


@dataclass(frozen=True)
class Stack:
    """A mode's services, ready for votes."""

    deployment: Deployment
    site: SiteServer
    flushers: Flushers  # none where the mode has no queue
    memcached: tuple[MemcachedServer, ...]  # none: existing ones, not ours to wipe or stop
    mariadb: MariadbServer | None  # none: an existing one
    armed: ArmedPage
    servers: Existing = field(default_factory=Existing)
    """Where memcached and the database are, past any proxy."""
    proxies: Mapping[str, ProxyServer] = field(default_factory=dict)
    """By target: the proxy through which site and flusher go, for faults of the network."""

    def require_alive(self) -> None:
        """Raises ServiceError when one of our processes has ended."""
        self.site.child.require_alive()
        self.flushers.require_alive()
        for memcached in self.memcached:
            memcached.service.require_alive()
        if self.mariadb:
            self.mariadb.service.require_alive()
        for proxy in self.proxies.values():
            proxy.child.require_alive()

    def cpu_s(self) -> dict[str, float]:
        """The processor time that each of our services has used up to now, in user and kernel."""
        services = {
            "flusher": self.flushers.services,
            "memcached": tuple(daemon.service for daemon in self.memcached),
            "database": (self.mariadb.service,) if self.mariadb else (),
        }
        used_s = {name: sum(one.cpu_s() for one in many) for name, many in services.items() if many}
        return {"site": cpu_s(self.site.child)} | used_s

    def drain(self) -> bool:
        """End the site, then drain the queue; whether it was seen empty, with no vote to come."""
        self.site.stop()
        return self.flushers.finish(self.deployment.plan.limits.drain_s)


@contextmanager
def start_stack(
    supervisor: Supervisor,
    plan: Plan,
    mode: Mode,
    folder: Path,
    logs: Path,
    existing: Existing,
    step: Callable[[int, str], None] = lambda *_: None,
) -> Iterator[Stack]:
    """Fresh services for one mode; journals go to `folder`. Raises PlanError, ServiceError.

    `step` is told of steps 2 to 4 of a run. Who wants a graceful end drains before the block's end;
    what still runs then is killed.
    """
    existing = existing.with_secrets()
    require_room(plan, existing)
    cpus = share_cores().services
    with ExitStack() as ending:
        step(2, "start memcached and MariaDB")
        ours: tuple[MemcachedServer, ...] = ()
        if existing.memcached:
            addresses = existing.memcached
            require_memcached(mode, len(addresses), plan)
            for address in addresses:
                require_answer(address)
            require_different(addresses)
            plan = _with_own_keys(plan)
        else:
            ours = _start_daemons(supervisor, plan, mode, logs, cpus, ending)
            addresses = tuple(daemon.address for daemon in ours)
        mariadb = None
        if existing.database is None:
            kinds = {fault.kind for fault in planned(plan, mode.name)}
            mariadb = start_mariadb(supervisor, plan.database, logs / "mariadb.log", cpus, kinds)
            ending.callback(mariadb.stop)
            database = mariadb.url
        else:
            database = existing.database
        step(3, "create tables")
        _create_tables(database, plan)
        if existing.database is not None:
            ending.callback(_drop_tables, database)
        servers = Existing(addresses, database)
        targets = targets_between(plan, mode.name)
        proxies = start_proxies(supervisor, servers, targets, logs, cpus, ending)
        deployment = Deployment(
            plan=plan,
            mode=mode.name,
            memcached=tuple(
                proxies[name].address if name in proxies else address
                for name, address in named(addresses)
            ),
            database=through(proxies[MARIADB].address, database)
            if MARIADB in proxies
            else database,
            folder=str(folder),
            host=plan.site.host,
            port=plan.site.port,
        )
        step(4, "start the site" + (" and the flusher" if mode.queues else ""))
        armed = ArmedPage.create(folder / ARMED_PAGE)
        site = start_site(supervisor, deployment, logs / "site.log", cpus)
        ending.callback(site.child.stop, 0)
        flushers = Flushers(())
        if mode.queues:
            flushers = start_flushers(supervisor, deployment, logs, cpus)
            ending.callback(flushers.stop)
        yield Stack(deployment, site, flushers, ours, mariadb, armed, servers, proxies)


def require_room(plan: Plan, existing: Existing) -> None:
    """Raises PlanError when the plan's site is larger than a real one may be, or may need more
    connections than private servers give.

    A session that gets none refuses votes, and so would fail what is to be measured.
    """
    site = plan.site
    if site.workers > MOST_WORKERS:
        raise PlanError(
            f"site.workers is {site.workers}, and a real site has {MOST_WORKERS} at most; "
            "`pollstorm simulate` plays more"
        )
    wanted = site.workers * (site.threads + ASKING) + plan.flusher.processes + OURS
    need = (
        f"site.workers = {site.workers} and site.threads = {site.threads} may take {wanted} "
        "connections, with the flushers' and ours"
    )
    most = plan.database.max_connections
    if existing.database is None and wanted > most:
        raise PlanError(
            f"{need}, and database.max_connections is {most}; raise it to {wanted}, or have fewer "
            "workers or threads"
        )
    most = most_connections()
    if not existing.memcached and wanted > most:
        raise PlanError(f"{need}, and memcached takes {most} here; have fewer workers or threads")


def _start_daemons(
    supervisor: Supervisor,
    plan: Plan,
    mode: Mode,
    logs: Path,
    cpus: frozenset[int] | None,
    ending: ExitStack,
) -> tuple[MemcachedServer, ...]:
    """As many private memcached daemons as the mode works with. Raises ServiceError."""
    daemons = []
    for number in range(1, daemons_of(mode, plan) + 1):
        name = numbered("memcached", number)
        daemon = start_memcached(supervisor, plan.memcached, logs / f"{name}.log", cpus)
        ending.callback(daemon.stop)
        daemons.append(daemon)
    return tuple(daemons)


def _with_own_keys(plan: Plan) -> Plan:
    """An existing memcached is not wiped, so what an earlier trial left there must not be met."""
    prefix = f"{plan.queue.prefix[:PREFIX_LENGTH]}-{secrets.token_hex(4)}"
    return msgspec.structs.replace(plan, queue=msgspec.structs.replace(plan.queue, prefix=prefix))


def _create_tables(database: str, plan: Plan) -> None:
    """Our tables, empty. Raises ServiceError when the database does not take them."""
    try:
        ballots = schema.count_ballots(database)
        if ballots:
            raise PlanError(
                f"the database already holds {ballots:,} ballots in pollstorm_ballots, from a site "
                "that uses it or a run that was killed; drop that table, or give another database"
            )
        if others := schema.polls_beside(database, plan.poll.name):
            raise PlanError(
                f"the database already has polls in pollstorm_polls ({others[0]}, …), which a run "
                "would drop; drop that table, or give another database"
            )
        schema.drop(database)
        schema.create(database, plan.poll.poll())
    except pymysql.MySQLError as error:
        cause = error.args[-1] if error.args else error
        raise ServiceError(
            f"the database cannot hold our tables: {cause}; it must run, and the user of "
            "--database must be allowed to create tables there"
        ) from error


def _drop_tables(database: str) -> None:
    with suppress(pymysql.MySQLError):  # it is gone; the next run drops them first
        schema.drop(database)
