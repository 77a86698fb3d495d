"""Flags that more than one verb has."""

import click

from harness.services.targets import Existing

memcached = click.option(
    "--memcached", metavar="HOST:PORT", help="Use this memcached instead of a private one."
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
    existing = Existing(memcached, database)
    existing.require_allowed(allow_target)
    return existing
