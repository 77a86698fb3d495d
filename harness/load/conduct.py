"""How voters behave while a fault of theirs lasts: decided by when their arrival was planned.

    give-up     no answer in time: the connection is closed, and the same vote is sent again
    revote      the same, but what is sent again is a new vote with an id of its own
    slow-read   the answer is read a piece at a time, with a pause before each

What is given up is under way all the same: the site may count it. A vote that was cast again has
the id of the first with a number in it (`vote.recast`), so the audit knows whose it is.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from harness.fault import VOTERS, Fault, target_of

GIVE_UP: Final = "give-up"
REVOTE: Final = "revote"
SLOW_READ: Final = "slow-read"
DELAY_S: Final = 0.3  # of a fault that does not say; a finger gets impatient about then
NS_PER_S: Final = 1_000_000_000


class Conduct(NamedTuple):
    """One fault of the voters. Times are ns after the load's start."""

    number: int  # of the fault, among those of the plan
    kind: str
    begin_ns: int
    end_ns: int
    delay_s: float  # until they give up, or before each piece

    @property
    def is_hasty(self) -> bool:
        return self.kind in (GIVE_UP, REVOTE)


def conducts(faults: Sequence[Fault]) -> tuple[Conduct, ...]:
    """What the voters do otherwise, and when."""
    return tuple(
        Conduct(
            number,
            fault.kind,
            round(fault.at_s * NS_PER_S),
            round((fault.at_s + fault.for_s) * NS_PER_S),
            fault.delay_s or DELAY_S,
        )
        for number, fault in enumerate(faults)
        if target_of(fault) == VOTERS
    )


def conduct_at(found: Sequence[Conduct], planned_ns: int) -> Conduct | None:
    """How the voter behaves whose arrival is planned then, if otherwise than usual."""
    for conduct in found:
        if conduct.begin_ns <= planned_ns < conduct.end_ns:
            return conduct
    return None
