"""`kill`: a process ends at once (SIGKILL), and after a while there is another one in its place.

Whose: `aim` says. The new one is started as the old one was: memcached empty on the same port,
MariaDB on the same data, the flusher with its number. A worker of the site is started by the site
itself; so that it does not come back sooner, the site's first process is stopped meanwhile, which
takes no votes.

    flusher   set pointer 0 ─ ✕                         ─ started again ─ get pointer …
    queue     the slots behind the pointer were read by the dead one alone
"""

import os
import signal
from contextlib import ExitStack
from time import monotonic
from typing import Final

from harness.errors import ServiceError
from harness.fault import Fault, target_of
from harness.faults.aim import Struck, let_go_on, met_at, services_of, strike
from harness.faults.fault import Met, Reach
from harness.services.processes import wait_until

DIES_WITHIN_S: Final = 5.0  # milliseconds, unless its disk hangs
BACK_WITHIN_S: Final = 20.0  # a worker takes half a second, on a busy machine a few
LOOK_S: Final = 0.05  # to look for workers costs the machine a few ms each time
CRASH_LOOP_S: Final = 6.0
"""The site's first process gives up when a worker dies within 5.5 s of its start by it."""
OF_SITE: Final = ("site", "lock-holder")


def start(fault: Fault, reach: Reach) -> Met | None:
    """Kill a process, and see to it that another is there afterwards; None when none was met.

    Raises ServiceError when there is no such process that is ours, or none comes back.
    """
    return (_kill_worker if target_of(fault) in OF_SITE else _kill_service)(fault, reach)


def _kill_service(fault: Fault, reach: Reach) -> Met | None:
    services = services_of(target_of(fault), reach)
    with ExitStack() as mortal:
        for service in services:
            mortal.enter_context(service.mortal())
        struck = strike(fault, reach, signal.SIGKILL)
        if struck is None:
            return None
        dead = next(service for service in services if service.child.pid == struck.pid)
        dead.child.wait(DIES_WITHIN_S)
        _wait(fault, reach, struck)
    again = f"started again as process {dead.child.pid}"
    return Met(f"{dead.name} (process {struck.pid}) killed, {again}", at_ns=struck.at_ns)


def _kill_worker(fault: Fault, reach: Reach) -> Met | None:
    site = reach.stack.site
    if monotonic() - site.respawned_s < CRASH_LOOP_S:
        raise ServiceError(
            f"a worker of the site was started less than {CRASH_LOOP_S:g} s ago, and the site "
            "ends when such a one dies"
        )
    before = site.workers()
    os.kill(site.child.pid, signal.SIGSTOP)
    try:
        struck = strike(fault, reach, signal.SIGKILL)
        if struck is None:
            return None
        _wait(fault, reach, struck)
    finally:
        let_go_on(site.child.pid)
    site.respawned_s = monotonic()

    def is_back() -> bool:
        new = [worker for worker in site.workers() if worker not in before]
        return bool(new) and all(map(site.takes_votes, new))

    if not wait_until(is_back, BACK_WITHIN_S, LOOK_S):
        raise ServiceError(f"the site did not start another worker within {BACK_WITHIN_S:g} s")
    target, where = met_at(target_of(fault), struck)
    return Met(f"site process {struck.pid} killed{where}", at_ns=struck.at_ns, target=target)


def _wait(fault: Fault, reach: Reach, struck: Struck) -> None:
    reach.ended.wait(max(0.0, fault.for_s - reach.since_s(struck.at_ns)))
