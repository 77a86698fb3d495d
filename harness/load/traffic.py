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
from harness.plan import MOST, Plan

Seconds: TypeAlias = npt.NDArray[np.int64]
Votes: TypeAlias = npt.NDArray[np.float64]

UNREADABLE: Final = 0.1
"""Of the lines. A log that was cut off or has a few lines of its own kind is still a log; one in
which a tenth cannot be read is of another format."""
MOST_BINS: Final = 7200  # two hours second by second; what is longer gets longer bins
YEAR_S: Final = 365 * 86_400
CSV_SUFFIXES: Final = (".csv", ".csv.gz")

BLANKS: Final = "' \"' || chr(13)"
LINES: Final = f"""
CREATE TEMP TABLE lines AS SELECT line FROM read_csv({{file}}, columns = {{{{'line': 'VARCHAR'}}}},
    auto_detect = false, header = false, delim = '\\x01', quote = '', escape = '',
    strict_mode = false, store_rejects = true)
WHERE trim(line, {BLANKS}) <> ''"""
OF_A_LOG: Final = """
SELECT
    try_strptime(regexp_extract(line, '\\[([^\\]]+)\\]', 1), '%d/%b/%Y:%H:%M:%S %z') AS came_at,
    1.0 AS votes,
    regexp_extract(line, '"([^"]*)"', 1) AS request
FROM lines"""
OF_A_TABLE: Final = f"""
SELECT
    coalesce(try_cast(f[1] AS TIMESTAMPTZ), try(to_timestamp(try_cast(f[1] AS DOUBLE)))) AS came_at,
    CASE WHEN len(f) = 2 THEN try_cast(f[2] AS DOUBLE) END AS votes,
    '' AS request
FROM (
    SELECT list_transform(string_split(line, ','), lambda part: trim(part, {BLANKS})) AS f
    FROM lines)"""


class Traffic(NamedTuple):
    """How many came in each bin, from the first to the last."""

    bin_s: float
    votes: tuple[float, ...]
    busiest_per_s: float  # in the busiest second, which a longer bin does not show

    @property
    def duration_s(self) -> float:
        return self.bin_s * len(self.votes)

    def scaled(self, factor: float) -> "Traffic":
        """The same curve with so many times the votes."""
        votes = tuple(each * factor for each in self.votes)
        return Traffic(self.bin_s, votes, self.busiest_per_s * factor)


def read_traffic(path: Path, match: str | None = None) -> Traffic:
    """The traffic in an access log (common or combined format) or a CSV of time and count.

    `match`: count only requests in which this regular expression is found, as in `POST /vote`.
    A CSV file is known by its name; its times are ISO 8601 or Unix seconds. Either may be gzipped.
    Raises PlanError that says what is wrong with the file.
    """
    if not path.is_file():
        raise PlanError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    is_csv = path.name.lower().endswith(CSV_SUFFIXES)
    if is_csv and match:
        raise PlanError(f"{path}: a CSV file has no requests; --match is for access logs")
    with duckdb.connect() as connection:
        if match is not None:
            _require_pattern(connection, match)
        try:
            return _binned(path, *_seconds(connection, path, is_csv=is_csv, match=match))
        except duckdb.Error as error:
            raise PlanError(f"{path}: {_reason(error)}") from error


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
    connection.execute(LINES.format(file=quoted(path)))
    if is_csv:  # a first line that names columns has no digit in it
        connection.execute(
            "DELETE FROM lines WHERE rowid = 0 AND NOT regexp_matches(line, '[0-9]')"
        )
    read = OF_A_TABLE if is_csv else OF_A_LOG
    connection.execute(f"CREATE TEMP TABLE requests AS {read}")
    # What is no UTF-8 has no line in our table, and yet was one.
    every, bad, strange = connection.execute(
        """SELECT count(*), count_if(came_at IS NULL OR coalesce(votes, -1) < 0
            OR NOT isfinite(votes)), (SELECT count(DISTINCT line) FROM reject_errors)
        FROM requests"""
    ).fetchone() or (0, 0, 0)
    _require_readable(path, every + strange, (bad or 0) + strange, is_csv=is_csv)
    wanted = "true" if match is None else "regexp_matches(request, $match)"
    found = connection.execute(
        f"""SELECT epoch(date_trunc('second', came_at)) AS second, sum(votes) AS votes
        FROM requests WHERE came_at IS NOT NULL AND votes >= 0 AND isfinite(votes) AND {wanted}
        GROUP BY second ORDER BY second""",
        {} if match is None else {"match": match},
    ).fetchnumpy()
    if not len(found["second"]):
        raise PlanError(f"{path}: no request matches {match!r}")
    votes = np.asarray(found["votes"], np.float64)
    if not votes.any():
        raise PlanError(f"{path}: all of its counts are 0; nobody would come")
    return np.asarray(found["second"], np.int64), votes


def _require_pattern(connection: duckdb.DuckDBPyConnection, match: str) -> None:
    try:
        connection.execute("SELECT regexp_matches('', $match)", {"match": match})
    except duckdb.Error as error:
        raise PlanError(f"--match {match!r} is no regular expression: {_reason(error)}") from error


def _reason(error: duckdb.Error) -> str:
    """What DuckDB says, without its name for that kind of error."""
    return str(error).splitlines()[0].partition("Error: ")[2] or str(error)


def _require_readable(path: Path, every: int, bad: int, *, is_csv: bool) -> None:
    kind = "a time and a count in each row" if is_csv else "the common or combined log format"
    if not every:
        raise PlanError(f"{path} is empty; it needs {kind}")
    if bad > UNREADABLE * every:
        raise PlanError(f"{path}: {bad} of {every} lines cannot be read; it needs {kind}")


def _binned(path: Path, seconds: Seconds, votes: Votes) -> Traffic:
    span_s = int(seconds[-1] - seconds[0]) + 1
    if span_s > MOST:
        raise PlanError(f"{path}: its times are {span_s / YEAR_S:.0f} years apart; one is wrong")
    bin_s = -(-span_s // MOST_BINS)
    bins = -(-span_s // bin_s)
    number = (seconds - seconds[0]) // bin_s
    binned = np.bincount(number, votes, minlength=bins)
    return Traffic(float(bin_s), tuple(binned.tolist()), float(votes.max()))
