"""Histories at rest: raw records to Parquet, Parquet to SQL.

DuckDB reads and writes the files; whoever wants a figure from them asks it in SQL.
"""

import os
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.errors import HistoryError, RecordingError
from harness.history.journal import JOURNAL_DTYPE
from harness.history.ledger import LEDGER_DTYPE

BALLOT_COLUMNS: Final = {
    "vote": np.dtype("u8"),
    "poll": np.dtype("O"),
    "choice": np.dtype("u2"),
    "voter": np.dtype("O"),
    "deliveries": np.dtype("u4"),
}
"""One row per vote id. The audit needs vote, choice and deliveries; the rest is for people."""

REJECTION_COLUMNS: Final = {
    "vote": np.dtype("u8"),
    "poll": np.dtype("O"),
    "choice": np.dtype("u2"),
    "voter": np.dtype("O"),
}
"""One row per vote of a once-only poll that was queued, and not counted when its turn came, because
another one of the voter's was: that has a ballot, this one never will."""

JOURNAL_COLUMNS: Final = frozenset(JOURNAL_DTYPE.names or ()) - {"daemon"}
"""What every journal has. Those of runs with one memcached only may lack the daemon."""

MEMORY_LIMIT: Final = "1500MB"  # DuckDB spills beyond it; a machine of 2 GiB can audit any run
THREADS: Final = 2


@contextmanager
def connect(*, ordered: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB within the harness's memory and thread limits, for one block.

    Temporary tables and views, and registered frames, end with the block; others would not. Rows
    come in their files' order unless `ordered` is false.
    """
    try:
        with _database(ordered).cursor() as connection:
            # It would be printed into our output.
            connection.execute("SET enable_progress_bar=false")
            yield connection
    except Exception:
        _database.cache_clear()  # after some errors a database answers nothing any more
        raise


@cache
def _database(ordered: bool) -> duckdb.DuckDBPyConnection:
    """Opened once in a process: that takes 20 ms, and a trial's audit asks some twenty times."""
    spill = f"pollstorm-duckdb-{os.getpid()}-{'ordered' if ordered else 'any-order'}"
    return duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "threads": THREADS,
            "temp_directory": str(Path(tempfile.gettempdir()) / spill),  # else: where we stand
            "preserve_insertion_order": ordered,
            "enable_external_file_cache": False,  # what is asked again may have been written anew
        }
    )


@contextmanager
def reading(*parquets: Path, ordered: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to ask these files something. Raises HistoryError when DuckDB cannot."""
    try:
        with connect(ordered=ordered) as connection:
            yield connection
    except duckdb.Error as error:
        names = ", ".join(map(str, parquets))
        raise HistoryError(f"{names} cannot be read: {str(error).splitlines()[0]}") from error


def collect_ledger(raw: Path, parquet: Path) -> int:
    """Join the raw ledgers of all generators into one file; the number of attempts."""
    return _collect(raw, "ledger-*.bin", LEDGER_DTYPE, "sent_ns", parquet)


def collect_journal(raw: Path, parquet: Path) -> int:
    """Join the raw journals of all threads into one file; the number of commands."""
    return _collect(raw, "journal-*.bin", JOURNAL_DTYPE, "begin_ns", parquet)


def write_parquet(frame: pd.DataFrame, parquet: Path) -> None:
    """Write the frame, whole or not at all. Raises RecordingError on a full disk."""
    part = parquet.with_name(f".{parquet.name}.part")
    try:
        with connect() as connection:
            connection.register("frame", frame)
            connection.execute(f"COPY (SELECT * FROM frame) TO {quoted(part)} (FORMAT parquet)")
        part.replace(parquet)
    except duckdb.IOException as error:
        raise RecordingError(f"cannot write {parquet}: {error}; make room, run again") from error
    finally:
        part.unlink(missing_ok=True)


def require_columns(connection: duckdb.DuckDBPyConnection, parquet: Path, names: Set[str]) -> None:
    """Raises HistoryError when the file is missing, is no Parquet, or lacks a column."""
    if not parquet.is_file():
        raise HistoryError(f"{parquet} is missing")
    try:
        missing = sorted(names - columns(connection, parquet))
    except duckdb.Error as error:
        raise HistoryError(f"{parquet} is unreadable: {str(error).splitlines()[0]}") from error
    if missing:
        raise HistoryError(f"{parquet} has no column {', '.join(missing)}")


def columns(connection: duckdb.DuckDBPyConnection, parquet: Path) -> set[str]:
    """The names of a file's columns."""
    rows = connection.execute(f"DESCRIBE SELECT * FROM {quoted(parquet)}").fetchall()
    return {row[0] for row in rows}


def quoted(path: Path) -> str:
    """A path as an SQL string."""
    return "'" + str(path).replace("'", "''") + "'"


def _collect(raw: Path, pattern: str, dtype: "np.dtype[np.void]", used: str, parquet: Path) -> int:
    parts: list[npt.NDArray[np.void]] = []
    for path in sorted(raw.glob(pattern)):
        records = np.fromfile(path, dtype=dtype)
        parts.append(records[records[used] != 0])
    records = np.concatenate(parts) if parts else np.empty(0, dtype)
    names = [name for name in dtype.names or () if name != "padding"]
    write_parquet(pd.DataFrame({name: records[name] for name in names}), parquet)
    return len(records)
