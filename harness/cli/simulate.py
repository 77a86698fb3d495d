"""`pollstorm simulate`: one scenario through its modes in virtual time."""

import sys
from pathlib import Path
from typing import Any, Final

import click

from harness.cli.campaign import wage
from harness.cli.options import changes_of, plan_options
from harness.cli.progress import Audience, progress_on
from harness.cli.run import KNOWN, plan_of, repeat_command, show
from harness.errors import PlanError
from harness.run import Destination
from harness.run_folder import RunFolder
from harness.simulated import simulate as simulate_plan
from harness.simulation.calibration import calibrate
from harness.simulation.service_times import ServiceTimes, shipped
from harness.simulation.trial import Machine

EPILOG: Final = f"""{KNOWN}
\b
Examples:
  pollstorm simulate controversial-poll --modes direct,classic,ticket
  pollstorm simulate controversial-poll --modes ticket \\
    --workers 1000 --cores 500 --shards 16 --peak 40000
  pollstorm simulate on-air-promotion --calibrate reports/latest
  pollstorm simulate controversial-poll --modes ticket,mirrored --campaign 1000 --seed 1

A flag that is not given leaves the scenario's own value. docs/simulation.md says what is modelled.
"""
MOST_CORES: Final = 100_000
MOST_TRIALS: Final = 1_000_000  # days of computing


@click.command(epilog=EPILOG, short_help="One scenario through its modes in virtual time.")
@click.argument("scenario")
@plan_options
@click.option("--shards", type=int, metavar="K", help="Queues, by prefix; votes are dealt to them.")
@click.option(
    "--cores",
    type=click.IntRange(1, MOST_CORES),
    metavar="N",
    help="Cores of site, flusher, memcached and database; default: as where times were measured.",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A run folder to measure service times in; default: those that come with pollstorm.",
)
@click.option(
    "--campaign",
    type=click.IntRange(1, MOST_TRIALS),
    metavar="N",
    help="Instead: N short trials of each mode, each under random faults; seeds from --seed on.",
)
def simulate(
    scenario: str,
    shards: int | None,
    cores: int | None,
    calibrate: Path | None,
    campaign: int | None,
    out: Path | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Simulate SCENARIO through its modes and account for every vote, without any service.

    The same protocols as on a site, in virtual time. SCENARIO is a name from locustfiles/ or a
    TOML file. The report lands in reports/<UTC>-<scenario>-simulated/.

    With --campaign nothing is reported but what went wrong: the plan of each such trial is written
    to --out (reports/), and `pollstorm simulate PLAN.toml` repeats it.
    """
    plan = plan_of(scenario, flags, changes_of(flags, {"queue.queues": shards}))
    times = service_times(calibrate)
    machine = Machine(times, cores or times.cores)
    if campaign:
        return wage(plan, campaign, machine, out or Path("reports"), as_json=as_json)
    console = Audience(stderr=as_json)
    with progress_on(console) as progress:
        folder, result = simulate_plan(
            plan,
            Destination(out=out),
            machine,
            repeat_command(sys.argv[1:]),
            progress,
        )
    return show(folder, result, console, as_json=as_json)


def service_times(run: Path | None) -> ServiceTimes:
    """Those measured in the run, or those that come with us. Raises PlanError."""
    if run is None:
        return shipped()
    folder = RunFolder.open(run)
    if folder.is_simulated:
        raise PlanError(f"{run} is simulated itself; calibrate with a real run")
    return calibrate(folder)
