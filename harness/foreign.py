"""A trial of somebody else's vote server: it is loaded, its ballots are read, and that is all.

Nothing is started, broken or drained: what can be known is what voters were told, how long it took,
and which votes its ballots hold in the end. Why a vote is missing it alone could say.
"""

import functools
import socket
from secrets import randbelow
from time import monotonic, monotonic_ns, sleep
from typing import Final, cast

import msgspec
import numpy as np
import pandas as pd

from harness import trial as ours
from harness.database.foreign import read_foreign_ballots, require_source
from harness.errors import PlanError, PollstormError, ServiceError
from harness.fault import VOTERS, target_of
from harness.faults import voters
from harness.history.ledger import LEDGER_DTYPE
from harness.history.store import (
    BALLOT_COLUMNS,
    REJECTION_COLUMNS,
    collect_ledger,
    write_parquet,
)
from harness.load.arrivals import planned_votes
from harness.load.fleet import Fleet, LoadedSite
from harness.load.request import Target
from harness.modes.mode import Mode, find_mode
from harness.plan import Plan
from harness.run_folder import TARGET, TrialFacts, TrialFolder, remove_raw
from harness.services.interruption import uninterrupted
from harness.trial import Notes, Stage, note_fleet
from harness.vote import Outcome

READ_S: Final = 60.0  # a query over all votes of a large site
ANSWER_S: Final = 5.0  # for a connection; the load itself waits as its plan says
LOOK_S: Final = 0.5  # between two looks whether all ballots are there
MOST_GENERATORS: Final = 65_000


class Foreign:
    """Stands where a mode's name would: nothing is known of how votes travel there."""

    name = TARGET
    promises = False
    excuses: tuple[str, ...] = ()
    queues = False


FOREIGN: Final = cast(Mode, Foreign())


def modes_of(plan: Plan) -> list[Mode]:
    """What the plan drives: its modes, or the one server that it names. Raises PlanError."""
    if not plan.target.url:
        return [find_mode(name) for name in plan.modes]
    Target.from_url(plan.target.url).require_allowed()
    plan = plan.with_secrets()
    if plan.target.ballots:
        require_source(plan.target.ballots, READ_S)
    others = [fault for fault in plan.faults if target_of(fault) != VOTERS]
    if others:
        raise PlanError(
            f"the {others[0].kind} of {target_of(others[0])} cannot be done to somebody else's "
            "server; --no-faults leaves the scenario's troubles away"
        )
    return [FOREIGN]


def require_target(plan: Plan) -> None:
    """Raises ServiceError when nothing listens at the plan's target, if it has one."""
    if not plan.target.url:
        return
    target = Target.from_url(plan.target.url)
    try:
        socket.create_connection((target.host, target.port), timeout=ANSWER_S).close()
    except OSError as error:
        raise ServiceError(
            f"--target {plan.target.url}: nobody answers ({error.strerror or error}); "
            "start the server first"
        ) from error


def aimed_at_target(plan: Plan) -> Plan:
    """The plan with what follows from its having a target; any other as it is.

    The server has seen votes before, so the ids of these begin at a number drawn by lot.
    """
    if not plan.target.url:
        return plan
    first = 1 + randbelow(MOST_GENERATORS - plan.voters.generators)
    return msgspec.structs.replace(
        plan,
        modes=(FOREIGN.name,),
        voters=msgspec.structs.replace(plan.voters, first_generator=first),
        site=msgspec.structs.replace(plan.site, journal=False),
    )


def play(stage: Stage, mode: Mode, trial: TrialFolder) -> None:
    """Drive the mode, or the target, through the plan. Raises as `trial.play` does."""
    if mode is not FOREIGN:
        ours.play(stage, mode, trial)
        return
    plan = stage.plan.with_secrets()
    stage = stage._replace(plan=plan)
    trial.create()
    (stage.logs / trial.name).mkdir()
    notes = Notes(
        TrialFacts(
            mode=mode.name,
            promises=False,
            planned=planned_votes(plan),
            recasts=voters.most_recasts(plan.faults),
            once=plan.poll.once,
            votes_each=plan.voters.votes_each,
            load_start_ns=monotonic_ns(),
            duration_s=plan.duration_s,
            drained=False,
            partial=True,
        )
    )
    trial.write_facts(notes.facts)
    step = functools.partial(stage.progress.step, trial.name)
    frame = _none()
    try:
        _drive_load(stage, trial, notes)
        step(8, "wait for the ballots")
        frame, complete = _settled(plan, trial)
        notes.keep(drained=complete, partial=bool(notes.facts.notes))
    except PollstormError as error:
        notes.remark(str(error))
        notes.keep(partial=True)
        raise
    finally:
        step(9, "collect ledger and ballots")
        with uninterrupted():
            trial.write_facts(notes.facts)
            collect_ledger(trial.raw, trial.ledger)
            write_parquet(frame, trial.ballots)
            if plan.poll.once:  # what it turned away later it does not tell, so that is lost
                none = pd.DataFrame(columns=list(REJECTION_COLUMNS)).astype(REJECTION_COLUMNS)
                write_parquet(none, trial.rejections)
            remove_raw(trial)


def _drive_load(stage: Stage, trial: TrialFolder, notes: Notes) -> None:
    plan, progress = stage.plan, stage.progress
    target = Target.from_url(plan.target.url)
    site = LoadedSite(target.host, target.port, trial.raw)
    fleet = Fleet(plan, stage.supervisor, stage.logs / trial.name, site)
    progress.step(trial.name, 6, f"load {plan.target.url} for {plan.duration_s:g} s")

    def begin(start_ns: int) -> None:
        notes.keep(load_start_ns=start_ns)
        trial.write_facts(notes.facts)

    def tick(elapsed_s: float) -> None:
        progress.load(trial.name, elapsed_s, plan.duration_s)

    report = fleet.run(on_start=begin, on_tick=tick)
    of_voters = voters.records(plan.faults, report.met, plan.duration_s)
    notes.keep(faults=of_voters, ceiling_per_s=stage.ceiling_per_s)
    note_fleet(notes, report, plan)


def _settled(plan: Plan, trial: TrialFolder) -> tuple[pd.DataFrame, bool]:
    """The ballots when all that were acknowledged are there, or there has been time for them.

    Also whether they can be taken for complete: all are there, or nothing more came in the last
    look. Without a source of ballots nothing is known.
    """
    if not plan.target.ballots:
        return _none(), False
    generators = frozenset(planned_votes(plan))
    wanted = _acknowledged(trial)
    ends_s = monotonic() + plan.limits.drain_s
    before = -1
    while True:  # until all are there, or the plan's limit
        frame = read_foreign_ballots(plan.target.ballots, generators, READ_S)
        complete = wanted <= set(frame["vote"].tolist())
        if complete or monotonic() > ends_s:
            return frame, complete or len(frame) == before
        before = len(frame)
        sleep(LOOK_S)


def _none() -> pd.DataFrame:
    return pd.DataFrame(columns=list(BALLOT_COLUMNS)).astype(BALLOT_COLUMNS)


def _acknowledged(trial: TrialFolder) -> set[int]:
    """The votes that were acknowledged, from the raw ledger."""
    found: set[int] = set()
    for file in trial.raw.glob("ledger-*.bin"):
        rows = np.fromfile(file, LEDGER_DTYPE)
        told = rows[(rows["outcome"] == Outcome.ACKNOWLEDGED) & (rows["answered_ns"] > 0)]
        found.update(told["vote"][told["choice"] > 0].tolist())
    return found
