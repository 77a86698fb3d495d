"""`lock-table`: somebody else has locked the table of ballots, as for a backup or an ALTER.

Whoever wants to count a vote, or the votes, waits for it; InnoDB's own time-out does not apply. A
client that gives up leaves its statement waiting in the server, which carries it out later.
"""

from time import monotonic_ns
from typing import Final

from pymysql.cursors import Cursor

from harness.fault import Fault
from harness.faults.fault import Met, Reach
from harness.faults.second_client import LOOK_S, second_client

PATIENCE_S: Final = 5  # for transactions under way to end
LOCK: Final = "LOCK TABLES pollstorm_ballots WRITE"
WAITING: Final = """
SELECT COUNT(*) FROM information_schema.processlist
WHERE state = 'Waiting for table metadata lock'"""


def start(fault: Fault, reach: Reach) -> Met | None:
    """Hold the lock until the time is over; None when nobody waited for it.

    Raises ServiceError when it cannot be had.
    """
    with second_client(reach) as cursor:
        cursor.execute("SET SESSION lock_wait_timeout = %s", (PATIENCE_S,))
        cursor.execute(LOCK)
        locked_ns, most = monotonic_ns(), 0
        try:
            while (left_s := fault.for_s - reach.since_s(locked_ns)) > 0:
                most = max(most, _waiting(cursor))
                if reach.ended.wait(min(LOOK_S, left_s)):
                    break
        finally:
            cursor.execute("UNLOCK TABLES")
    if not most:
        return None
    return Met(f"the ballots' table was locked, up to {most} waited for it", at_ns=locked_ns)


def _waiting(cursor: Cursor) -> int:
    cursor.execute(WAITING)
    return int((cursor.fetchone() or (0,))[0])
