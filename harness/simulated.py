"""One simulated run: the plan's modes in virtual time, audited and reported as a real one.

Trials do not depend on one another, so they are played by several processes at once. A run that
fails or is interrupted half-way ends them, and reports what there is, marked partial.
"""

import os
from collections.abc import Iterable
from concurrent.futures import as_completed
from datetime import UTC, datetime
from platform import python_version
from typing import Final

import msgspec

from harness import __version__
from harness.errors import PlanError, PollstormError
from harness.modes.mode import find_mode, is_spread
from harness.plan import Plan
from harness.result import RunResult
from harness.run import Destination, Noted, conclude, require_disk
from harness.run_folder import RunFolder, write_atomically
from harness.services.interruption import interruptible, uninterrupted
from harness.simulation.pool import processes
from harness.simulation.service_times import ServiceTimes
from harness.simulation.trial import Machine, Played, play
from harness.trial import Progress

PLAYED: Final = 9  # of the twelve steps of a run: the files of a trial are written


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """`simulation.json`: what was simulated. Its presence marks a run as simulated."""

    cores: int
    service_times: ServiceTimes


def simulate(
    plan: Plan, destination: Destination, machine: Machine, command: str, progress: Progress
) -> tuple[RunFolder, RunResult]:
    """Play the plan's modes, account for every vote, write the report.

    `command` is what repeats the run. Raises PlanError before anything is played. Whatever ends
    the run later raises its PollstormError when the partial report has been written.
    """
    started = datetime.now(UTC)
    folder: RunFolder | None = None
    failure: PollstormError | None = None
    with interruptible():
        try:
            progress.step("", 1, "resolve the plan")
            for name in (*plan.modes, *(name for fault in plan.faults for name in fault.modes)):
                find_mode(name)
            if any(is_spread(find_mode(name), plan) for name in plan.modes):
                raise PlanError("keys spread over daemons are not simulated; have one, or `run` it")
            require_disk(plan, destination)
            stamp = started.strftime("%Y%m%dT%H%M%SZ")
            out = destination.out or destination.parent / f"{stamp}-{plan.scenario}-simulated"
            with uninterrupted():
                folder = RunFolder.create(destination.parent, plan, out)
                _describe(folder, machine)
            progress = Noted(progress, folder)
            for played in _play_all(plan, machine, folder):
                progress.step(played.name, PLAYED, _told(played))
        except PollstormError as error:
            if folder is None:
                raise
            failure = error
        started_utc = started.isoformat(timespec="seconds")
        return folder, conclude(folder, progress, failure, command, started_utc)


def _play_all(plan: Plan, machine: Machine, folder: RunFolder) -> Iterable[Played]:
    """Each trial as it is done. No process is left when this ends, however it ends."""
    wanted = [(mode, number) for number in range(1, plan.repeat + 1) for mode in plan.modes]
    at_once = min(len(wanted), len(os.sched_getaffinity(0)))
    if at_once == 1:
        for mode, number in wanted:
            yield play(plan, mode, number, machine, folder.trial(mode, number))
        return
    with processes(at_once) as pool:
        futures = [
            pool.submit(play, plan, mode, number, machine, folder.trial(mode, number))
            for mode, number in wanted
        ]
        for future in as_completed(futures):
            yield future.result()


def _describe(folder: RunFolder, machine: Machine) -> None:
    """What it stands on, in full for the next simulation and in short for the page."""
    simulation = Simulation(cores=machine.cores, service_times=machine.times)
    encoded = msgspec.json.format(msgspec.json.encode(simulation))
    write_atomically(folder.simulation_file, encoded)
    environment = {
        "simulated": True,
        "simulated cores": machine.cores,
        "service times": machine.times.origin,
        "pollstorm": __version__,
        "python": python_version(),
    }
    write_atomically(folder.environment_file, msgspec.json.encode(environment))


def _told(played: Played) -> str:
    return (
        f"played {played.votes:,} votes, {played.commands:,} commands in {played.seconds:.1f} s "
        f"({played.votes / played.seconds:,.0f} votes/s)"
    )
