"""`wipe`: a memcached forgets everything at once, as after a restart. There is nothing to heal.

before  lock, pointer, slots, totals      after  nothing: the next process starts cold
"""

from harness.fault import Fault, target_of
from harness.faults.fault import Met, Reach


def start(fault: Fault, reach: Reach) -> Met | None:
    """Wipe the memcached; None when it is not ours to wipe."""
    daemon = reach.daemon(target_of(fault))
    if daemon is None:
        return None
    daemon.wipe()
    daemons = reach.stack.memcached
    which = "first" if daemon is daemons[0] else "second"
    alone = len(daemons) == 1
    return Met("memcached emptied" if alone else f"the {which} of {len(daemons)} memcached emptied")
