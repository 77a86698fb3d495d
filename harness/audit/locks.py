"""The lock's story, read off the journal: who was let in, how, for how long, and who beside whom.

A grant is *clean* when an `incr` of the lock gave 1 or an `add` of it was stored, *cold* when the
lock to be incremented was missing, a *takeover* when patience ended and the operation went on to
memcached as if it held the lock. If it went on to nothing, or straight to the database, it *gave
up*. A hold ends where the lock is set or deleted. An operation is one run of one machine; threads
of one process are as much apart as processes are. A queue without a lock has no story here.

Inside is what can be proven by CAS, which numbers all mutations of one memcached life in the order
in which they happened: a hold certainly lasts from its first to its last own mutation (a clean
grant's and the release that sets the lock among them). A takeover has no mutation of its own at its
grant, a deletion and a lost reply have no number: what is certain shrinks, and overlaps are never
overstated. CAS starts again when memcached does, not when it is wiped, and each daemon has its own.
Where a number goes back although its command began after the other's had ended, a new life began;
holds of two lives are not compared.
"""

from typing import Final

import numpy as np
import pandas as pd

from harness.analysis.latency import NS_PER_MS, Values, nearest_rank
from harness.audit.lives import IS_MUTATION, any_of, lives_of_all, load_commands
from harness.history.store import reading
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    Delete,
    Get,
    Incr,
    KeyKind,
    Patience,
    Set,
    Status,
)
from harness.result import Lock, WaitMs
from harness.run_folder import TrialFolder

_IS_MEMCACHED: Final = any_of(Get, Set, Incr, Add, Delete)
_IS_TRY: Final = f"{any_of(Incr, Add)} AND key = {int(KeyKind.LOCK)}"
_IS_MISSING: Final = (
    f"{any_of(Incr)} AND key = {int(KeyKind.LOCK)} AND status = {int(Status.MISSING)}"
)
_IS_WON: Final = (
    f"{_IS_TRY} AND status = {int(Status.OK)} AND (number = 1 OR command = {COMMAND_CODES[Add]})"
)
_IS_RELEASE: Final = f"{any_of(Set, Delete)} AND key = {int(KeyKind.LOCK)}"
_IS_POINTER_SET: Final = f"command = {COMMAND_CODES[Set]} AND key = {int(KeyKind.POINTER)}"
_IS_OVER: Final = f"command = {COMMAND_CODES[Patience]} AND status = {int(Status.OVER)}"

_OPERATIONS: Final = f"""
CREATE TEMP TABLE operations AS
SELECT *,
    CASE WHEN clean_ns IS NOT NULL THEN 'clean' WHEN missing_ns IS NOT NULL THEN 'cold'
        WHEN over_ns IS NULL THEN 'none' WHEN went_on_ns > over_ns THEN 'takeover'
        ELSE 'gave up' END AS kind,
    CASE kind WHEN 'clean' THEN clean_end_ns WHEN 'cold' THEN reset_end_ns
        WHEN 'takeover' THEN over_end_ns END AS granted_ns,
    CASE kind WHEN 'clean' THEN clean_ns WHEN 'cold' THEN missing_ns
        WHEN 'takeover' THEN over_ns END AS entered_ns
FROM (
    SELECT pid, thread, operation, any_value(queue) AS queue, any_value(role) AS role,
        count_if({_IS_TRY})::UINTEGER AS tries,
        min(begin_ns) FILTER ({_IS_TRY}) AS asked_ns,
        min(begin_ns) FILTER ({_IS_WON}) AS clean_ns,
        min(end_ns) FILTER ({_IS_WON}) AS clean_end_ns,
        min(begin_ns) FILTER ({_IS_MISSING}) AS missing_ns,
        min(end_ns) FILTER ({_IS_POINTER_SET} AND end_ns > 0) AS reset_end_ns,
        min(begin_ns) FILTER ({_IS_OVER}) AS over_ns,
        min(end_ns) FILTER ({_IS_OVER}) AS over_end_ns,
        max(begin_ns) FILTER ({_IS_MEMCACHED} AND key <> {int(KeyKind.VOTER)}) AS went_on_ns
    FROM commands GROUP BY pid, thread, operation
)"""
"""Each operation, how it was let in, and when: `entered_ns` opens its first command inside."""

_HOLDS: Final = f"""
WITH inside AS (
    SELECT commands.*, granted_ns, entered_ns
    FROM commands JOIN operations USING (pid, thread, operation)
    WHERE begin_ns >= entered_ns
), certain AS (
    SELECT pid, thread, operation, queue, inside.daemon, life,
        min(cas) AS first_cas, max(cas) AS last_cas
    FROM inside JOIN lives
    ON inside.daemon = lives.daemon AND begin_ns >= life_start_ns AND end_ns < life_end_ns
    WHERE {IS_MUTATION} GROUP BY pid, thread, operation, queue, inside.daemon, life
), compared AS (
    SELECT *,
        CASE WHEN first_cas < max(last_cas) OVER before THEN arg_max(who, last_cas) OVER before
            WHEN lead(first_cas) OVER earlier < last_cas THEN lead(who) OVER earlier END AS other
    FROM (SELECT *, struct_pack(pid, thread, operation) AS who FROM certain)
    WINDOW earlier AS (PARTITION BY queue, daemon, life ORDER BY first_cas),
        before AS (PARTITION BY queue, daemon, life ORDER BY first_cas
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), beside AS (
    SELECT pid, thread, operation, any_value(other) AS other
    FROM compared GROUP BY pid, thread, operation
), released AS (
    SELECT pid, thread, operation, max(nullif(end_ns, 0)) AS end_ns
    FROM inside WHERE {_IS_RELEASE} AND begin_ns >= granted_ns GROUP BY pid, thread, operation
)
SELECT queue, pid, thread, operation, role, kind, tries,
    (granted_ns - asked_ns) / 1e6 AS waited_ms,
    granted_ns AS start_ns, released.end_ns AS end_ns, other IS NOT NULL AS overlapped,
    other.pid AS other_pid, other.thread AS other_thread, other.operation AS other_operation
FROM operations
LEFT JOIN beside USING (pid, thread, operation)
LEFT JOIN released USING (pid, thread, operation)
WHERE kind IN ('clean', 'cold', 'takeover')
ORDER BY entered_ns, pid, thread, operation"""


def holds(trial: TrialFolder) -> pd.DataFrame:
    """A row per grant, in the order of entry. Raises HistoryError.

    Columns: queue, pid, thread, operation, role (history.journal.Role), kind (clean, cold or
    takeover), tries (for the lock), waited_ms (from its first try to the grant),
    start_ns (the grant), end_ns (the release; NaN when none was seen to succeed), overlapped, and
    other_pid, other_thread, other_operation: whose hold it overlapped first (NaN when nobody's).
    """
    frame, _ = _read(trial)
    return frame


def lock_figures(*trials: TrialFolder) -> Lock:
    """The figures of the locks of one trial, or of several together; all queues together.

    Percentiles are nearest ranks over all grants. Raises HistoryError.
    """
    parts = [_read(trial) for trial in trials]
    frames = [frame for frame, _ in parts if len(frame)]
    frame = pd.concat(frames) if frames else parts[0][0]
    kinds = frame["kind"].value_counts()
    return Lock(
        grants=len(frame),
        clean_grants=int(kinds.get("clean", 0)),
        cold_grants=int(kinds.get("cold", 0)),
        takeovers=int(kinds.get("takeover", 0)),
        gave_up=sum(gave_up for _, gave_up in parts),
        overlaps=int(frame["overlapped"].sum()),
        attempts_per_grant=float(frame["tries"].mean()) if len(frame) else None,
        wait_ms=_percentiles(frame["waited_ms"]),
        hold_ms=_percentiles((frame["end_ns"] - frame["start_ns"]) / NS_PER_MS),
    )


def no_lock() -> Lock:
    """The figures where no lock is known of."""
    nothing = WaitMs(p50=None, p99=None, max=None)
    return Lock(
        grants=0,
        clean_grants=0,
        cold_grants=0,
        takeovers=0,
        gave_up=0,
        overlaps=0,
        attempts_per_grant=None,
        wait_ms=nothing,
        hold_ms=nothing,
    )


def _read(trial: TrialFolder) -> tuple[pd.DataFrame, int]:
    """The trial's holds, and how many operations gave up."""
    with reading(trial.journal) as connection:
        load_commands(connection, trial)
        connection.register("lives", lives_of_all(connection))
        connection.execute(_OPERATIONS)
        frame = connection.execute(_HOLDS).df()
        (gave_up,) = connection.execute(
            "SELECT count(*) FROM operations WHERE kind = 'gave up'"
        ).fetchone() or (0,)
    return frame, gave_up


def _percentiles(values: "pd.Series[float]") -> WaitMs:
    ascending: Values = np.sort(values.dropna().to_numpy(dtype=np.float64))
    return WaitMs(
        p50=nearest_rank(ascending, 50),
        p99=nearest_rank(ascending, 99),
        max=nearest_rank(ascending, 100),
    )
