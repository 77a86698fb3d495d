"""`wipe`: memcached forgets everything at once, as after a restart. There is nothing to heal.

before  lock, pointer, slots, totals      after  nothing: the next process starts cold
"""

from harness.faults.fault import Met, Reach
from harness.plan import Fault


def start(_fault: Fault, reach: Reach) -> Met | None:
    """Wipe the memcached; None when it is not ours to wipe."""
    if reach.wipe is None:
        return None
    reach.wipe()
    return Met("memcached emptied")
