"""The lives of each memcached daemon, read off the CAS numbers of a journal's commands.

A CAS numbers all mutations of one life in the order in which they happened; it starts again when
memcached does, not when it is wiped. Where a number goes back although its command began after the
other's had ended, a new life began.
"""

from typing import Final, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.errors import HistoryError
from harness.history.store import JOURNAL_COLUMNS, quoted, require_columns
from harness.protocol.commands import COMMAND_CODES, Add, Command, Incr, Set, Status
from harness.run_folder import TrialFolder

MAX_LIVES: Final = 30  # memcached restarts of one trial; more means the CAS numbers are nonsense
NEVER_BEGAN: Final = -(2**62)
NEVER_ENDED: Final = 2**62

Times: TypeAlias = npt.NDArray[np.int64]


def any_of(*kinds: type[Command]) -> str:
    """The SQL condition for commands of these kinds."""
    return f"command IN ({', '.join(str(COMMAND_CODES[kind]) for kind in kinds)})"


IS_MUTATION: Final = (
    f"{any_of(Set, Incr, Add)} AND status = {int(Status.OK)} AND cas > 0 AND end_ns > 0"
)


def load_commands(connection: duckdb.DuckDBPyConnection, trial: TrialFolder) -> None:
    """The table `commands`: the trial's journal, with a daemon in any case. Raises HistoryError."""
    require_columns(connection, trial.journal, JOURNAL_COLUMNS)
    connection.execute(f"CREATE TEMP TABLE commands AS SELECT * FROM {quoted(trial.journal)}")
    connection.execute("ALTER TABLE commands ADD COLUMN IF NOT EXISTS daemon UTINYINT DEFAULT 0")


def lives_of_all(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """The lives of each daemon that was written to."""
    mutations = connection.execute(
        f"SELECT daemon, begin_ns, end_ns, cas FROM commands WHERE {IS_MUTATION}"
    ).df()
    lives = [
        _lives(*(group[name].to_numpy() for name in ("begin_ns", "end_ns", "cas"))).assign(
            daemon=daemon
        )
        for daemon, group in mutations.groupby("daemon")
    ]
    return pd.concat(lives) if lives else _lives(*[np.empty(0, np.int64)] * 3).assign(daemon=0)


def _lives(begin_ns: Times, end_ns: Times, cas: Times) -> pd.DataFrame:
    """When each memcached life began and ended, from all numbered mutations of one daemon.

    A mutation belongs to the life in which it both began and ended; one that began before a life
    and ended in it could be of either, and is in none.
    """
    starts = [NEVER_BEGAN]
    order = np.argsort(end_ns, kind="stable")
    ends = end_ns[order]
    while len(starts) <= MAX_LIVES:
        of_life = np.where(begin_ns >= starts[-1], cas, 0)[order]
        seen = np.concatenate(([0], np.maximum.accumulate(of_life)))
        before = seen[np.searchsorted(ends, begin_ns, side="left")]
        backwards = begin_ns[(begin_ns >= starts[-1]) & (cas < before)]
        if not len(backwards):
            return pd.DataFrame(
                {
                    "life": range(len(starts)),
                    "life_start_ns": starts,
                    "life_end_ns": [*starts[1:], NEVER_ENDED],
                }
            )
        starts.append(int(backwards.min()))
    raise HistoryError(f"the journal's CAS numbers go back more than {MAX_LIVES} times")
