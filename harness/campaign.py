"""Random campaigns: timetables of faults that nobody thought of, drawn from a seed.

What is drawn is a plan's faults; who plays it, and where, is another's business. A mode that
promises is mostly left the faults that its promise covers, for of the others nothing can be learnt.
"""

from collections.abc import Callable, Collection
from random import Random
from typing import Any, Final

from harness.fault import KINDS, STEPS, Fault, amounts_to, overlap, target_of
from harness.modes.mode import Mode, find_mode
from harness.protocol.queue import Terms

MOST_FAULTS: Final = 4
MOST_TRIES: Final = 20  # to find a fault that fits beside those drawn before
FIRST: Final = 0.05  # of the load's time, before which nothing strikes
LAST: Final = 0.9
SHORTEST_S: Final = 0.05
LONGEST_S: Final = 2.5  # twice as long as anybody's patience, and longer than a client's time-out
ONLY_COVERED: Final = 0.8  # how often a promising mode is spared what excuses it
SETTLED_S: Final = 2.5
"""In which a queue left in peace is drained for certain: some intervals, and a time-out."""
FORGETTING: Final = ("wipe", "squeeze")
DELAYS_S: Final = (0.002, 0.02, 0.1, 0.4)
SHARES: Final = (None, 0.01, 0.1, 0.5)  # None: all


def random_faults(
    rng: Random, mode: str, duration_s: float, kinds: Collection[str] = tuple(KINDS)
) -> tuple[Fault, ...]:
    """One to four faults of these kinds that have a target in the mode, by their time.

    None overlaps another on its target. Where each vote lies on several daemons, two of them never
    forget within `SETTLED_S`, and if they forget one after the other, nothing else happens.
    """
    found = find_mode(mode)
    targets = _targets(found)
    excused = found.excuses if rng.random() < ONLY_COVERED else ()
    faults: list[Fault] = []
    for _ in range(rng.randint(1, MOST_FAULTS)):
        for _ in range(MOST_TRIES):
            fault = _draw(rng, kinds, targets, duration_s)
            if fault and not _forgets(fault, excused) and not _collides(fault, faults):
                faults.append(fault)
                break
    if _daemons(found) > 1:
        faults = _one_at_a_time(faults)
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def forgets(fault: Fault) -> bool:
    """Whether memcached loses by it what was queued."""
    return _forgets(fault, FORGETTING)


def _forgets(fault: Fault, kinds: Collection[str]) -> bool:
    return amounts_to(fault.kind, target_of(fault)) in kinds


def _daemons(mode: Mode) -> int:
    return mode.protocol(Terms()).daemons


def _targets(mode: Mode) -> frozenset[str]:
    """What of all that can be struck there is in the mode."""
    targets = {target for kind in KINDS.values() for target in kind.targets}
    if not mode.queues:
        targets -= {"lock-holder", "flusher"}
    if _daemons(mode) < 2:
        targets.discard("memcached-2")
    return frozenset(targets)


def _draw(
    rng: Random, kinds: Collection[str], targets: frozenset[str], duration_s: float
) -> Fault | None:
    """A fault of any kind at any target; None when that kind has none here."""
    name = rng.choice(sorted(kinds))
    kind = KINDS[name]
    here = [target for target in kind.targets if target in targets]
    if not here:
        return None
    target = rng.choice(here)
    steps = STEPS.get(target, ()) if kind.steps else ()
    lasts = kind.lasts == "always" or (kind.lasts == "maybe" and rng.random() < 0.7)
    return Fault(
        kind=name,
        at_s=round(rng.uniform(FIRST, LAST) * duration_s, 3),
        target=target,
        for_s=_length_s(rng) if lasts else 0.0,
        step=rng.choice(("", *steps)) if steps else "",
        **{option: DRAWN[option](rng) for option in kind.options},
    )


def _length_s(rng: Random) -> float:
    """Short ones as often as long ones."""
    length_s: float = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** rng.random()
    return round(length_s, 3)


DRAWN: Final[dict[str, Callable[[Random], Any]]] = {
    "delay_s": lambda rng: rng.choice(DELAYS_S),
    "jitter_s": lambda rng: rng.choice((0.0, 0.01)),
    "share": lambda rng: rng.choice(SHARES),
    "direction": lambda rng: rng.choice(("to", "from")),
}


def _collides(fault: Fault, faults: list[Fault]) -> bool:
    return any(overlap(fault, other) for other in faults)


def _one_at_a_time(faults: list[Fault]) -> list[Fault]:
    """Without a forgetting that another one is too near to for a drain to lie between them."""
    forgetting = sorted(filter(forgets, faults), key=lambda fault: fault.at_s)
    if len(forgetting) < 2:
        return faults
    first, second = forgetting[:2]
    if second.at_s - (first.at_s + first.for_s) >= SETTLED_S:
        return [first, second]
    return [fault for fault in faults if fault is first or not forgets(fault)]
