"""Ballots as somebody else's server keeps them: a query on its database, or a CSV file."""

import re
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_plus

import duckdb
import numpy as np
import pandas as pd
import pymysql

from harness.database.connections import connect
from harness.errors import PlanError
from harness.history.store import BALLOT_COLUMNS, quoted
from harness.vote import SEQUENCE_BITS, VOTE_ID

SCHEME: Final = "mysql://"
MOST_ID: Final = 2**64 - 1
MOST_DELIVERIES: Final = 2**32 - 1
QUERY: Final = "query="
NO_ROWS: Final = "SET SESSION sql_select_limit = 0"
"""A query then gives its columns only, unless it has a LIMIT of its own. It stays as it was typed:
in parentheses it might end in a comment, or name a column twice."""
BLANK: Final = re.compile(r"\s")
DECIMAL: Final = re.compile(r"[0-9]{1,20}")
FORM: Final = (
    "give a CSV file, or mysql://user:password@host:port/name?query=SELECT … with the columns "
    "vote and choice"
)


def read_foreign_ballots(source: str, generators: frozenset[int], timeout_s: float) -> pd.DataFrame:
    """The ballots of the votes that these generators minted, with our columns.

    `vote` is a vote's id, as 16 hex digits or an integer, or `number` is it in decimal digits. What
    is none, or of others, is left out: the site may hold votes that did not come from us.
    `deliveries` may be missing, and a vote that is there in several rows was counted as often.

    Raises PlanError for a source that cannot be read, or lacks a column.
    """
    frame = _queried(source, timeout_s) if source.startswith(SCHEME) else _from_csv(Path(source))
    _require_columns(frame)
    if "number" in frame.columns:
        frame["vote"] = [_decimal(value) for value in frame["number"]]
    votes = frame["vote"].map(_id_of)
    ours = votes.map(lambda vote: vote >> SEQUENCE_BITS in generators).astype(bool)  # of none, too
    frame, votes = frame[ours], votes[ours]
    choices = _numbers(frame["choice"], np.iinfo(np.uint16).max)
    if choices is None:
        raise PlanError(f"--ballots: choice must be a choice's number, from 1; {FORM}")
    deliveries = _numbers(frame.get("deliveries", pd.Series(1, frame.index)), MOST_DELIVERIES)
    if deliveries is None:
        raise PlanError("--ballots: deliveries must be how often a vote was counted")
    return pd.DataFrame(
        {
            "vote": votes,
            "poll": frame.get("poll", ""),
            "choice": choices,
            "voter": frame.get("voter", ""),
            "deliveries": deliveries,
        }
    ).astype(BALLOT_COLUMNS)


def require_source(source: str, timeout_s: float) -> None:
    """Raises PlanError when no ballots can be read from there, whatever it will hold later.

    A query is tried. A CSV file that is not there yet, or empty, may come with the votes.
    """
    if source.startswith(SCHEME):
        if not _query_of(source)[1]:
            raise PlanError(f"--ballots: there is no query; {FORM}")
        _require_columns(_queried(source, timeout_s, only_columns=True))
        return
    path = Path(source)
    if not path.exists():
        if not path.parent.is_dir():
            raise PlanError(f"--ballots {path}: there is no folder {path.parent}; {FORM}")
    elif not path.is_file() or path.stat().st_size:
        _require_columns(_from_csv(path, only_columns=True))


def _require_columns(frame: pd.DataFrame) -> None:
    found = {"vote" if name == "number" else name for name in frame.columns}
    missing = {"vote", "choice"} - found
    if missing:
        raise PlanError(f"--ballots: no column {', '.join(sorted(missing))}; {FORM}")


def _queried(source: str, timeout_s: float, *, only_columns: bool = False) -> pd.DataFrame:
    url, query = _query_of(source)
    try:
        with closing(connect(url, timeout_s)) as connection, connection.cursor() as cursor:
            if only_columns:
                cursor.execute(NO_ROWS)
            cursor.execute(query)
            names = [column[0] for column in cursor.description or ()]
            # As objects: beside a NULL pandas would make floats of integers, and round the ids.
            return pd.DataFrame(list(cursor.fetchall()), columns=names, dtype=object)
    except pymysql.MySQLError as error:
        raise PlanError(f"--ballots: {error.args[-1] if error.args else error}; {FORM}") from error


def _query_of(source: str) -> tuple[str, str]:
    """The database's URL without the query, and the query, which comes last.

    As it was typed, with its `+`, `%` and `#`; a URL's escapes are read where it has no blank, as
    no SQL has.
    """
    url, _, query = source.partition(QUERY)
    query = query.strip()
    return url.rstrip("?&"), query if BLANK.search(query) else unquote_plus(query)


def _from_csv(path: Path, *, only_columns: bool = False) -> pd.DataFrame:
    if not path.is_file():
        raise PlanError(
            f"--ballots {path}: {'is no file' if path.exists() else 'no such file'}; {FORM}"
        )
    limit = "LIMIT 0" if only_columns else ""
    with duckdb.connect() as connection:
        try:
            rows = f"read_csv({quoted(path)}, all_varchar = true, header = true)"
            return connection.execute(f"SELECT * FROM {rows} {limit}").df()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0].partition("Error: ")[2]
            raise PlanError(f"--ballots {path}: {reason}; {FORM}") from error


def _id_of(value: Any) -> int:
    """The vote's id, from hex digits or an integer; 0, which is no vote's, for anything else."""
    if isinstance(value, int):
        return value if 0 <= value <= MOST_ID else 0
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace")
    text = str(value).strip().lower()  # SQL's HEX() writes capitals
    return int(text, 16) if VOTE_ID.fullmatch(text) else 0


def _decimal(value: Any) -> int:
    """The id in decimal digits; 0 for anything else. No float comes between: it has 53 bits."""
    text = str(value).strip()
    return _id_of(int(text)) if DECIMAL.fullmatch(text) else 0


def _numbers(column: "pd.Series[Any]", most: int) -> "pd.Series[Any] | None":
    """Whole numbers up to the most; None when one is none."""
    numbers = pd.to_numeric(column, errors="coerce")
    whole = numbers.between(0, most) & (numbers % 1 == 0)
    return numbers if whole.all() else None
