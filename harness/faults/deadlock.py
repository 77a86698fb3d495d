"""`deadlock`: a second client's transactions and those that count votes wait for each other.

    vote, batch     insert into the primary key ─ insert into the index: waits ─ rolled back (1213)
    second client   share the index ────────────────────────── share the primary key: waits ─ reads

InnoDB rolls back the lighter of the two, which has written less. So the second client first writes
some rows into a table of its own, and is spared. It changes nothing that others see.
"""

from time import monotonic_ns
from typing import Final

import pymysql
from pymysql.cursors import Cursor

from harness.fault import Fault
from harness.faults.fault import Met, Reach
from harness.faults.second_client import LOOK_S, second_client, status

DEADLOCK: Final = 1213
ROLLED_BACK: Final = (1205, DEADLOCK)  # lock wait timeout, deadlock
DEADLOCKS: Final = "Innodb_deadlocks"
WAITING: Final = "Innodb_row_lock_current_waits"
REPEATABLE_READ: Final = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
"""Under which a lock covers the gaps between rows, too: where the next vote would be inserted."""
SHARE_INDEX: Final = """
SELECT COUNT(*) FROM pollstorm_ballots FORCE INDEX (totals) WHERE poll = %s LOCK IN SHARE MODE"""
SHARE_ROWS: Final = """
SELECT COUNT(choice + deliveries) FROM pollstorm_ballots FORCE INDEX (PRIMARY)
LOCK IN SHARE MODE"""
OWN_TABLE: Final = """
CREATE TEMPORARY TABLE pollstorm_weight (number INT NOT NULL PRIMARY KEY) ENGINE = InnoDB"""
PUT_ON_WEIGHT: Final = "INSERT INTO pollstorm_weight SELECT seq FROM seq_1_to_1000"
"""Others are met at their first rows, however many they are about to insert."""


def start(fault: Fault, reach: Reach) -> Met | None:
    """Provoke deadlocks until the time is over; None when nobody else was rolled back.

    Raises ServiceError for what else the database says.
    """
    ours = 0
    begin_ns = monotonic_ns()
    with second_client(reach) as cursor:
        cursor.execute(REPEATABLE_READ)
        cursor.execute(OWN_TABLE)
        before = status(cursor, DEADLOCKS)
        while _lasts(fault, reach, begin_ns):
            try:
                _share(cursor, fault, reach, begin_ns)
            except pymysql.MySQLError as error:
                if error.args[0] not in ROLLED_BACK:
                    raise
                ours += error.args[0] == DEADLOCK
            cursor.execute("ROLLBACK")
        theirs = status(cursor, DEADLOCKS) - before - ours
    if theirs <= 0:
        return None
    return Met(f"{theirs:,} transactions rolled back by deadlocks, and {ours:,} of the other side")


def _share(cursor: Cursor, fault: Fault, reach: Reach, begin_ns: int) -> None:
    """Share the index until somebody waits for a place in it, then share what that one has."""
    cursor.execute("BEGIN")
    cursor.execute(PUT_ON_WEIGHT)
    cursor.execute(SHARE_INDEX, (reach.plan.poll.name,))
    while not status(cursor, WAITING):
        if not _lasts(fault, reach, begin_ns):
            return
    cursor.execute(SHARE_ROWS)


def _lasts(fault: Fault, reach: Reach, begin_ns: int) -> bool:
    """Whether there is time left, after a moment in which everybody else can go on."""
    return not reach.ended.wait(LOOK_S) and reach.since_s(begin_ns) < fault.for_s
