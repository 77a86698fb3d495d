"""Trials in virtual time, for what cannot be measured on this machine or in a study's time."""

import shutil
from pathlib import Path
from typing import NamedTuple

from harness.analysis.backlog import backlog
from harness.audit.examination import examine
from harness.plan import Plan
from harness.result import ModeResult
from harness.run_folder import TrialFolder
from harness.simulation.service_times import shipped
from harness.simulation.trial import Machine, play


class Rehearsed(NamedTuple):
    """What a simulated trial showed."""

    result: ModeResult
    backlog_grows: bool


def rehearse(plan: Plan, mode: str, cores: int | None, folder: Path) -> Rehearsed:
    """Play the plan's first repetition; nothing stays in the folder.

    `cores`: of the simulated machine; None: as many as that had on which the times were measured.
    Raises PollstormError.
    """
    times = shipped()
    trial = TrialFolder(folder)
    try:
        play(plan, mode, 1, Machine(times, cores or times.cores), trial)
        result = examine(trial, plan).result
        return Rehearsed(result, backlog(trial, trial.read_facts()).grows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
