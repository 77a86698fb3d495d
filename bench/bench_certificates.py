"""Certificates: a million votes of `classic` with 10,000 losses, against reading the same files.

The journal is one of a plain queue: four commands a vote, a drain for each thousand, of which the
last ten votes of each drain came into their slots too late.
"""

import tempfile
from pathlib import Path
from typing import Final

import msgspec

from bench.bench_audit import measured
from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from harness.history.journal import Role
from harness.history.store import connect, quoted
from harness.protocol.commands import COMMAND_CODES, Get, Incr, InsertBallots, KeyKind, Set
from harness.vote import SEQUENCE_BITS

VOTES: Final = 1_000_000
PER_DRAIN: Final = 1_000
LATE: Final = 10  # of each thousand
LOST: Final = VOTES // PER_DRAIN * LATE
ROUNDS: Final = 3
TARGET_S: Final = 60.0

CERTIFY: Final = """
from harness.audit.certificates import certify
from harness.run_folder import TrialFolder
trial = TrialFolder(Path(sys.argv[1]))
begin = time.perf_counter()
frame = certify(trial, trial.read_facts())
votes = int(((frame["cause"] == "stored-late") & frame["certain"]).sum())
"""
READ: Final = """
from harness.history.store import connect, quoted
folder = Path(sys.argv[1])
begin = time.perf_counter()
connection = connect()
for name in ("ledger", "journal", "ballots"):
    connection.execute(f"CREATE TABLE {name} AS FROM {quoted(folder / (name + '.parquet'))}")
sql = "SELECT count(*) FROM ledger ANTI JOIN ballots USING (vote)"
votes = connection.execute(sql).fetchone()[0]
"""


def certified() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="pollstorm-bench-") as name:
        folder = Path(name)
        write_histories(folder)
        rounds = in_turn(
            lambda: measured(CERTIFY, folder, LOST), lambda: measured(READ, folder, LOST), ROUNDS
        )
    other = "reading the files and finding the lost in DuckDB"
    return [
        figure(
            "certificates.time",
            "s",
            other,
            [(ours.seconds, theirs.seconds) for ours, theirs in rounds],
            Target("value", "<", TARGET_S),
        ),
        figure(
            "certificates.memory",
            "GiB",
            other,
            [(ours.peak_gib, theirs.peak_gib) for ours, theirs in rounds],
        ),
    ]


def write_histories(folder: Path) -> None:
    """Ledger, journal and ballots in SQL.

    Each round of a thousand votes takes 10 ms: votes at 5 us each, then a drain. Its last ten
    votes draw their slots before the drain and fill them after it.
    """
    vote = f"(1::UBIGINT << {SEQUENCE_BITS}) + i"
    at = f"1000000 + (i // {PER_DRAIN}) * 10000000 + (i % {PER_DRAIN}) * 5000"
    late = f"i % {PER_DRAIN} >= {PER_DRAIN - LATE}"
    ledger = f"""SELECT {vote} AS vote, {at} - 500 AS planned_ns, planned_ns AS taken_ns,
            planned_ns AS sent_ns, planned_ns + 9900000 AS answered_ns, 1::UTINYINT AS outcome,
            1::UTINYINT AS kind, 1::USMALLINT AS choice, 201::USMALLINT AS status,
            1::USMALLINT AS attempt, 1::USMALLINT AS generator, 0::UTINYINT AS error
        FROM range({VOTES}) AS votes(i)"""
    ballots = f"""SELECT {vote} AS vote, 'town-hall' AS poll, 1::USMALLINT AS choice,
            'v' || i AS voter, 1::UINTEGER AS deliveries
        FROM range({VOTES}) AS votes(i) WHERE NOT ({late})"""
    drains = VOTES // PER_DRAIN
    drain_at = "1000000 + i * 10000000 + 6000000"
    slot = f"(1 + i % {PER_DRAIN})"
    parts = [
        _site(at, "0", Incr, KeyKind.LOCK, "1", "0", "0"),
        _site(at, "1000", Incr, KeyKind.POINTER, slot, "0", "0"),
        _site(at, f"2000 + CASE WHEN {late} THEN 9000000 - (i % {PER_DRAIN}) * 5000 ELSE 0 END "
              f"+ CASE WHEN {late} THEN (i % {PER_DRAIN}) * 500 ELSE 0 END",
              Set, KeyKind.SLOT, "0", slot, vote),
        _site(at, f"3000 + CASE WHEN {late} THEN 9100000 ELSE 0 END",
              Set, KeyKind.LOCK, "0", "0", "0"),
        _drain(drain_at, "0", drains, Incr, KeyKind.LOCK, "1"),
        _drain(drain_at, "1000", drains, Get, KeyKind.POINTER, str(PER_DRAIN)),
        f"""SELECT {at} + 6000000 - (i % {PER_DRAIN}) * 4000 + 2000 AS begin_ns,
            CASE WHEN {late} THEN 0 ELSE {vote} END AS vote, 0 AS number, {slot} AS slot,
            900 AS pid, 1 + i // {PER_DRAIN} AS operation, {int(Role.FLUSHER)} AS role,
            {COMMAND_CODES[Get]} AS command, {int(KeyKind.SLOT)} AS key,
            CASE WHEN {late} THEN 2 ELSE 1 END AS status FROM range({VOTES}) AS votes(i)""",
        _drain(drain_at, "2000000", drains, Set, KeyKind.POINTER, "0"),
        _drain(drain_at, "2001000", drains, Set, KeyKind.LOCK, "0"),
        _drain(drain_at, "2002000", drains, InsertBallots, KeyKind.NONE, str(PER_DRAIN - LATE)),
    ]  # fmt: skip
    writes = (COMMAND_CODES[Set], COMMAND_CODES[Incr])
    saw = f"command = {COMMAND_CODES[Get]} AND status = 1"
    journal = f"""
        WITH rows AS ({" UNION ALL ".join(parts)}),
        numbered AS (SELECT *, row_number() OVER (ORDER BY begin_ns) AS turn FROM rows),
        written AS (SELECT *, CASE WHEN command IN {writes} THEN turn ELSE 0 END AS own
            FROM numbered),
        seen AS (SELECT *, max(own) OVER (PARTITION BY key, slot ORDER BY turn) AS last
            FROM written)
        SELECT begin_ns, begin_ns + 400 AS end_ns, vote::UBIGINT AS vote, number::UBIGINT AS number,
            (CASE WHEN own > 0 THEN own WHEN {saw} THEN last ELSE 0 END)::UBIGINT AS cas,
            slot::UBIGINT AS slot, pid::UINTEGER AS pid, operation::UINTEGER AS operation,
            0::USMALLINT AS thread, 0::UTINYINT AS queue, 0::UTINYINT AS daemon,
            role::UTINYINT AS role, command::UTINYINT AS command, key::UTINYINT AS key,
            status::UTINYINT AS status
        FROM seen"""
    with connect() as connection:
        for name, sql in (("ledger", ledger), ("ballots", ballots), ("journal", journal)):
            connection.execute(
                f"COPY ({sql}) TO {quoted(folder / f'{name}.parquet')} (FORMAT parquet)"
            )
    facts = {
        "mode": "classic", "promises": False, "planned": {"1": VOTES}, "load_start_ns": 1,
        "duration_s": 10.0, "drained": True, "partial": False,
    }  # fmt: skip
    (folder / "trial.json").write_bytes(msgspec.json.encode(facts))


def _site(at: str, after: str, kind: type, key: KeyKind, number: str, slot: str, vote: str) -> str:
    """A command of each vote's own operation."""
    return f"""SELECT {at} + {after} AS begin_ns, {vote} AS vote, {number} AS number,
        {slot} AS slot, 100 AS pid, 1 + i AS operation, {int(Role.SITE)} AS role,
        {COMMAND_CODES[kind]} AS command, {int(key)} AS key, 1 AS status
        FROM range({VOTES}) AS votes(i)"""


def _drain(at: str, after: str, drains: int, kind: type, key: KeyKind, number: str) -> str:
    """A command of each drain."""
    return f"""SELECT {at} + {after} AS begin_ns, 0 AS vote, {number} AS number, 0 AS slot,
        900 AS pid, 1 + i AS operation, {int(Role.FLUSHER)} AS role,
        {COMMAND_CODES[kind]} AS command, {int(key)} AS key, 1 AS status
        FROM range({drains}) AS drains(i)"""


MEASUREMENTS: Final = (Measurement(("certificates.time", "certificates.memory"), certified),)
