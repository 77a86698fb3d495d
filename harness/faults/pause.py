"""`pause`: the next process that is about to fill its slot stands still.

Two steps are armed on the shared page, of which a protocol has one; the process stops itself
(SIGSTOP) between taking a slot's number and filling the slot, and is continued after the fault's
time. Under a lock that is its holder. A queue without a lock holds nobody up: there it is whoever
has drawn a ticket, and the record says so.

    holder   incr lock ─ incr pointer ─ ▇▇▇▇▇▇▇▇ stopped ▇▇▇▇▇▇▇▇ ─ set slot ─ set lock 0
    others   incr lock … patience ends ─ takeover ─ in

    drawer   incr pointer ─ ▇▇▇▇▇▇▇▇ stopped ▇▇▇▇▇▇▇▇ ─ add slot: a tombstone ─ incr pointer …
    drain    get slot: empty ─ add tombstone ─ past it
"""

import contextlib
import os
import signal
from typing import Final

import psutil

from harness.armed import Hit, step
from harness.fault import Fault
from harness.faults.fault import Met, Reach
from harness.history.journal import Role
from harness.protocol.commands import COMMAND_CODES, Add, KeyKind, Set

LOCK_HOLDER: Final = step(Role.SITE, COMMAND_CODES[Set], KeyKind.SLOT)
TICKET_HOLDER: Final = step(Role.SITE, COMMAND_CODES[Add], KeyKind.SLOT)
STEPS: Final = (LOCK_HOLDER, TICKET_HOLDER)


def start(fault: Fault, reach: Reach) -> Met | None:
    """Arm the steps and wait until a process met one, or the load ends."""
    hit = _await_hit(reach)
    if hit is None:
        return None
    reach.ended.wait(max(0.0, fault.for_s - reach.since_s(hit.at_ns)))
    stood_still = _is_stopped(hit.pid)
    heal(hit.pid)
    if not stood_still:
        return None
    target, detail = met(hit.step, hit.pid)
    return Met(detail, at_ns=hit.at_ns, target=target)


def met(step_number: int, pid: int) -> tuple[str, str]:
    """The target that was met at a step, and what became of the process."""
    if step_number == TICKET_HOLDER:
        detail = f"site process {pid} stopped before its slot was filled; no lock is held there"
        return "ticket-holder", detail
    return "lock-holder", f"site process {pid} stopped with the lock held"


def _await_hit(reach: Reach) -> Hit | None:
    earlier = len(reach.armed.hits())
    for each in STEPS:
        reach.armed.arm(each, signal.SIGSTOP)
    while not reach.armed.hits()[earlier:]:
        if reach.ended.wait(reach.WATCH_S):
            break
    for each in STEPS:
        reach.armed.disarm(each)
    return next(iter(reach.armed.hits()[earlier:]), None)  # it may have been met just now


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


def heal(pid: int) -> None:
    """Let the process go on; it may have been killed meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
