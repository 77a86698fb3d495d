"""Flags that more than one verb has."""

import click

from harness.errors import PlanError
from harness.services.targets import Existing

memcached = click.option(
    "--memcached",
    metavar="HOST:PORT,…",
    help="Use this memcached instead of a private one; two for a mode that needs two.",
)
database = click.option(
    "--database",
    metavar="URL",
    help="Use this database (mysql://user:password@host:port/name) instead of a private one.",
)
allow_target = click.option(
    "--allow-target",
    multiple=True,
    metavar="HOST",
    help="A host other than this machine that is yours to load; may be repeated.",
)


def existing_services(
    memcached: str | None, database: str | None, allow_target: tuple[str, ...]
) -> Existing:
    """What the three flags say. Raises PlanError for a host off loopback that was not allowed."""
    addresses = tuple(part.strip() for part in memcached.split(",")) if memcached else ()
    if len(set(addresses)) < len(addresses):
        raise PlanError(f"--memcached {memcached}: names one twice; two queues would be one")
    existing = Existing(addresses, database)
    existing.require_allowed(allow_target)
    return existing
