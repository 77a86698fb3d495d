"""`pause`: the next process that comes out of the lock and reached its slot stands still.

The step is armed on the shared page; the process stops itself (SIGSTOP) between taking a slot
number and filling the slot, with the lock held, and is continued after the fault's time.

    holder   incr lock ─ incr pointer ─ ▇▇▇▇▇▇▇▇ stopped ▇▇▇▇▇▇▇▇ ─ set slot ─ set lock 0
    others   incr lock … patience ends ─ takeover ─ in
"""

import contextlib
import os
import signal
from typing import Final

import psutil

from harness.armed import step
from harness.faults.fault import Met, Reach
from harness.history.journal import Role
from harness.plan import Fault
from harness.protocol.commands import COMMAND_CODES, KeyKind, Set

LOCK_HOLDER: Final = step(Role.SITE, COMMAND_CODES[Set], KeyKind.SLOT)


def start(fault: Fault, reach: Reach) -> Met | None:
    """Arm the step and wait until a process met it, or the load ends."""
    earlier = len(reach.armed.hits())
    reach.armed.arm(LOCK_HOLDER, signal.SIGSTOP)
    while not reach.armed.hits()[earlier:]:
        if reach.ended.wait(reach.WATCH_S):
            reach.armed.disarm(LOCK_HOLDER)
            break  # it may have been met just now
    if not reach.armed.hits()[earlier:]:
        return None
    hit = reach.armed.hits()[earlier]
    reach.ended.wait(max(0.0, fault.for_s - reach.since_s(hit.at_ns)))
    stood_still = _is_stopped(hit.pid)
    heal(hit.pid)
    if not stood_still:
        return None
    return Met(f"site process {hit.pid} stopped with the lock held", at_ns=hit.at_ns)


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


def heal(pid: int) -> None:
    """Let the process go on; it may have been killed meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
