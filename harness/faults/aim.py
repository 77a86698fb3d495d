"""Whom a fault at processes strikes: a service, a worker of the site, or who comes to a step.

A process struck blindly is at its work somewhere; one that comes to an armed step sends the signal
to itself just there. What a drain holds in its hands at each step of the flusher:

    get pointer ─ get slots ─ set pointer 0 ─ BEGIN, INSERT … ─ COMMIT ─ delete slots
    │ before-read             │               │                 │        │
    │ nothing       between-read-and-reset    │       between-insert-and-commit
    │               copies of what is queued  │                          between-commit-and-delete
    │                              between-reset-and-insert: all that there is

`ticket` and `mirrored` reset nothing: there the second and third step are one, before the INSERT.
"""

import contextlib
import os
import signal
from random import Random
from time import monotonic_ns
from typing import Final, NamedTuple

import psutil

from harness.armed import Hit, step
from harness.database.ballots import AFTER_COMMIT, BEFORE_COMMIT, BEFORE_INSERT
from harness.errors import ServiceError
from harness.fault import Fault, describe, target_of
from harness.faults.fault import Reach
from harness.history.journal import Role
from harness.protocol.commands import COMMAND_CODES, Add, Get, KeyKind, Set
from harness.services.service import Service

LOCK_HOLDER: Final = step(Role.SITE, COMMAND_CODES[Set], KeyKind.SLOT)
TICKET_HOLDER: Final = step(Role.SITE, COMMAND_CODES[Add], KeyKind.SLOT)
READ: Final = step(Role.FLUSHER, COMMAND_CODES[Get], KeyKind.POINTER)
READ_SLOT: Final = step(Role.FLUSHER, COMMAND_CODES[Get], KeyKind.SLOT)
RESET: Final = step(Role.FLUSHER, COMMAND_CODES[Set], KeyKind.POINTER)


class Steps(NamedTuple):
    """Steps on the armed page, of which a protocol has at least one; the first one met counts."""

    steps: tuple[int, ...]
    after: int = 0  # to be passed before, by the same process: so that it has votes in its hands


ARMED: Final = {
    ("lock-holder", "before-slot"): Steps((LOCK_HOLDER, TICKET_HOLDER)),
    ("flusher", "before-read"): Steps((READ,)),
    ("flusher", "between-read-and-reset"): Steps((RESET, BEFORE_INSERT), after=READ_SLOT),
    ("flusher", "between-reset-and-insert"): Steps((BEFORE_INSERT,)),
    ("flusher", "between-insert-and-commit"): Steps((BEFORE_COMMIT,)),
    ("flusher", "between-commit-and-delete"): Steps((AFTER_COMMIT,)),
}


HOLDER: Final = ARMED["lock-holder", "before-slot"]


class Struck(NamedTuple):
    """A process that has got the signal, at a CLOCK_MONOTONIC time."""

    pid: int
    at_ns: int
    step: int = 0  # on the armed page; 0: blindly


def services_of(target: str, reach: Reach) -> tuple[Service, ...]:
    """Those that the target may be; none for a process of the site, or where nothing is ours."""
    if target == "flusher":
        return reach.stack.flushers.services
    if target == "mariadb":
        return (reach.stack.mariadb.service,) if reach.stack.mariadb else ()
    daemon = reach.daemon(target) if target.startswith("memcached") else None
    return (daemon.service,) if daemon else ()


def strike(fault: Fault, reach: Reach, number: signal.Signals) -> Struck | None:
    """Send the signal, or have it sent at the fault's step; None when nobody came to that.

    Raises ServiceError when there is no such process that is ours.
    """
    target = target_of(fault)
    where = fault.step or ("before-slot" if target == "lock-holder" else "")
    if where:
        hit = await_hit(ARMED[target, where], reach, number)
        return Struck(hit.pid, hit.at_ns, hit.step) if hit else None
    pid = _choose(fault, reach)
    try:
        os.kill(pid, number)
    except ProcessLookupError as error:
        raise ServiceError(f"process {pid} of {target} had ended by itself") from error
    return Struck(pid, monotonic_ns())


def await_hit(armed: Steps, reach: Reach, number: signal.Signals) -> Hit | None:
    """Arm the steps until a process met one, or the load ends."""
    role = armed.steps[0] >> 8
    with reach.arming[role]:  # two faults at one role's steps: one after the other
        earlier = len(reach.armed.hits())
        reach.armed.arm(armed.steps[0], number, *armed.steps[1:], after=armed.after)

        def mine() -> list[Hit]:
            return [hit for hit in reach.armed.hits()[earlier:] if hit.step in armed.steps]

        while not mine():
            if reach.ended.wait(reach.WATCH_S):
                break
        reach.armed.disarm(armed.steps[0])
        return next(iter(mine()), None)  # it may have been met just now


def met_at(target: str, struck: Struck) -> tuple[str, str]:
    """The target as it is called in the mode, and what it was about to do."""
    if struck.step == TICKET_HOLDER:
        return "ticket-holder", " before its slot was filled; no lock is held there"
    if struck.step == LOCK_HOLDER:
        return "lock-holder", " with the lock held"
    return target, ""


def is_stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


def let_go_on(pid: int) -> None:
    """Continue a stopped process; it may have been killed meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _choose(fault: Fault, reach: Reach) -> int:
    """A process of the target; of several the seed says which. Raises ServiceError."""
    target = target_of(fault)
    if target == "site":
        pids = [worker.pid for worker in reach.stack.site.workers()]
    else:
        pids = [service.child.pid for service in services_of(target, reach)]
    if not pids:
        raise ServiceError(f"there is no {target} here that is ours")
    return Random(f"{reach.plan.seed} {describe(fault)}").choice(pids)
