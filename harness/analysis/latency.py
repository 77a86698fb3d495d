"""Exact percentiles: of the votes' latency, their lag, and the time until they are counted.

A percentile is the nearest rank (Hyndman and Fan, Sample Quantiles in Statistical Packages, The
American Statistician 50, 1996, definition 1): the smallest value that at least p percent of all
values do not exceed. It is always a value that was measured; with few values p99 is the maximum.

Every vote attempt that ended is in it, whatever its outcome. An attempt that timed out ended when
it was given up; to leave it out would hide just the stalls (coordinated omission). An attempt
whose end nobody saw (`answered_ns` 0) has no latency, and is in the accounts as unknown.
"""

import math
from collections.abc import Iterable
from typing import Final, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt

from harness.history.ledger import RequestKind
from harness.history.store import quoted, reading, require_columns
from harness.protocol.commands import COMMAND_CODES, Get, InsertBallots, KeyKind, Status
from harness.result import CountedAfter, Lag, Latency
from harness.run_folder import TrialFolder
from harness.vote import Outcome

Values: TypeAlias = npt.NDArray[np.float64]

NS_PER_MS: Final = 1e6
NS_PER_S: Final = 1e9


def nearest_rank(ascending: Values, percent: float) -> float | None:
    """The percentile of values in ascending order; None without any."""
    if not len(ascending):
        return None
    # Rounded, because 99.9 / 100 * 1000 is a little more than 999.
    rank = math.ceil(round(percent / 100 * len(ascending), 6))
    return float(ascending[max(rank, 1) - 1])


def latency(trials: Iterable[TrialFolder], kind: RequestKind, since: str) -> Latency:
    """Latency in ms over all trials together, from `planned_ns` or `sent_ns`.

    Raises HistoryError.
    """
    values = _from_ledgers(
        trials,
        f"(answered_ns - {since}) / {NS_PER_MS}",
        f"kind = {int(kind)} AND answered_ns > 0",
        {"kind", "answered_ns", since},
    )
    return Latency(
        p50=nearest_rank(values, 50),
        p90=nearest_rank(values, 90),
        p99=nearest_rank(values, 99),
        p99_9=nearest_rank(values, 99.9),
        max=nearest_rank(values, 100),
    )


def lag(trials: Iterable[TrialFolder]) -> Lag:
    """Why first attempts left late, in ms. Raises HistoryError.

    Until a user was free (`taken_ns`) it is the target's doing; from then, or from the planned
    time if that is later, until it was sent it is the generator's. Zeros without any.
    """
    trials = list(trials)
    needed = {"kind", "attempt", "planned_ns", "taken_ns", "sent_ns"}
    first = f"kind = {int(RequestKind.VOTE)} AND attempt = 1"
    waited = f"greatest(taken_ns - planned_ns, 0) / {NS_PER_MS}"
    woke = f"greatest(sent_ns - greatest(planned_ns, taken_ns), 0) / {NS_PER_MS}"
    return Lag(
        no_free_user_ms=_three(_from_ledgers(trials, waited, first, needed)),
        wake_lag_ms=_three(_from_ledgers(trials, woke, first, needed)),
    )


def counted_after(trials: Iterable[TrialFolder]) -> CountedAfter:
    """Seconds from a vote's first acknowledgement to its ballot's first commit.

    Raises HistoryError. The commit is the end of the `InsertBallots` that names the vote, or that
    ended the drain in which the vote's slot was read. A vote is committed before its voter hears
    of it when it goes straight to the database: that counts as 0, not as less.
    """
    parts = [_counted_after_s(trial) for trial in trials]
    values = np.sort(np.concatenate(parts)) if parts else np.empty(0)
    return CountedAfter(p50=nearest_rank(values, 50), p99=nearest_rank(values, 99))


def _three(values: Values) -> tuple[float, float, float]:
    return (
        nearest_rank(values, 50) or 0.0,
        nearest_rank(values, 99) or 0.0,
        nearest_rank(values, 100) or 0.0,
    )


def _from_ledgers(
    trials: Iterable[TrialFolder], value: str, condition: str, needed: set[str]
) -> Values:
    """The value of each row that meets the condition, ascending, over all trials' ledgers."""
    parts: list[Values] = []
    for trial in trials:
        with reading(trial.ledger) as connection:
            require_columns(connection, trial.ledger, needed)
            sql = f"SELECT {value} FROM {quoted(trial.ledger)} WHERE {condition}"
            parts.append(_column(connection, sql))
    return np.sort(np.concatenate(parts)) if parts else np.empty(0)


def _counted_after_s(trial: TrialFolder) -> Values:
    with reading(trial.ledger, trial.journal) as connection:
        ledger_needs = {"vote", "kind", "outcome", "answered_ns"}
        journal_needs = {"vote", "begin_ns", "end_ns", "pid", "thread", "operation", "command"}
        require_columns(connection, trial.ledger, ledger_needs)
        require_columns(connection, trial.journal, journal_needs | {"key", "status"})
        return _column(
            connection,
            f"""
            WITH acknowledged AS (
                SELECT vote, min(answered_ns) AS answered_ns FROM {quoted(trial.ledger)}
                WHERE kind = {int(RequestKind.VOTE)} AND answered_ns > 0
                    AND outcome = {int(Outcome.ACKNOWLEDGED)}
                GROUP BY vote
            ), committed AS (
                SELECT * FROM {quoted(trial.journal)}
                WHERE command = {COMMAND_CODES[InsertBallots]} AND status = {int(Status.OK)}
            ), carried AS (
                SELECT vote, end_ns FROM committed WHERE vote > 0
                UNION ALL
                SELECT slot.vote, committed.end_ns
                FROM {quoted(trial.journal)} AS slot JOIN committed
                USING (pid, thread, operation)
                WHERE slot.command = {COMMAND_CODES[Get]} AND slot.key = {int(KeyKind.SLOT)}
                    AND slot.status = {int(Status.OK)} AND slot.vote > 0 AND committed.vote = 0
            ), counted AS (SELECT vote, min(end_ns) AS end_ns FROM carried GROUP BY vote)
            SELECT greatest(end_ns - answered_ns, 0) / {NS_PER_S}
            FROM acknowledged JOIN counted USING (vote)""",
        )


def _column(connection: duckdb.DuckDBPyConnection, sql: str) -> Values:
    """The one column of a query as floats."""
    (column,) = connection.execute(sql).fetchnumpy().values()
    return np.asarray(column, dtype=np.float64)
