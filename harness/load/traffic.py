"""Traffic that really came, from an access log or a CSV file, as a rate curve.

Read by DuckDB, packed or not, a million lines in a few seconds. Times are rounded down to
whole seconds, as logs have them; nothing but when something came is taken over.
"""

from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt

from harness.errors import PlanError
from harness.history.store import quoted
from harness.plan import Plan

Seconds: TypeAlias = npt.NDArray[np.int64]
Votes: TypeAlias = npt.NDArray[np.float64]

UNREADABLE: Final = 0.1
"""Of the lines. A log that was cut off or has a few lines of its own kind is still a log; one in
which a tenth cannot be read is of another format."""
MOST_BINS: Final = 7200  # two hours second by second; what is longer gets longer bins
CSV_SUFFIXES: Final = (".csv", ".csv.gz")

LOG_LINES: Final = """
SELECT
    try_strptime(regexp_extract(line, '\\[([^\\]]+)\\]', 1), '%d/%b/%Y:%H:%M:%S %z') AS came_at,
    1.0 AS votes,
    regexp_extract(line, '"([^"]*)"', 1) AS request
FROM read_csv({file}, columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false,
    delim = '\\x01', quote = '', escape = '', strict_mode = false, ignore_errors = true)"""
CSV_ROWS: Final = """
SELECT coalesce(try_cast(time AS TIMESTAMPTZ), to_timestamp(try_cast(time AS DOUBLE))) AS came_at,
    try_cast(count AS DOUBLE) AS votes, '' AS request
FROM read_csv({file}, columns = {{'time': 'VARCHAR', 'count': 'VARCHAR'}}, auto_detect = false,
    delim = ',', header = {header})"""


class Traffic(NamedTuple):
    """How many came in each bin, from the first to the last."""

    bin_s: float
    votes: tuple[float, ...]

    @property
    def duration_s(self) -> float:
        return self.bin_s * len(self.votes)

    @property
    def peak_per_s(self) -> float:
        """In the busiest bin."""
        return max(self.votes) / self.bin_s

    def scaled(self, factor: float) -> "Traffic":
        """The same curve with so many times the votes."""
        return Traffic(self.bin_s, tuple(votes * factor for votes in self.votes))


def read_traffic(path: Path, match: str | None = None) -> Traffic:
    """The traffic in an access log (common or combined format) or a CSV of time and count.

    `match`: count only requests in which this regular expression is found, as in `POST /vote`.
    A CSV file is known by its name; its times are ISO 8601 or Unix seconds. Either may be gzipped.
    Raises PlanError that says what is wrong with the file.
    """
    if not path.is_file():
        raise PlanError(f"{path}: no such file")
    is_csv = path.name.lower().endswith(CSV_SUFFIXES)
    if is_csv and match:
        raise PlanError(f"{path}: a CSV file has no requests; --match is for access logs")
    with duckdb.connect() as connection:
        try:
            return _binned(*_seconds(connection, path, is_csv=is_csv, match=match))
        except duckdb.Error as error:
            raise PlanError(f"{path}: {str(error).splitlines()[0]}") from error


def replaying(plan: Plan, traffic: Traffic) -> Plan:
    """The plan with voters who come as they came then, for as long as they came."""
    arrivals = msgspec.structs.replace(
        plan.arrivals, curve="replay", bin_s=traffic.bin_s, votes_per_bin=traffic.votes
    )
    return msgspec.structs.replace(plan, arrivals=arrivals, duration_s=traffic.duration_s)


def _seconds(
    connection: duckdb.DuckDBPyConnection, path: Path, *, is_csv: bool, match: str | None
) -> tuple[Seconds, Votes]:
    """Each second in which something came, in Unix time, and how much."""
    file = quoted(path)
    lines = LOG_LINES.format(file=file)
    if is_csv:
        lines = CSV_ROWS.format(file=file, header=_has_header(connection, path))
    connection.execute(f"CREATE TEMP TABLE lines AS {lines}")
    every, bad = connection.execute(
        "SELECT count(*), count_if(came_at IS NULL OR coalesce(votes, -1) < 0) FROM lines"
    ).fetchone() or (0, 0)
    if bad or not every:
        _require_readable(path, every, bad or 0, is_csv=is_csv)
    wanted = "true" if match is None else "regexp_matches(request, $match)"
    found = connection.execute(
        f"""SELECT epoch(date_trunc('second', came_at)) AS second, sum(votes) AS votes
        FROM lines WHERE came_at IS NOT NULL AND votes >= 0 AND {wanted}
        GROUP BY second ORDER BY second""",
        {} if match is None else {"match": match},
    ).fetchnumpy()
    if not len(found["second"]):
        raise PlanError(f"{path}: no request matches {match!r}")
    return np.asarray(found["second"], np.int64), np.asarray(found["votes"], np.float64)


def _require_readable(path: Path, every: int, bad: int, *, is_csv: bool) -> None:
    if bad > UNREADABLE * every or not every:
        kind = "a time and a count in each row" if is_csv else "the common or combined log format"
        raise PlanError(f"{path}: {bad} of {every} lines cannot be read; it needs {kind}")


def _has_header(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Whether the first line of a CSV file names columns: it then has no digit in it."""
    row = connection.execute(
        f"""SELECT line FROM read_csv({quoted(path)}, columns = {{'line': 'VARCHAR'}},
        header = false, auto_detect = false, delim = '\\x01', quote = '', escape = '')
        LIMIT 1"""
    ).fetchone()
    return row is not None and not any(letter.isdigit() for letter in str(row[0]))


def _binned(seconds: Seconds, votes: Votes) -> Traffic:
    span_s = int(seconds[-1] - seconds[0]) + 1
    bin_s = -(-span_s // MOST_BINS)
    bins = -(-span_s // bin_s)
    number = (seconds - seconds[0]) // bin_s
    return Traffic(float(bin_s), tuple(np.bincount(number, votes, minlength=bins).tolist()))
