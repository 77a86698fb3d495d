"""Our tables. They carry a prefix, so that an existing database keeps everything else it has."""

from contextlib import closing
from typing import Final

from pymysql.cursors import Cursor

from harness.database.connections import connect
from harness.database.polls import keep
from harness.vote import Poll

TIMEOUT_S: Final = 30.0  # a fresh server creating its first tables on a slow disk

POLLS: Final = """
CREATE TABLE IF NOT EXISTS pollstorm_polls (
    name      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    question  VARCHAR(1000) NOT NULL,
    choices   JSON NOT NULL,
    once      BOOLEAN NOT NULL DEFAULT FALSE,
    opened_at DATETIME(6) NOT NULL DEFAULT UTC_TIMESTAMP(6),
    closed_at DATETIME(6) NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4"""

BALLOTS: Final = """
CREATE TABLE IF NOT EXISTS pollstorm_ballots (
    vote       BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    poll       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    choice     SMALLINT UNSIGNED NOT NULL,
    voter      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    deliveries INT UNSIGNED NOT NULL DEFAULT 1,
    KEY totals (poll, choice)
) ENGINE = InnoDB"""

VOTERS: Final = """
CREATE TABLE IF NOT EXISTS pollstorm_voters (
    poll  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    voter VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    vote  BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (poll, voter)
) ENGINE = InnoDB"""

REJECTIONS: Final = """
CREATE TABLE IF NOT EXISTS pollstorm_rejections (
    vote   BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    poll   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    choice SMALLINT UNSIGNED NOT NULL,
    voter  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
) ENGINE = InnoDB"""

HEADS: Final = """
CREATE TABLE IF NOT EXISTS pollstorm_heads (
    queue         VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    epoch         INT UNSIGNED NOT NULL,
    head          BIGINT UNSIGNED NOT NULL,
    superseded_at DATETIME(6) NULL,
    PRIMARY KEY (queue, epoch)
) ENGINE = InnoDB"""

EPOCHS: Final = """
CREATE TABLE IF NOT EXISTS pollstorm_epochs (
    queue  VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    issued INT UNSIGNED NOT NULL
) ENGINE = InnoDB"""

TABLES: Final = (
    *("pollstorm_ballots", "pollstorm_voters", "pollstorm_rejections", "pollstorm_polls"),
    *("pollstorm_heads", "pollstorm_epochs"),
)


def create(url: str, *polls: Poll) -> None:
    """Create the tables where they are missing, and the polls."""
    with closing(connect(url, TIMEOUT_S)) as connection, connection.cursor() as cursor:
        for table in (POLLS, BALLOTS, VOTERS, REJECTIONS, HEADS, EPOCHS):
            cursor.execute(table)
        for poll in polls:
            keep(cursor, poll)


def drop(url: str) -> None:
    """Remove our tables and everything in them."""
    with closing(connect(url, TIMEOUT_S)) as connection, connection.cursor() as cursor:
        for table in TABLES:
            if _exists(cursor, table):
                cursor.execute(f"DROP TABLE {table}")


def count_ballots(url: str) -> int:
    """How many ballots the database holds; 0 without our tables."""
    with closing(connect(url, TIMEOUT_S)) as connection, connection.cursor() as cursor:
        if not _exists(cursor, "pollstorm_ballots"):
            return 0
        cursor.execute("SELECT COUNT(*) FROM pollstorm_ballots")
        (number,) = cursor.fetchone() or (0,)
        return int(number)


def polls_beside(url: str, name: str) -> list[str]:
    """The polls in the database other than this one, by name; none without our tables."""
    with closing(connect(url, TIMEOUT_S)) as connection, connection.cursor() as cursor:
        if not _exists(cursor, "pollstorm_polls"):
            return []
        cursor.execute("SELECT name FROM pollstorm_polls WHERE name <> %s ORDER BY name", (name,))
        return [found for (found,) in cursor.fetchall()]


def _exists(cursor: Cursor, table: str) -> bool:
    """Asked first, because IF EXISTS sends a warning for a missing table."""
    cursor.execute("SHOW TABLES LIKE %s", (table.replace("_", r"\_"),))
    return cursor.fetchone() is not None
