"""`wipe`: memcached forgets everything at once, as after a restart. There is nothing to heal.

Where a queue lies on several daemons the first one is wiped.

before  lock, pointer, slots, totals      after  nothing: the next process starts cold
"""

from harness.fault import Fault
from harness.faults.fault import Met, Reach


def start(_fault: Fault, reach: Reach) -> Met | None:
    """Wipe the first memcached; None when it is not ours to wipe."""
    if reach.wipe is None:
        return None
    reach.wipe()
    alone = reach.daemons == 1
    return Met("memcached emptied" if alone else f"the first of {reach.daemons} memcached emptied")
