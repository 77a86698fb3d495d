"""`wipe`: memcached forgets everything at once, as after a restart. There is nothing to heal.

before  lock, pointer, slots, totals      after  nothing: the next process starts cold
"""

from harness.faults.fault import Met, Trial
from harness.plan import Fault


def start(_fault: Fault, trial: Trial) -> Met | None:
    """Wipe the trial's memcached; None when it is not ours to wipe."""
    if trial.wipe is None:
        return None
    trial.wipe()
    return Met("memcached emptied")
