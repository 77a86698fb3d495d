"""One trial over time, on the load's clock: seconds after `facts.load_start_ns`.

Everything is binned in SQL over the Parquet files, so that a figure of ten million votes is as
small as one of ten thousand. No drawing here, and no judgement.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.audit.locks import holds
from harness.errors import HistoryError
from harness.history.ledger import LEDGER_DTYPE, RequestKind
from harness.history.store import JOURNAL_COLUMNS, connect, quoted, require_columns
from harness.protocol.commands import (
    COMMAND_CODES,
    Get,
    InsertBallots,
    KeyKind,
    Status,
)
from harness.run_folder import TrialFolder
from harness.vote import Outcome

Floats: TypeAlias = npt.NDArray[np.float64]

BIN_WIDTHS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
MAX_BINS: Final = 100  # about as many as a reader can tell apart across a page
MAX_DRAWN_BINS: Final = 100_000  # a history with wild clocks must not fill the memory


class LockEvents(NamedTuple):
    """How often the lock did not exclude."""

    cold: int
    takeovers: int
    overlaps: int


class Lock(NamedTuple):
    """The queue's lock per bin; waits are binned by when they ended, NaN where none did."""

    clean: Floats  # grants in the bin
    cold: Floats
    takeovers: Floats
    overlaps: Floats  # holds, by their start, during which another one certainly was inside too
    wait_p50_ms: Floats
    wait_p99_ms: Floats
    wait_max_ms: Floats
    whole: LockEvents  # of the trial: bins, before the load, and at a time that is not known
    before_load: LockEvents  # a flusher drains before second 0, and may find a cold queue


class Timeline(NamedTuple):
    """One trial per bin. Rates are votes/s; latencies are by planned time, NaN where none."""

    width_s: float
    duration_s: float  # of the load; the bins go on until the last vote was answered or counted
    at_s: Floats  # where each bin starts
    offered_per_s: Floats  # arrivals by their planned time, as far as they were sent
    sent_per_s: Floats  # attempts by when they were sent
    acknowledged_per_s: Floats
    latency_p50_ms: Floats  # answered vote attempts, from the planned time
    latency_p99_ms: Floats
    latency_max_ms: Floats
    no_free_user_max_ms: Floats
    wake_lag_max_ms: Floats
    backlog_votes: Floats | None  # acknowledged, ballot not yet committed, at the bin's end
    lock: Lock | None  # None without a journal, or without a lock in it


_LEDGER: Final = set(LEDGER_DTYPE.names or ()) - {"padding"}

_PROMISED: Final = f"""
    WITH inserted AS (
        SELECT pid, thread, operation, max(end_ns) AS commit_ns FROM journal
        WHERE command = {COMMAND_CODES[InsertBallots]} AND status = {Status.OK:d}
        GROUP BY ALL),
    carried AS (
        SELECT vote, min(commit_ns) AS commit_ns
        FROM journal JOIN inserted USING (pid, thread, operation)
        WHERE vote <> 0 AND (
            command = {COMMAND_CODES[InsertBallots]}
            OR command = {COMMAND_CODES[Get]} AND key = {KeyKind.SLOT:d})
        GROUP BY vote),
    acknowledged AS (
        SELECT vote, min(answered_ns) AS ack_ns FROM ledger
        WHERE kind = {RequestKind.VOTE:d} AND outcome = {Outcome.ACKNOWLEDGED:d} AND answered_ns > 0
        GROUP BY vote)
    SELECT ack_ns,
        CASE WHEN commit_ns IS NOT NULL THEN greatest(commit_ns, ack_ns) END AS counted_ns
    FROM acknowledged LEFT JOIN carried USING (vote)
"""
"""Per acknowledged vote when it was acknowledged and when its ballot was committed, or NULL.

A drain's ballots are the slots that it read; a vote that went straight in names itself.
"""


def read_timeline(trial: TrialFolder, *, with_journal: bool = True) -> Timeline:
    """The trial over time. Raises HistoryError for its ledger, PlanError for its facts.

    Without a journal, or when it is not to be read, backlog and lock are None. A journal that is
    to be read and cannot be is a HistoryError too.
    """
    facts = trial.read_facts()
    with _history(trial, with_journal) as (connection, has_journal):
        seconds = f"- {facts.load_start_ns}) / 1e9"
        end_s = max(facts.duration_s, _last_event_s(connection, seconds, has_journal))
        width_s = bin_width_s(end_s)
        bins = min(max(int(np.ceil(end_s / width_s)), 1), MAX_DRAWN_BINS)
        ask = _Bins(connection, width_s, bins, seconds)
        first = f"FROM ledger WHERE kind = {RequestKind.VOTE:d} AND attempt <= 1"
        votes = f"FROM ledger WHERE kind = {RequestKind.VOTE:d}"
        answered = f"{votes} AND answered_ns > 0"
        latency = "(answered_ns - planned_ns) / 1e6"
        p50, p99, most = ask.columns(
            "planned_ns",
            (f"median({latency})", f"quantile_cont({latency}, 0.99)", f"max({latency})"),
            answered,
        )
        no_free_user, wake_lag = ask.columns(
            "planned_ns",
            (
                "max(greatest(taken_ns - planned_ns, 0)) / 1e6",
                "max(sent_ns - greatest(planned_ns, taken_ns)) / 1e6",
            ),
            first,
        )
        return Timeline(
            width_s=width_s,
            duration_s=facts.duration_s,
            at_s=np.arange(bins, dtype=np.float64) * width_s,
            offered_per_s=ask.counts("planned_ns", first) / width_s,
            sent_per_s=ask.counts("sent_ns", votes) / width_s,
            acknowledged_per_s=ask.counts(
                "answered_ns", f"{answered} AND outcome = {Outcome.ACKNOWLEDGED:d}"
            )
            / width_s,
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            latency_max_ms=most,
            no_free_user_max_ms=no_free_user,
            wake_lag_max_ms=wake_lag,
            backlog_votes=_backlog(ask) if has_journal else None,
            lock=_lock(ask, trial, facts.load_start_ns) if has_journal else None,
        )


def latency_percentiles_ms(trials: Sequence[TrialFolder], shares: Sequence[float]) -> Floats:
    """Exact latency from planned time at each share (0…1), all trials pooled; empty without votes.

    Raises HistoryError for an unreadable ledger.
    """
    if not trials:
        return np.empty(0)
    files = ", ".join(quoted(trial.ledger) for trial in trials)
    answered = f"WHERE kind = {RequestKind.VOTE:d} AND answered_ns > 0"
    try:
        with connect() as connection:
            for trial in trials:
                require_columns(connection, trial.ledger, _LEDGER)
            latency = "(answered_ns - planned_ns) / 1e6"
            source = f"FROM read_parquet([{files}]) {answered}"
            return _percentiles(connection, latency, source, shares)
    except duckdb.Error as error:
        problem = str(error).splitlines()[0]
        raise HistoryError(f"cannot read {trials[0].path}: {problem}") from error


def counted_after_percentiles_s(trial: TrialFolder, shares: Sequence[float]) -> Floats:
    """Seconds from acknowledgement to commit at each share of *all* acknowledged votes.

    A vote that was never counted stands as infinity, so that a loss shows as a line that never
    gets there. Empty without a journal or votes.
    """
    with _history(trial, with_journal=True) as (connection, has_journal):
        if not has_journal or not _has_commits(connection):
            return np.empty(0)
        after = "coalesce((counted_ns - ack_ns) / 1e9, 'infinity'::DOUBLE)"
        return _percentiles(connection, after, "FROM promised", shares)


def bin_width_s(end_s: float) -> float:
    """The narrowest width in `BIN_WIDTHS_S` that needs no more than `MAX_BINS`."""
    return next((w for w in BIN_WIDTHS_S if end_s / w <= MAX_BINS), BIN_WIDTHS_S[-1])


class _Bins(NamedTuple):
    """Asks for figures per bin of a time column."""

    connection: duckdb.DuckDBPyConnection
    width_s: float
    bins: int
    seconds: str  # what turns a column's nanoseconds into seconds of the load's clock

    def counts(self, time: str, source: str) -> Floats:
        (counts,) = self.columns(time, ("count(*)",), source)
        return np.nan_to_num(counts)

    def columns(self, time: str, figures: Sequence[str], source: str) -> list[Floats]:
        """One array for each SQL aggregate; NaN in bins without rows."""
        rows = self.connection.execute(
            f"SELECT floor(({time} {self.seconds} / {self.width_s})::BIGINT AS bin, "
            f"{', '.join(figures)} {source} GROUP BY bin HAVING bin BETWEEN 0 AND {self.bins - 1}"
        ).fetchall()
        columns = np.full((len(figures), self.bins), np.nan)
        for bin_number, *values in rows:
            columns[:, bin_number] = [np.nan if value is None else value for value in values]
        return list(columns)


@contextmanager
def _history(
    trial: TrialFolder, with_journal: bool
) -> Iterator[tuple[duckdb.DuckDBPyConnection, bool]]:
    """A connection with `ledger`, `journal` and `promised`, and whether there is a journal.

    Raises HistoryError for the ledger, and for a journal that is there but unreadable.
    """
    try:
        with connect() as connection:
            require_columns(connection, trial.ledger, _LEDGER)
            connection.execute(f"CREATE TEMP VIEW ledger AS SELECT * FROM {quoted(trial.ledger)}")
            has_journal = with_journal and trial.journal.is_file()
            if has_journal:
                require_columns(connection, trial.journal, JOURNAL_COLUMNS)
                journal = quoted(trial.journal)
                connection.execute(f"CREATE TEMP VIEW journal AS SELECT * FROM {journal}")
                connection.execute(f"CREATE TEMP TABLE promised AS {_PROMISED}")
            yield connection, has_journal
    except duckdb.Error as error:
        problem = str(error).splitlines()[0]
        raise HistoryError(f"cannot read {trial.path}: {problem}") from error


def _last_event_s(connection: duckdb.DuckDBPyConnection, seconds: str, has_journal: bool) -> float:
    commits = "UNION ALL SELECT max(counted_ns) FROM promised" if has_journal else ""
    last = _one(
        connection,
        f"SELECT max((t {seconds}) FROM (SELECT max(greatest(sent_ns, answered_ns)) AS t "
        f"FROM ledger {commits})",
    )
    return float(last or 0.0)


def _has_commits(connection: duckdb.DuckDBPyConnection) -> bool:
    inserts = f"command = {COMMAND_CODES[InsertBallots]}"
    return bool(_one(connection, f"SELECT count(*) FROM journal WHERE {inserts}"))


def _backlog(ask: _Bins) -> Floats | None:
    if not _has_commits(ask.connection):
        return None
    promised = ask.counts("ack_ns", "FROM promised")
    counted = ask.counts("counted_ns", "FROM promised WHERE counted_ns IS NOT NULL")
    return np.asarray(np.cumsum(promised - counted))


def _lock(ask: _Bins, trial: TrialFolder, load_start_ns: int) -> Lock | None:
    found = holds(trial)
    if found.empty:
        return None
    ask.connection.register("hold", found)
    kinds = [f"count(*) FILTER (kind = '{kind}')" for kind in ("clean", "cold", "takeover")]
    waits = ["median(waited_ms)", "quantile_cont(waited_ms, 0.99)", "max(waited_ms)"]
    figures = ask.columns("start_ns", (*kinds, "count(*) FILTER (overlapped)", *waits), "FROM hold")
    clean, cold, takeovers, overlaps = (np.nan_to_num(column) for column in figures[:4])
    wait_p50_ms, wait_p99_ms, wait_max_ms = figures[4:]
    return Lock(
        clean=clean,
        cold=cold,
        takeovers=takeovers,
        overlaps=overlaps,
        wait_p50_ms=wait_p50_ms,
        wait_p99_ms=wait_p99_ms,
        wait_max_ms=wait_max_ms,
        whole=_events(found),
        before_load=_events(found[found["start_ns"] < load_start_ns]),
    )


def _events(found: pd.DataFrame) -> LockEvents:
    return LockEvents(
        cold=int((found["kind"] == "cold").sum()),
        takeovers=int((found["kind"] == "takeover").sum()),
        overlaps=int(found["overlapped"].sum()),
    )


def _percentiles(
    connection: duckdb.DuckDBPyConnection, value: str, source: str, shares: Sequence[float]
) -> Floats:
    wanted = ", ".join(f"{share!r}" for share in shares)
    found = _one(connection, f"SELECT quantile_disc({value}, [{wanted}]) {source}")
    return np.array(found or [], dtype=np.float64)


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    ((value,),) = connection.execute(sql).fetchall()
    return value
