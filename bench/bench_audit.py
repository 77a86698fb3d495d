"""The audit: 10 million acknowledged votes settled, against a bare join of the same ids.

Both run in fresh processes on the same files; seconds and the peak of memory are theirs alone.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from harness.history.store import connect, quoted
from harness.vote import SEQUENCE_BITS

VOTES: Final = 10_000_000
GENERATORS: Final = 2
ROUNDS: Final = 5  # of some 6 s
TARGET_S: Final = 5.0
TARGET_GIB: Final = 2.0

SETTLE: Final = """
from harness.audit.accounts import settle
from harness.run_folder import TrialFolder
trial = TrialFolder(Path(sys.argv[1]))
facts = trial.read_facts()
begin = time.perf_counter()
votes = settle(trial, facts).counted
"""
JOIN: Final = """
from harness.history.store import connect, quoted
folder = Path(sys.argv[1])
begin = time.perf_counter()
sql = "SELECT count(*) FROM {} JOIN {} USING (vote)"
files = (quoted(folder / "ledger.parquet"), quoted(folder / "ballots.parquet"))
votes = connect().execute(sql.format(*files)).fetchone()[0]
"""
FRAME: Final = """
import json, sys, time
from pathlib import Path
{work}
seconds = time.perf_counter() - begin
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory too
peak_gib = int(status.split("VmHWM:")[1].split()[0]) / 2**20
print(json.dumps({{"votes": votes, "seconds": seconds, "peak_gib": peak_gib}}))
"""


class Measured(msgspec.Struct, frozen=True):
    """What one process printed."""

    votes: int
    seconds: float
    peak_gib: float


def settled() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="pollstorm-bench-") as name:
        folder = Path(name)
        write_histories(folder)
        rounds = in_turn(
            lambda: measured(SETTLE, folder, VOTES), lambda: measured(JOIN, folder, VOTES), ROUNDS
        )
    other = "a bare join of the ids in DuckDB"
    return [
        figure(
            "audit.time",
            "s",
            other,
            [(ours.seconds, theirs.seconds) for ours, theirs in rounds],
            Target("value", "<", TARGET_S),
        ),
        figure(
            "audit.memory",
            "GiB",
            other,
            [(ours.peak_gib, theirs.peak_gib) for ours, theirs in rounds],
            Target("value", "<", TARGET_GIB),
        ),
    ]


def measured(work: str, folder: Path, votes: int) -> Measured:
    """One round, in a process of its own, which must find so many votes."""
    command = [sys.executable, "-c", FRAME.format(work=work), str(folder)]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    found = msgspec.json.decode(output, type=Measured)
    assert found.votes == votes, f"{found.votes:,} votes found, {votes:,} written"
    return found


def write_histories(folder: Path) -> None:
    """A ledger in the order of sending, all acknowledged, and the ballots in no order."""
    vote = f"((1 + i % {GENERATORS})::UBIGINT << {SEQUENCE_BITS}) + i // {GENERATORS}"
    choice = "(1 + i % 3)::USMALLINT"
    ledger = f"""
        SELECT {vote} AS vote, (1 + i * 1000)::BIGINT AS planned_ns, planned_ns AS taken_ns,
            planned_ns AS sent_ns, planned_ns + 1000000 AS answered_ns, 1::UTINYINT AS outcome,
            1::UTINYINT AS kind, {choice} AS choice, 201::USMALLINT AS status,
            1::USMALLINT AS attempt, (1 + i % {GENERATORS})::USMALLINT AS generator,
            0::UTINYINT AS error
        FROM range({VOTES}) AS votes(i)"""
    ballots = f"""
        SELECT {vote} AS vote, 'town-hall' AS poll, {choice} AS choice, 'v' || i AS voter,
            1::UINTEGER AS deliveries
        FROM range({VOTES}) AS votes(i) ORDER BY hash(i)"""
    with connect() as connection:
        for name, sql in (("ledger", ledger), ("ballots", ballots)):
            connection.execute(
                f"COPY ({sql}) TO {quoted(folder / f'{name}.parquet')} (FORMAT parquet)"
            )
    facts = {
        "mode": "bench",
        "promises": True,
        "planned": {str(g): VOTES // GENERATORS for g in range(1, GENERATORS + 1)},
        "load_start_ns": 1,
        "duration_s": 10.0,
        "drained": True,
        "partial": False,
    }
    (folder / "trial.json").write_bytes(msgspec.json.encode(facts))


MEASUREMENTS: Final = (Measurement(("audit.time", "audit.memory"), settled),)
