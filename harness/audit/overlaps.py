"""Where the lock did not exclude: takeovers, cold grants and overlaps, with their stale writes.

A write of a slot or the pointer is *stale* when it came, in CAS order, after the first write of a
hold that was let in later: its writer believed to be alone and was not.
"""

from typing import Final

import numpy as np
import pandas as pd

from harness.audit.lives import IS_MUTATION, load_commands
from harness.audit.locks import holds
from harness.history.store import reading
from harness.protocol.commands import KeyKind
from harness.run_folder import TrialFolder

_STALE: Final = f"""
WITH writes AS (
    SELECT pid, thread, operation, queue, daemon, cas, begin_ns, start_ns
    FROM commands JOIN hold USING (pid, thread, operation)
    WHERE {IS_MUTATION} AND key IN ({int(KeyKind.SLOT)}, {int(KeyKind.POINTER)})
        AND begin_ns >= start_ns
), first_writes AS (
    SELECT pid, thread, operation, queue, daemon, start_ns, min(cas) AS first_cas
    FROM writes GROUP BY ALL
)
SELECT mine.pid, mine.thread, mine.operation,
    list_sort(list(DISTINCT mine.begin_ns)) AS stale_at_ns
FROM writes AS mine JOIN first_writes AS later
    ON later.queue = mine.queue AND later.daemon = mine.daemon
    AND later.start_ns > mine.start_ns AND mine.cas > later.first_cas
    AND mine.begin_ns > later.start_ns
GROUP BY ALL"""


def intrusions(trial: TrialFolder) -> pd.DataFrame:
    """The holds that were taken over, cold or overlapped, in order of entry. Raises HistoryError.

    The columns of `locks.holds`, hold_ms (NaN without a release), and stale_at_ns: lists of when
    its stale writes were sent.
    """
    found = holds(trial)
    found = found[(found["kind"] != "clean") | found["overlapped"]].reset_index(drop=True)
    found["hold_ms"] = (found["end_ns"] - found["start_ns"]) / 1e6
    if found.empty:
        return found.assign(stale_at_ns=[])
    with reading(trial.journal) as connection:
        load_commands(connection, trial)
        connection.register("hold", found[["pid", "thread", "operation", "start_ns"]])
        stale = connection.execute(_STALE).df()
    merged = found.merge(stale, on=["pid", "thread", "operation"], how="left")
    stale_at_ns = [list(each) if np.ndim(each) else [] for each in merged["stale_at_ns"]]
    return merged.assign(stale_at_ns=pd.Series(stale_at_ns, index=merged.index, dtype=object))
