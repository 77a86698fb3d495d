"""`python -m harness.site DEPLOYMENT`: the vote server by itself, as a run and compose start it."""

import sys
from pathlib import Path

import click
import msgspec
import pymysql

from harness.database import schema
from harness.deployment import Deployment
from harness.errors import Exit, PollstormError, ServiceError
from harness.modes.mode import find_mode, require_memcached
from harness.site.cookie import voters_key
from harness.site.server import free_address, serve


@click.command(epilog="Exit codes: 0 stopped, 1 failed, 2 usage, plan or a port in use.")
@click.argument("deployment", type=click.Path(path_type=Path))
@click.option("--mode", envvar="POLLSTORM_MODE", help="Instead of the deployment's mode.")
@click.option("--host", help="Instead of the deployment's host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of the deployment's port.")
@click.option("--create-schema", is_flag=True, help="Create missing tables and the poll first.")
def site(
    deployment: Path, mode: str | None, host: str | None, port: int | None, create_schema: bool
) -> None:
    """Serve votes for DEPLOYMENT, a .json or .toml file, until SIGTERM."""
    given = Deployment.read(deployment)
    resolved = msgspec.structs.replace(
        given,
        mode=mode or given.mode,
        host=host or given.host,
        port=given.port if port is None else port,
    )
    chosen = find_mode(resolved.mode)
    require_memcached(chosen, len(resolved.memcached), resolved.plan)
    resolved.make_folder()
    voters_key(resolved)  # made before the workers need it, and refused before they start
    address, free_port = free_address(resolved.host, resolved.port)
    if create_schema:
        try:
            schema.create(resolved.database, resolved.plan.poll.poll())
        except pymysql.MySQLError as error:
            raise ServiceError(f"the database cannot hold our tables: {error}") from error
    shown = f"[{address}]" if ":" in address else address
    click.echo(f"site: mode {chosen.name} on http://{shown}:{free_port}")
    serve(resolved, chosen, address, free_port)


def main() -> None:
    """Every expected failure is one line on stderr and an exit code."""
    try:
        site.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except PollstormError as error:
        click.echo(f"site: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(Exit.INTERRUPTED)


if __name__ == "__main__":
    main()
