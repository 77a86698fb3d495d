"""Histories at rest: what one block asks of DuckDB, no other block sees."""

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from harness.errors import HistoryError
from harness.history.store import connect, reading, write_parquet


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"vote": range(rows)})


def count(parquet: Path) -> int:
    with reading(parquet) as connection:
        (found,) = connection.execute(f"SELECT count(*) FROM '{parquet}'").fetchall()
    return int(found[0])


def test_what_is_registered_or_temporary_ends_with_its_block():
    with connect() as one, connect() as other:
        one.register("votes", frame(1))
        one.execute("CREATE TEMP TABLE ballots AS SELECT 1")
        one.execute("CREATE TEMP VIEW ledger AS SELECT 1")
        for name in ("votes", "ballots", "ledger"):
            assert len(one.execute(f"FROM {name}").fetchall()) == 1
            with pytest.raises(duckdb.CatalogException):
                other.execute(f"FROM {name}")
    with connect() as later, pytest.raises(duckdb.CatalogException):
        later.execute("FROM votes")


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path):
    parquet = tmp_path / "ballots.parquet"
    for rows in (3, 5, 4):
        write_parquet(frame(rows), parquet)
        assert count(parquet) == rows


def test_only_the_accounts_give_up_the_order_of_the_rows():
    for ordered in (True, False):
        with connect(ordered=ordered) as connection:
            asked = "SELECT current_setting('preserve_insertion_order')"
            assert connection.execute(asked).fetchone() == (ordered,)


def test_after_an_error_the_next_block_has_a_database_of_its_own(tmp_path: Path):
    """Some errors end a database for all who ask it."""
    with connect() as connection:
        connection.execute("CREATE TABLE of_the_old_one AS SELECT 1")
    with pytest.raises(HistoryError, match=r"none\.parquet cannot be read"):
        count(tmp_path / "none.parquet")
    with connect() as connection, pytest.raises(duckdb.CatalogException):
        connection.execute("FROM of_the_old_one")
