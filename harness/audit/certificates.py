"""Death certificates: for each lost, altered or doubled vote, what killed it.

`certify` decides from ledger, ballots and journal alone; the faults are attached afterwards, and
say only what was going on between a vote's sending and its death.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from harness.audit.accounts import condemned
from harness.audit.causes import cause_of_loss, draw_of
from harness.audit.certificate import UNKNOWN, Certificate, Command, Finding
from harness.audit.doubles import cause_of_alteration, cause_of_double
from harness.audit.lives import load_commands
from harness.audit.locks import holds
from harness.audit.once import counted_with, turned_away
from harness.audit.queues import COLUMNS, Queues, Who
from harness.audit.story import NAMES, Event, actor, said_of, tell
from harness.history.journal import Role
from harness.history.ledger import LEDGER_DTYPE, RequestKind
from harness.history.store import quoted, reading, require_columns, write_parquet
from harness.protocol.commands import COMMAND_CODES, Add, InsertBallots, KeyKind, Status
from harness.result import CauseCount
from harness.run_folder import TrialFacts, TrialFolder
from harness.vote import Outcome

ROLES: Final = {int(Role.SITE): "site", int(Role.FLUSHER): "flusher"}
TYPES: Final = {int: np.dtype("u8"), str: np.dtype("O"), bool: np.dtype("?")}
SIGNED: Final = "_ns"


class Attempts(NamedTuple):
    """What a vote's voter did and was told."""

    planned_ns: int
    sent_ns: int
    answered_ns: int  # of the first acknowledgement; 0: never
    attempts: int
    refused_ns: int  # of the first answer that said no; 0: never
    acknowledged: tuple[tuple[int, int], ...]  # sent and answered


def certify(trial: TrialFolder, facts: TrialFacts) -> pd.DataFrame:
    """A row for each lost, altered or doubled vote: the columns are `Certificate`'s.

    Raises HistoryError when a history cannot be read.
    """
    fates = condemned(trial, facts)
    if not fates:
        return as_frame([])
    with reading(trial.ledger, trial.journal) as connection:
        load_commands(connection, trial)
        votes = [vote for vote, _ in fates]
        queues = Queues(connection, votes)
        told = _attempts(connection, trial, votes)
        found = [_find(queues, vote, fate, told[vote]) for vote, fate in fates]
        story = tell(connection, [(s, f) for s, f in found])
        grants = _grants(trial)
        certificates = [
            _certificate(queues, facts, vote, fate, told[vote], store, finding, grants, story)
            for (vote, fate), (store, finding) in zip(fates, found, strict=True)
        ]
    return as_frame(certificates)


class Life(NamedTuple):
    """One vote that may not have died."""

    fate: str
    events: list[Event]


def life_of(trial: TrialFolder, vote: int) -> Life | None:
    """What became of any vote of the trial; None if nobody sent it. Raises HistoryError."""
    with reading(trial.ledger, trial.journal, trial.ballots) as connection:
        told = _attempts(connection, trial, [vote]).get(vote)
        if told is None:
            return None
        load_commands(connection, trial)
        queues = Queues(connection, [vote])
        stores = _acknowledged(queues.own.get(vote, []), told)
        reads = queues.carried.get(vote, [])
        store = stores[-1] if stores else _at_the_door(connection, vote)
        finding = Finding("", True, "", reads[-1] if reads else None)
        story = tell(connection, [(store, finding)])
        fate = _fate(connection, trial, vote, told)
    events = [
        msgspec.structs.replace(event, mark="" if event.mark == "fatal" else event.mark)
        for event in said_of(vote, told, store, finding, story)
    ]
    if fate.rejected_for and reads:
        events += [
            Event(c.end_ns, actor(c), f"finds that {fate.rejected_for}: rejected", mark="life")
            for c in story.get(reads[-1].who, ())
            if c.command == COMMAND_CODES[InsertBallots] and c.status == Status.OK
        ]
        events.sort(key=lambda event: event.at_ns)
    return Life(fate.told, events)


def _at_the_door(connection: Any, vote: int) -> Command | None:
    """The command that made or found the voter's key, of a vote that came no further."""
    rows = connection.execute(
        f"""SELECT {COLUMNS} FROM commands WHERE vote = {vote}
        AND key = {int(KeyKind.VOTER)} AND command = {COMMAND_CODES[Add]}
        ORDER BY begin_ns DESC LIMIT 1"""
    ).fetchall()
    return Command(*rows[0]) if rows else None


class _Fate(NamedTuple):
    told: str
    rejected_for: str = ""  # why, if it was


def _fate(connection: Any, trial: TrialFolder, vote: int, told: Attempts) -> _Fate:
    """What became of a vote that has no certificate."""
    facts = trial.read_facts()
    own = f"FROM (SELECT {vote}::UBIGINT AS vote)"
    if _one(connection, f"SELECT vote IN (SELECT vote FROM {quoted(trial.ballots)}) {own}"):
        return _Fate("counted: the database has its ballot.")
    other = counted_with(connection, trial.ballots, vote, facts) if facts.once else None
    counted = f"its voter is counted with vote {other:016x}" if other is not None else ""
    if not told.acknowledged:
        why = f": {counted}" if counted else ""
        return _Fate(f"not counted, and nobody had promised it{why}.")
    if counted:
        excused = turned_away(connection, trial.ballots, trial.rejections, facts)
        if _one(connection, f"SELECT {excused} {own}"):
            return _Fate(f"rejected at the count: {counted}.", rejected_for=counted)
    return _Fate("pending: acknowledged, not counted, and the drain was not complete.")


def _one(connection: Any, sql: str) -> Any:
    ((value,),) = connection.execute(sql).fetchall()
    return value


def write_certificates(trial: TrialFolder, frame: pd.DataFrame) -> None:
    """Keep them in the trial's folder."""
    write_parquet(frame, trial.certificates)


def read_certificates(trial: TrialFolder) -> list[Certificate]:
    """Those that were kept. Raises HistoryError when there are none."""
    with reading(trial.certificates) as connection:
        require_columns(connection, trial.certificates, set(Certificate.__struct_fields__))
        rows = connection.execute(f"FROM {quoted(trial.certificates)}").df()
    names = Certificate.__struct_fields__
    return [
        msgspec.convert(dict(zip(names, row, strict=True)), Certificate)
        for row in zip(*(rows[name].tolist() for name in names), strict=True)
    ]


def count_causes(frame: pd.DataFrame) -> dict[str, CauseCount]:
    """How many certificates name each cause, those without one under `unknown`."""
    counts: dict[str, CauseCount] = {}
    for cause, part in frame.groupby("cause", sort=True):
        certain = int(part["certain"].sum())
        counts[str(cause)] = CauseCount(certain=certain, probable=len(part) - certain)
    return counts


def as_frame(found: Sequence[Certificate]) -> pd.DataFrame:
    """With a row each, and all columns even without any."""
    columns: dict[str, Any] = {}
    for field in msgspec.structs.fields(Certificate):
        kind = np.dtype("i8") if field.name.endswith(SIGNED) else TYPES[field.type]
        columns[field.name] = np.array([getattr(each, field.name) for each in found], dtype=kind)
    return pd.DataFrame(columns)


def _find(queues: Queues, vote: int, fate: str, told: Attempts) -> tuple[Command | None, Finding]:
    """The command that brought the vote in, and what became of it."""
    stores = _acknowledged(queues.own.get(vote, []), told)
    store = stores[-1] if stores else None
    if fate == "doubled":
        return store, cause_of_double(queues, vote)
    if fate == "altered":
        return store, cause_of_alteration(queues, vote)
    if store is None:
        return None, Finding(UNKNOWN, False, "No command in the journal carries it.")
    copies = [c for c in stores if c.who == store.who]  # one on each daemon, in `mirrored`
    deaths = [(copy, cause_of_loss(queues, copy)) for copy in copies]
    return max(deaths, key=lambda death: death[1].killer.begin_ns if death[1].killer else 0)


def _acknowledged(stores: Sequence[Command], told: Attempts) -> list[Command]:
    """Those that belong to an acknowledged attempt, if any does; what had no effect is left out."""
    tried = [c for c in stores if c.status not in (Status.EXISTS, Status.UNREACHABLE)]
    inside = [
        c
        for c in tried
        if any(sent <= c.begin_ns <= answered for sent, answered in told.acknowledged)
    ]
    answered = [c for c in inside or tried if c.status != Status.LOST]
    return answered or inside or tried


def _attempts(connection: Any, trial: TrialFolder, votes: Sequence[int]) -> dict[int, Attempts]:
    """From the ledger, by vote."""
    require_columns(connection, trial.ledger, set(LEDGER_DTYPE.names or ()) - {"padding"})
    wanted = pd.DataFrame({"vote": np.array(sorted(set(votes)), dtype=np.uint64)})
    connection.register("wanted_votes", wanted)
    ok = f"outcome = {int(Outcome.ACKNOWLEDGED)}"
    no = f"outcome = {int(Outcome.REFUSED)}"
    rows = connection.execute(
        f"""SELECT vote, min(planned_ns), min(sent_ns),
            coalesce(min(answered_ns) FILTER ({ok}), 0), count(*),
            coalesce(min(answered_ns) FILTER ({no}), 0),
            list((sent_ns, answered_ns)) FILTER ({ok})
        FROM {quoted(trial.ledger)}
        WHERE kind = {int(RequestKind.VOTE)} AND vote IN (SELECT vote FROM wanted_votes)
        GROUP BY vote"""
    ).fetchall()
    return {
        row[0]: Attempts(row[1], row[2], row[3], row[4], row[5], tuple(map(tuple, row[6] or ())))
        for row in rows
    }


def _grants(trial: TrialFolder) -> dict[Who, tuple[str, str]]:
    """By operation: how it was let in, and whose hold its own overlapped."""
    frame = holds(trial)
    names = ("pid", "thread", "operation", "kind", "overlapped")
    others = ("other_pid", "other_thread", "other_operation")
    return {
        (pid, thread, operation): (
            kind,
            f"{int(other[0])}/{int(other[1])}/{int(other[2])}" if overlapped else "",
        )
        for pid, thread, operation, kind, overlapped, *other in zip(
            *(frame[name].tolist() for name in (*names, *others)), strict=True
        )
    }


def _certificate(
    queues: Queues,
    facts: TrialFacts,
    vote: int,
    fate: str,
    told: Attempts,
    store: Command | None,
    finding: Finding,
    grants: dict[Who, tuple[str, str]],
    story: dict[Who, list[Command]],
) -> Certificate:
    draw = draw_of(queues, store) if store and store.key == KeyKind.SLOT else None
    killer = finding.killer
    kept: dict[str, Any] = {}
    if store:
        kept = {
            "pid": store.pid, "thread": store.thread, "operation": store.operation,
            "grant": grants.get(store.who, ("", ""))[0], "queue": store.queue,
            "daemon": store.daemon, "slot": store.slot,
            "stored_ns": store.end_ns or store.begin_ns, "stored_cas": store.cas,
            "drawn_ns": draw.end_ns if draw else 0, "drawn_cas": draw.cas if draw else 0,
        }  # fmt: skip
    if killer:
        grant, beside = grants.get(killer.who, ("", ""))
        kept |= {
            "killer": NAMES[killer.command, killer.key],
            "killer_by": finding.by or ROLES.get(killer.role, ""),
            "killer_pid": killer.pid, "killer_thread": killer.thread,
            "killer_operation": killer.operation, "killer_cas": killer.cas,
            "killer_begin_ns": killer.begin_ns, "killer_end_ns": killer.end_ns,
            "killer_vote": killer.vote if killer.vote != vote else 0,
            "killer_grant": grant, "killer_overlapped": beside,
        }  # fmt: skip
    elif finding.by:
        kept["killer_by"] = finding.by
    events = said_of(vote, told, store, finding, story)
    return Certificate(
        vote=vote, fate=fate, cause=finding.cause, certain=finding.certain, why=finding.why,
        planned_ns=told.planned_ns, sent_ns=told.sent_ns, answered_ns=told.answered_ns,
        attempts=told.attempts, **kept,
        fault="; ".join(_active(facts, told, killer, story)),
        story=msgspec.json.encode(events).decode(),
    )  # fmt: skip


def _active(
    facts: TrialFacts, told: Attempts, killer: Command | None, story: dict[Who, list[Command]]
) -> Iterable[str]:
    """The faults that hit between the sending of the vote, or of what killed it, and its death."""
    begin_ns = (
        min([told.sent_ns, *(c.begin_ns for c in story.get(killer.who, ()))])
        if killer
        else told.sent_ns
    )
    end_ns = killer.end_ns or killer.begin_ns if killer else told.answered_ns
    for fault in facts.faults:
        start_ns = facts.load_start_ns + round(fault.start_s * 1e9)
        over_ns = facts.load_start_ns + round(fault.end_s * 1e9)
        if fault.hit and start_ns <= end_ns and over_ns >= begin_ns:
            yield f"{fault.kind} of {fault.target}"
