"""`pollstorm worker`: this machine plays a share of another's load."""

import os
import sys
from time import monotonic
from typing import Final

import click

from harness.errors import Exit, Interrupted, ServiceError
from harness.load.request import ALLOW_TARGET
from harness.plan import memcached_host
from harness.services.interruption import interruptible
from harness.services.processes import Supervisor

LOOK_S: Final = 1.0
EPILOG: Final = """\b
Examples:
  pollstorm worker --master 10.0.0.1:5557 --allow-target 10.0.0.1
  pollstorm run controversial-poll --remote 2 --listen 10.0.0.1:5557

Start one on each machine, in any order; docs/load.md says more.
"""


@click.command(epilog=EPILOG, short_help="Play a share of another machine's load.")
@click.option("--master", required=True, metavar="HOST:PORT", help="Where `pollstorm run` listens.")
@click.option("--allow-target", metavar="HOST", help="The site's host, if it is not this machine.")
@click.option("--loads", type=click.IntRange(1), metavar="N", help="End after so many loads.")
def worker(master: str, allow_target: str | None, loads: int | None) -> int:
    """Wait for a master, play the shares that it deals out, send the ledgers back; until Ctrl-C.

    Every trial of a run is two loads: the generator's ceiling is measured first.
    """
    host = memcached_host(master)
    port = master.rpartition(":")[2]
    allowed = allow_target or os.environ.get(ALLOW_TARGET)
    env = {ALLOW_TARGET: allowed} if allowed else None
    played = 0
    try:
        with interruptible(), Supervisor() as supervisor:
            log = supervisor.temporary_directory() / "worker.log"
            while loads is None or played < loads:  # until Ctrl-C
                folder = supervisor.temporary_directory()
                argv = [sys.executable, "-m", "harness.load.worker", host, port, str(folder)]
                begun_s = monotonic()
                child = supervisor.spawn("worker", argv, log=log, env=env)
                while child.poll() is None:
                    child.wait(LOOK_S)
                child.stop(0)
                supervisor.remove(folder)
                if child.poll() == Exit.INCONCLUSIVE:  # no load came; one may yet
                    continue
                if child.poll():
                    raise ServiceError(f"--master {master}: {child.log_tail()}")
                played += 1
                click.echo(f"load {played} over after {monotonic() - begun_s:.0f} s")
    except Interrupted:
        click.echo("stopped")
    return Exit.OK
