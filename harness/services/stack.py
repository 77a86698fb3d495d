"""All that one mode needs, started in order and stopped in the reverse of it."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pymysql

from harness.armed import ArmedPage
from harness.database import schema
from harness.errors import PlanError, ServiceError
from harness.modes.mode import Mode
from harness.modes.queued import ARMED_PAGE
from harness.plan import Deployment, Plan
from harness.services.cores import share_cores
from harness.services.flusher import FlusherServer, start_flusher
from harness.services.mariadb import start_mariadb
from harness.services.memcached import MemcachedServer, require_memcached, start_memcached
from harness.services.processes import Supervisor
from harness.services.site import SiteServer, start_site
from harness.services.targets import Existing

PREFIX_LENGTH: Final = 90  # of the 100 that a plan allows, so that a token still fits


@dataclass(frozen=True)
class Stack:
    """A mode's services, ready for votes."""

    deployment: Deployment
    site: SiteServer
    flusher: FlusherServer | None  # None: the mode has no queue
    memcached: MemcachedServer | None  # None: an existing one, not ours to wipe or stop
    armed: ArmedPage

    def require_alive(self) -> None:
        """Raises ServiceError when one of our processes has ended."""
        self.site.child.require_alive()
        if self.flusher:
            self.flusher.child.require_alive()
        if self.memcached:
            self.memcached.child.require_alive()

    def drain(self) -> bool:
        """End the site, then drain the queue; whether it was seen empty, with no vote to come."""
        self.site.stop()
        if self.flusher is None:
            return True
        return self.flusher.finish(self.deployment.plan.limits.drain_s)


@contextmanager
def start_stack(
    supervisor: Supervisor,
    plan: Plan,
    mode: Mode,
    folder: Path,
    logs: Path,
    existing: Existing,
) -> Iterator[Stack]:
    """Fresh services for one mode; journals go to `folder`. Raises PlanError, ServiceError."""
    cpus = share_cores().services
    with ExitStack() as ending:
        ours: MemcachedServer | None = None
        if existing.memcached is None:
            ours = start_memcached(supervisor, plan.memcached, logs / "memcached.log", cpus)
            ending.callback(ours.stop)
            address = ours.address
        else:
            address = existing.memcached
            require_memcached(address)
            plan = _with_own_keys(plan)
        if existing.database is None:
            mariadb = start_mariadb(supervisor, plan.database, logs / "mariadb.log", cpus)
            ending.callback(mariadb.stop)
            database = mariadb.url
        else:
            database = existing.database
        _create_tables(database, plan)
        if existing.database is not None:
            ending.callback(_drop_tables, database)
        deployment = Deployment(
            plan=plan,
            mode=mode.name,
            memcached=(address,),
            database=database,
            folder=str(folder),
            port=plan.site.port,
        )
        armed = ArmedPage.create(folder / ARMED_PAGE)
        site = start_site(supervisor, deployment, logs / "site.log", cpus)
        ending.callback(site.stop)
        flusher: FlusherServer | None = None
        if mode.queues:
            flusher = start_flusher(supervisor, deployment, logs / "flusher.log", cpus)
            ending.callback(flusher.finish, 0)
        yield Stack(deployment, site, flusher, ours, armed)


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
