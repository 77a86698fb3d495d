"""`give-up`, `revote`, `slow-read`: voters behave otherwise for a while. Nothing has to be healed.

What they do stands in `load.conduct`, and the generators do it by themselves, since they know the
plan. Here is what the record says of it afterwards, when they have told how many voters did.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from harness.fault import VOTERS, Fault, target_of
from harness.load.conduct import GIVE_UP, REVOTE, SLOW_READ
from harness.result import FaultRecord

DETAILS: Final = {
    GIVE_UP: "{:,} voters gave up waiting, and sent the same vote again",
    REVOTE: "{:,} voters gave up waiting, and cast another vote",
    SLOW_READ: "{:,} voters read their answers slowly",
}


def most_recasts(faults: Sequence[Fault]) -> int:
    """How often a vote can be cast again under these faults."""
    return int(any(fault.kind == REVOTE for fault in faults))


def records(
    faults: Sequence[Fault], met: Counter[int], duration_s: float
) -> tuple[FaultRecord, ...]:
    """One for each fault of the voters; it hit if there was one who behaved so."""
    return tuple(
        FaultRecord(
            kind=fault.kind,
            target=VOTERS,
            start_s=fault.at_s,
            end_s=min(fault.at_s + fault.for_s, duration_s),
            hit=met[number] > 0,
            detail=DETAILS[fault.kind].format(met[number]),
        )
        for number, fault in enumerate(faults)
        if target_of(fault) == VOTERS
    )
