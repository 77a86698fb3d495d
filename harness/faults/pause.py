"""`pause`: a process stands still (SIGSTOP) and goes on after a while (SIGCONT), none the wiser.

Whose: `aim` says. The process that takes a slot's number and is stopped before it fills the slot is
under a lock its holder. A queue without a lock holds nobody up: there it is whoever has drawn a
ticket, and the record says so.

    holder   incr lock ─ incr pointer ─ ▇▇▇▇▇▇▇▇ stopped ▇▇▇▇▇▇▇▇ ─ set slot ─ set lock 0
    others   incr lock … patience ends ─ takeover ─ in

    drawer   incr pointer ─ ▇▇▇▇▇▇▇▇ stopped ▇▇▇▇▇▇▇▇ ─ add slot: a tombstone ─ incr pointer …
    drain    get slot: empty ─ add tombstone ─ past it
"""

import signal
from typing import Final

from harness.fault import Fault, target_of
from harness.faults.aim import is_stopped, let_go_on, met_at, strike
from harness.faults.fault import Met, Reach

STOPS_WITHIN_S: Final = 0.1  # SIGSTOP takes effect in microseconds


def start(fault: Fault, reach: Reach) -> Met | None:
    """Stop a process for the fault's time; None when none came to the step, or it went on early.

    Raises ServiceError when there is no such process that is ours.
    """
    struck = strike(fault, reach, signal.SIGSTOP)
    if struck is None:
        return None
    try:
        reach.ended.wait(max(STOPS_WITHIN_S, fault.for_s - reach.since_s(struck.at_ns)))
        stood_still = is_stopped(struck.pid)
    finally:
        let_go_on(struck.pid)
    if not stood_still:
        return None
    target, where = met_at(target_of(fault), struck)
    who = "site process" if target in ("site", "lock-holder", "ticket-holder") else target
    return Met(f"{who} {struck.pid} stopped{where}", at_ns=struck.at_ns, target=target)
