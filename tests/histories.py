"""Histories written by hand, and one that a small deterministic simulation writes.

`attempt`, `ballot` and `command` are single rows with sensible defaults; `make_trial` lays them
down as a trial folder. `make_run` makes a whole run folder: the protocol's own generators on an
imitated memcached in virtual time, with a cold start and stalls of a lock's holder.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.fault import Fault
from harness.history.journal import JOURNAL_DTYPE, Role
from harness.history.ledger import LEDGER_DTYPE, RequestKind, Trouble
from harness.history.store import BALLOT_COLUMNS, REJECTION_COLUMNS, write_parquet
from harness.plan import Arrivals, Plan
from harness.protocol.commands import COMMAND_CODES, Command, KeyKind, Status
from harness.run_folder import RunFolder, TrialFacts, TrialFolder
from harness.vote import Outcome, VoteId, mint
from tests.imitation import Imitation, spike_arrivals

START_NS = 1_000_000_000_000
MS = 1_000_000
GENERATOR = 1


def vote_id(sequence: int, generator: int = GENERATOR) -> VoteId:
    return mint(generator, sequence)


def attempt(
    sequence: int,
    outcome: Outcome = Outcome.ACKNOWLEDGED,
    choice: int = 1,
    *,
    planned_ms: float | None = None,
    sent_after_ms: float = 0.0,
    taken_after_ms: float | None = None,
    answered_after_ms: float | None = 1.0,
    number: int = 1,
    kind: RequestKind = RequestKind.VOTE,
    generator: int = GENERATOR,
) -> dict[str, Any]:
    """A ledger row; times in ms: planned after the load's start, the rest after planned."""
    planned_ns = START_NS + round((sequence if planned_ms is None else planned_ms) * MS)
    taken = sent_after_ms if taken_after_ms is None else taken_after_ms
    return {
        "vote": vote_id(sequence, generator),
        "planned_ns": planned_ns,
        "taken_ns": planned_ns + round(taken * MS),
        "sent_ns": planned_ns + round(sent_after_ms * MS),
        "answered_ns": (
            0
            if answered_after_ms is None
            else planned_ns + round((sent_after_ms + answered_after_ms) * MS)
        ),
        "outcome": outcome,
        "kind": kind,
        "choice": choice,
        "status": {Outcome.ACKNOWLEDGED: 201, Outcome.REFUSED: 503, Outcome.UNKNOWN: 504}[outcome],
        "attempt": number,
        "generator": generator,
        "error": Trouble.NONE,
    }


def ballot(
    sequence: int,
    choice: int = 1,
    deliveries: int = 1,
    generator: int = GENERATOR,
    voter: str | None = None,
) -> dict[str, Any]:
    """A ballots row."""
    return {
        "vote": vote_id(sequence, generator),
        "poll": "town-hall",
        "choice": choice,
        "voter": f"voter-{sequence}" if voter is None else voter,
        "deliveries": deliveries,
    }


def rejection(
    sequence: int, choice: int = 1, generator: int = GENERATOR, voter: str | None = None
) -> dict[str, Any]:
    """A rejections row."""
    return ballot(sequence, choice, 1, generator, voter)


def command(
    kind: type[Command],
    key: KeyKind = KeyKind.NONE,
    *,
    begin: float,
    end: float | None = None,
    pid: int = 100,
    thread: int = 0,
    operation: int = 1,
    status: Status = Status.OK,
    number: int = 0,
    cas: int = 0,
    slot: int = 0,
    vote: int = 0,
    queue: int = 0,
    daemon: int = 0,
    role: Role = Role.SITE,
) -> dict[str, Any]:
    """A journal row; begin and end in ms after the load's start, end None when never answered."""
    answered = begin + 0.1 if end is None and status is not Status.LOST else end
    return {
        "begin_ns": START_NS + round(begin * MS),
        "end_ns": 0 if answered is None else START_NS + round(answered * MS),
        "vote": vote,
        "number": number,
        "cas": cas,
        "slot": slot,
        "pid": pid,
        "operation": operation,
        "thread": thread,
        "queue": queue,
        "daemon": daemon,
        "role": role,
        "command": COMMAND_CODES[kind],
        "key": key,
        "status": status,
    }


def facts(**changes: Any) -> TrialFacts:
    """A whole, drained trial of one second in mode `direct`."""
    values: dict[str, Any] = {
        "mode": "direct",
        "promises": True,
        "planned": {GENERATOR: 0},
        "load_start_ns": START_NS,
        "duration_s": 1.0,
        "drained": True,
        "partial": False,
    }
    return TrialFacts(**values | changes)


def frame(rows: Iterable[dict[str, Any]], columns: dict[str, np.dtype[Any]]) -> pd.DataFrame:
    """Rows as a frame of exactly these columns and types."""
    rows = list(rows)
    return pd.DataFrame(
        {name: np.array([row[name] for row in rows], dtype=kind) for name, kind in columns.items()}
    )


def columns_of(dtype: "np.dtype[np.void]") -> dict[str, np.dtype[Any]]:
    assert dtype.fields is not None
    return {name: dtype.fields[name][0] for name in dtype.names or () if name != "padding"}


def make_trial(
    path: Path,
    ledger: Sequence[dict[str, Any]] = (),
    ballots: Sequence[dict[str, Any]] = (),
    journal: Sequence[dict[str, Any]] = (),
    rejections: Sequence[dict[str, Any]] | None = None,
    **changes: Any,
) -> TrialFolder:
    """A trial folder with these rows; facts as `facts(**changes)`, planned: all ids up to the last.

    `planned` may be given among the changes. With rejections, if only of none, the poll is a
    once-only one.
    """
    trial = TrialFolder(path)
    path.mkdir(parents=True)
    write_parquet(frame(ledger, columns_of(LEDGER_DTYPE)), trial.ledger)
    write_parquet(frame(journal, columns_of(JOURNAL_DTYPE)), trial.journal)
    write_parquet(frame(ballots, BALLOT_COLUMNS), trial.ballots)
    if rejections is not None:
        write_parquet(frame(rejections, REJECTION_COLUMNS), trial.rejections)
        changes = {"once": True} | changes
    votes = [row["vote"] for row in ledger if row["kind"] == RequestKind.VOTE]
    last = max((vote & (1 << 48) - 1 for vote in votes), default=-1)
    trial.write_facts(facts(**{"planned": {GENERATOR: last + 1}} | changes))
    return trial


def make_run(
    path: Path,
    modes: Sequence[str] = ("direct", "cached", "classic"),
    seed: int = 1,
    repeat: int = 1,
    duration_s: float = 12.0,
    peak_per_s: float = 400.0,
) -> RunFolder:
    """A run folder of `controversial-poll` as a real run leaves it, without result and report.

    `classic` has clean and cold grants, takeovers, overlaps, lost and doubled votes and faults;
    about 800 votes a trial with the defaults, three seconds of work for all.
    """
    apart_s = max(duration_s / 4, 1.5)  # a stall of 1.2 s is over before the next begins
    stalls_at_s = [apart_s * n for n in (1, 2, 3) if apart_s * n < duration_s]
    plan = Plan(
        scenario="controversial-poll",
        modes=tuple(modes),
        duration_s=duration_s,
        seed=seed,
        repeat=repeat,
        arrivals=Arrivals(
            curve="spike",
            peak_per_s=peak_per_s,
            starts_s=duration_s / 6,
            rise_s=duration_s / 20,
            peak_at_s=duration_s / 3,
            decay_s=duration_s / 8,
            results_per_vote=0.2,
        ),
        faults=tuple(
            Fault(kind="pause", target="lock-holder", at_s=at_s, for_s=1.2) for at_s in stalls_at_s
        ),
    )
    folder = RunFolder.create(path.parent, plan, path)
    for mode in modes:
        for repetition in range(1, repeat + 1):
            _imitate(folder.trial(mode, repetition), plan, mode, seed * 1000 + repetition)
    return folder


def _imitate(trial: TrialFolder, plan: Plan, mode: str, seed: int) -> None:
    arrivals = spike_arrivals(plan, seed)
    world = Imitation(mode, plan, arrivals, seed, start_ns=START_NS, generator=GENERATOR)
    world.run()
    trial.path.mkdir(parents=True)
    write_parquet(frame(world.ledger, columns_of(LEDGER_DTYPE)), trial.ledger)
    write_parquet(frame(world.journal, columns_of(JOURNAL_DTYPE)), trial.journal)
    write_parquet(frame(world.ballots.values(), BALLOT_COLUMNS), trial.ballots)
    attempts = pd.DataFrame(world.ledger)
    spent_s = float((attempts["answered_ns"] - attempts["sent_ns"]).sum()) / 1e9
    trial.write_facts(
        facts(
            mode=mode,
            promises=mode != "classic",
            planned={GENERATOR: world.votes},
            duration_s=plan.duration_s,
            ceiling_per_s=18_000.0,
            in_flight_sampled=spent_s / plan.duration_s * 1.01,
            site_in_flight=spent_s / plan.duration_s * 0.97,
            faults=tuple(world.faults),
        )
    )
