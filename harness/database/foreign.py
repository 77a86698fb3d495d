"""Ballots as somebody else's server keeps them: a query on its database, or a CSV file."""

from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import duckdb
import numpy as np
import pandas as pd
import pymysql

from harness.database.connections import connect
from harness.errors import PlanError
from harness.history.store import BALLOT_COLUMNS, quoted
from harness.vote import SEQUENCE_BITS, VOTE_ID

SCHEME: Final = "mysql://"
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
    if "number" in frame.columns:
        frame["vote"] = pd.to_numeric(frame["number"], errors="coerce").fillna(0).astype("uint64")
    missing = {"vote", "choice"} - set(frame.columns)
    if missing:
        raise PlanError(f"--ballots: no column {', '.join(sorted(missing))}; {FORM}")
    votes = frame["vote"].map(_id_of)
    ours = votes.map(lambda vote: vote >> SEQUENCE_BITS in generators)
    frame, votes = frame[ours], votes[ours]
    choices = pd.to_numeric(frame["choice"], errors="coerce")
    if choices.isna().any() or not choices.between(0, np.iinfo(np.uint16).max).all():
        raise PlanError(f"--ballots: choice must be a choice's number, from 1; {FORM}")
    return pd.DataFrame(
        {
            "vote": votes,
            "poll": frame.get("poll", ""),
            "choice": choices,
            "voter": frame.get("voter", ""),
            "deliveries": frame.get("deliveries", 1),
        }
    ).astype(BALLOT_COLUMNS)


def require_source(source: str) -> None:
    """Raises PlanError when no ballots can be read from there, whatever it will hold later."""
    if source.startswith(SCHEME) and not _query_of(source)[1]:
        raise PlanError(f"--ballots: there is no query; {FORM}")


def _queried(source: str, timeout_s: float) -> pd.DataFrame:
    url, query = _query_of(source)
    try:
        with closing(connect(url, timeout_s)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            names = [column[0] for column in cursor.description or ()]
            return pd.DataFrame(list(cursor.fetchall()), columns=names)
    except pymysql.MySQLError as error:
        raise PlanError(f"--ballots: {error.args[-1] if error.args else error}; {FORM}") from error


def _query_of(source: str) -> tuple[str, str]:
    """The database's URL without the query, and the query."""
    parts = urlsplit(source)
    options = parse_qsl(parts.query)
    query = "".join(value for name, value in options if name == "query")
    others = [(name, value) for name, value in options if name != "query"]
    return urlunsplit(parts._replace(query=urlencode(others))), query


def _from_csv(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise PlanError(f"--ballots {path}: no such file; {FORM}")
    with duckdb.connect() as connection:
        try:
            sql = f"SELECT * FROM read_csv({quoted(path)}, all_varchar = true, header = true)"
            return connection.execute(sql).df()
        except duckdb.Error as error:
            raise PlanError(f"--ballots {path}: {str(error).splitlines()[0]}") from error


def _id_of(value: Any) -> int:
    """The vote's id, from hex digits or an integer; 0, which is no vote's, for anything else."""
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace")
    text = str(value).strip()
    return int(text, 16) if VOTE_ID.fullmatch(text) else 0
