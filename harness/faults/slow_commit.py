"""`slow-commit`: each commit takes as long as on a slow disk, by MariaDB's own group-commit wait.

The wait belongs to the binary log, which MariaDB keeps only where the plan has this fault or a
`database.commit_wait_us`. Who commits meanwhile waits once, together with the others.
"""

from typing import Final

from harness.errors import ServiceError
from harness.fault import Fault
from harness.faults.fault import Met, Reach
from harness.faults.second_client import our_mariadb, second_client, status

DELAY_S: Final = 0.1  # of a disk that has much else to do
WAIT: Final = "SET GLOBAL binlog_commit_wait_usec = %s"
WAITED: Final = "Binlog_group_commit_trigger_timeout"
"""How many group commits waited for as long as they should."""


def start(fault: Fault, reach: Reach) -> Met | None:
    """Make commits wait until the time is over; None when nobody committed.

    Raises ServiceError without a binary log, or when the database is not ours.
    """
    our_mariadb(reach)
    delay_s = fault.delay_s or DELAY_S
    with second_client(reach) as cursor:
        cursor.execute("SELECT @@log_bin")
        if cursor.fetchone() != (1,):
            raise ServiceError("MariaDB was started without its binary log")
        before = status(cursor, WAITED)
        cursor.execute(WAIT, (round(delay_s * 1e6),))
    reach.ended.wait(fault.for_s)
    with second_client(reach) as cursor:
        cursor.execute(WAIT, (reach.plan.database.commit_wait_us,))
        waited = status(cursor, WAITED) - before
    return Met(f"{waited:,} group commits waited {delay_s:g} s") if waited > 0 else None
