"""`pollstorm up`: one mode's services and its site, to try by hand or to load with other tools."""

import shlex
import time
from typing import Final

import click

from harness.cli.options import allow_target, database, existing_services, memcached
from harness.errors import Exit, Interrupted
from harness.modes.mode import find_mode, known_modes
from harness.plan import Plan, with_changes
from harness.services.interruption import interruptible
from harness.services.processes import Supervisor
from harness.services.stack import Stack, start_stack

LOOK_S: Final = 0.2  # a dead service is reported at most this late

EXAMPLES = """\b
Examples:
  pollstorm up --mode classic
  pollstorm up --mode direct --port 8080 --workers 4 --threads 32
  pollstorm up --mode cached --database mysql://me:secret@127.0.0.1/test
"""


@click.command(epilog=EXAMPLES, short_help="One mode with its services and site, until Ctrl-C.")
@click.option("--mode", required=True, metavar="MODE", help=f"{', '.join(known_modes())}.")
@click.option("--port", type=int, default=0, metavar="N", help="Port of the site; 0: any free one.")
@click.option("--workers", type=int, metavar="N", help="Site processes.")
@click.option("--threads", type=int, metavar="N", help="Threads per site process.")
@memcached
@database
@allow_target
def up(
    mode: str,
    port: int,
    workers: int | None,
    threads: int | None,
    memcached: str | None,
    database: str | None,
    allow_target: tuple[str, ...],
) -> int:
    """Start memcached, MariaDB, the site and (for a queue) its flusher; Ctrl-C stops them all.

    One poll is there, and `pollstorm polls` makes more. Nothing is recorded; polls and votes are
    gone afterwards.
    """
    changes = {"site.port": port, "site.workers": workers, "site.threads": threads}
    nothing_recorded = {"site.journal": False, **changes}
    plan = with_changes(Plan(scenario="up"), nothing_recorded, "flags")
    chosen = find_mode(mode)
    existing = existing_services(memcached, database, allow_target)
    try:
        with interruptible(), Supervisor() as supervisor:
            folder = supervisor.temporary_directory()
            with start_stack(supervisor, plan, chosen, folder, folder, existing) as stack:
                show(stack)
                while True:  # until Ctrl-C, or until a service ends by itself
                    stack.require_alive()
                    time.sleep(LOOK_S)
    except Interrupted:
        click.echo("stopped")
        return Exit.OK


def show(stack: Stack) -> None:
    """Print where the site is, and what to try on it."""
    deployment = stack.deployment
    poll = f"{stack.site.url}/polls/{deployment.plan.poll.name}"
    click.echo(f"mode {deployment.mode} on {stack.site.url} (Ctrl-C stops it)\n")
    click.echo("Open that address in a browser, or try:\n")
    click.echo(f"""  curl -X POST {poll}/votes -H 'Content-Type: application/json' \\
       -d '{{"vote": "0000000000000001", "choice": 1, "voter": "me"}}'""")
    click.echo(f"  curl {poll}/results")
    if stack.mariadb:  # the URL of another may hold a password
        click.echo(f"  pollstorm polls list --database {shlex.quote(stack.mariadb.url)}")
