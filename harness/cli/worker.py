"""`pollstorm worker`: this machine plays a share of another's load."""

import os
import sys
from time import monotonic
from typing import Final

import click

from harness.cli.options import allow_target, finite
from harness.errors import Exit, Interrupted, ServiceError
from harness.load.order import MASTER_LOST, NO_MASTER
from harness.load.request import ALLOW_TARGET
from harness.plan import host_of
from harness.services.interruption import interruptible, uninterrupted
from harness.services.processes import Child, Supervisor

LOOK_S: Final = 1.0
STOP_S: Final = 4.0  # for a load under way to end, and its ledger to leave
WAIT_S: Final = 600.0  # a person can start the run meanwhile; a worker that was forgotten ends
MOST_WAIT_S: Final = 3600  # Locust asks for a master every five seconds, and counts by recursion
EPILOG: Final = """\b
Examples:
  pollstorm worker --master 10.0.0.1:5557 --allow-target 10.0.0.1
  pollstorm run controversial-poll --remote 2 --listen 10.0.0.1:5557

Start one on each machine, in any order; docs/load.md says more.
"""


@click.command(epilog=EPILOG, short_help="Play a share of another machine's load.")
@click.option("--master", required=True, metavar="HOST:PORT", help="Where `pollstorm run` listens.")
@allow_target
@click.option("--loads", type=click.IntRange(1), metavar="N", help="End after so many loads.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(1, MOST_WAIT_S), default=WAIT_S, show_default=True,
    callback=finite, metavar="S", help="Seconds without a load to play, after which this ends.",
)  # fmt: skip
def worker(master: str, allow_target: tuple[str, ...], loads: int | None, wait_s: float) -> int:
    """Wait for a master, play the shares that it deals out, send the ledgers back; until Ctrl-C.

    Every trial of a run is two loads: the generator's ceiling is measured first.
    """
    host = host_of(master, "--master")
    allowed = ",".join(allow_target) or os.environ.get(ALLOW_TARGET)
    argv = [sys.executable, "-m", "harness.load.worker", host, master.rpartition(":")[2]]
    played, forsaken = 0, False
    with interruptible(), Supervisor() as supervisor:
        while loads is None or played < loads:  # until Ctrl-C, or nobody comes
            folder = supervisor.temporary_directory()
            begun_s = monotonic()
            child = supervisor.spawn(
                "worker",
                [*argv, str(folder), str(wait_s)],
                log=folder / "worker.log",
                env={ALLOW_TARGET: allowed} if allowed else None,
            )
            code = _wait_for(child)
            _, _, told = child.log_tail().rpartition(" | ")
            supervisor.remove(folder)
            lasted_s = monotonic() - begun_s
            if code == Exit.INCONCLUSIVE:  # no load came; one may yet
                continue
            if code == NO_MASTER:
                _say_alone(master, wait_s, played)
                break
            if code not in (Exit.OK, MASTER_LOST):
                raise ServiceError(f"--master {master}: {told}")
            played += 1
            forsaken = code == MASTER_LOST
            how = "ended: its master has fallen silent," if forsaken else "over"
            click.echo(f"load {played} {how} after {lasted_s:.0f} s")
    return Exit.INCONCLUSIVE if forsaken else Exit.OK


def _wait_for(child: Child) -> int | None:
    """Its exit code. Who is interrupted has the load ended, and its ledger sent, before."""
    try:
        while child.poll() is None:
            child.wait(LOOK_S)
        return child.stop(0)
    except Interrupted:
        with uninterrupted():
            child.stop(STOP_S)
        raise


def _say_alone(master: str, wait_s: float, played: int) -> None:
    """Raises ServiceError when nobody ever came."""
    if not played:
        raise ServiceError(
            f"--master {master}: no load came within {wait_s:g} s; start `pollstorm run` with "
            "--remote and --listen there, or wait longer with --wait"
        )
    click.echo(f"no load came within {wait_s:g} s of the last; {played} played")
