"""The clock of another machine, told from ours by asking for the time: pure arithmetic.

CLOCK_MONOTONIC begins at each machine's own boot, and two of them drift apart. Who is asked for its
time answers somewhere between our question and the answer's coming, so that the difference is
known to within half of that while (Cristian, Distributed Computing 3, 1989). It is measured before
the load and after it. What lies between is drawn out evenly, and what the difference changed by
meanwhile, evenly or not, is added to what the times may be off by.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]

MOST_DRIFT: Final = 2 * 500e-6
"""The kernel lets each of the two clocks be made faster or slower by half of that (adjtimex(2),
`tick` left alone). It stands for the second measurement where a worker has gone before it."""


class Exchange(NamedTuple):
    """One question for the time."""

    asked_ns: int  # by our clock
    came_ns: int  # by ours, too
    theirs_ns: int

    @property
    def lasted_ns(self) -> int:
        return self.came_ns - self.asked_ns


class Difference(NamedTuple):
    """How far their clock is ahead of ours at a moment."""

    at_ns: int  # by our clock
    ahead_ns: int
    within_ns: int  # the truth is no further from it


def difference(exchanges: Sequence[Exchange]) -> Difference:
    """By the quickest of several, at least one."""
    best = min(exchanges, key=lambda exchange: exchange.lasted_ns)
    middle_ns = (best.asked_ns + best.came_ns) // 2
    return Difference(middle_ns, best.theirs_ns - middle_ns, -(-best.lasted_ns // 2))


class Translation(NamedTuple):
    """From their clock's times into ours, over one load."""

    begin: Difference
    end: Difference

    @property
    def within_ns(self) -> int:
        """No time is further off than that."""
        changed_ns = abs(self.end.ahead_ns - self.begin.ahead_ns)
        return max(self.begin.within_ns, self.end.within_ns) + changed_ns

    def ours(self, theirs_ns: Times) -> Times:
        """Our times for theirs."""
        begin, end = self.begin, self.end
        lasts_ns = end.at_ns - begin.at_ns
        per_ns = (end.ahead_ns - begin.ahead_ns) / lasts_ns if lasts_ns > 0 else 0.0
        since_ns = theirs_ns - (begin.at_ns + begin.ahead_ns)
        drift_ns = np.rint(since_ns * per_ns).astype(np.int64)
        ours_ns: Times = theirs_ns - begin.ahead_ns - drift_ns
        return ours_ns


def until(begin: Difference, now_ns: int) -> Translation:
    """Where no second measurement can be had: the clocks have drifted as far as clocks may."""
    drift_ns = round(MOST_DRIFT * (now_ns - begin.at_ns))
    return Translation(begin, Difference(now_ns, begin.ahead_ns, begin.within_ns + drift_ns))
