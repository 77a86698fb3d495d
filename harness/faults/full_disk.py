"""`full-disk`: there is no room left where MariaDB keeps its data.

The disk is a small one in memory, which stands there only if the plan has this fault. What fits
into a table's free pages is still written; what needs new ones is refused ("the table is full").
"""

from pathlib import Path
from typing import Final

from harness.errors import ServiceError
from harness.fault import Fault
from harness.faults.fault import Met, Reach
from harness.faults.second_client import our_mariadb

REFUSED: Final = b"failed with error 28"  # ENOSPC, in MariaDB's own log, once for each write


def start(fault: Fault, reach: Reach) -> Met | None:
    """Leave no room until the time is over; None when MariaDB wanted none meanwhile.

    If MariaDB dies of it, it is started again. Raises ServiceError where no disk could be mounted,
    or MariaDB does not come back.
    """
    mariadb = our_mariadb(reach)
    if mariadb.disk is None:
        raise ServiceError("no small disk could be mounted here for MariaDB's data; root may")
    log, pid = mariadb.child.log, mariadb.child.pid
    before = refusals(log)
    with mariadb.service.mortal():
        try:
            mariadb.disk.fill()
            reach.ended.wait(fault.for_s)
        finally:
            mariadb.disk.make_room()
    refused = refusals(log) - before
    died = "" if mariadb.child.pid == pid else "; MariaDB died of it and was started again"
    return Met(f"the disk was full, {refused:,} writes refused{died}") if refused else None


def refusals(log: Path) -> int:
    """How often MariaDB has found no room so far."""
    return log.read_bytes().count(REFUSED)
