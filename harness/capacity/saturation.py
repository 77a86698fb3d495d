"""More votes than a mode can take: how much it takes then is its throughput at saturation.

Twice what it sustains within the objectives is offered first, and no more requests than that where
more of them are for results pages: a site that has to refuse far more than it takes, takes less. A
mode whose answers become slow long before it is full takes all of that, which says nothing; then
twice as much is offered, as far as the generator can be trusted, and at once when the same is tried
again.
"""

from typing import Any, Final

from harness.capacity.outcome import CapacityResult, StepResult
from harness.capacity.search import Try
from harness.capacity.stand import STEP_S, Stand
from harness.modes.mode import Mode

OVERLOAD: Final = 2.0  # times what was taken: busy throughout, and the rest is refused
UNKNOWN_PER_S: Final = 2000.0  # offered where no capacity was found
READERS: Final = "arrivals.results_per_vote"


class Saturation:
    """Drives modes beyond what they can take, and remembers how much that was."""

    def __init__(self, stand: Stand, found: CapacityResult, ends_s: float) -> None:
        self._stand = stand
        self._ends_s = ends_s
        self._known_per_s = {
            name: mode.capacity_per_s.upper or mode.capacity_per_s.lower
            for name, mode in found.modes.items()
        }
        self._offered_per_s: dict[tuple[str, str], float] = {}

    def drive(self, mode: Mode, changes: dict[str, Any]) -> StepResult:
        """A trial at saturation, with other values at some of the plan's keys; of several the last.

        Where even the highest trusted rate was taken, the generator could not keep up, or there
        was no time for a higher rate, it is not saturated.
        """
        stand = self._stand
        usual = stand.plan.arrivals.results_per_vote
        readers = changes.get(READERS, usual)
        crowd = (1 + usual) / (1 + readers)  # votes among as many requests as usual
        most_per_s = stand.usable_per_s * crowd
        known_per_s = self._known_per_s.get(mode.name) or UNKNOWN_PER_S
        setting = mode.name, repr(sorted(changes.items()))
        offered_per_s = self._offered_per_s.get(setting, OVERLOAD * known_per_s * min(1.0, crowd))
        while True:  # the rate doubles, up to what the generator can be trusted with
            offered_per_s = min(offered_per_s, most_per_s)
            self._offered_per_s[setting] = offered_per_s
            step = stand.step(mode, Try(offered_per_s), STEP_S, changes)
            in_vain = not step.sound or offered_per_s >= most_per_s
            if step.saturated or in_vain or not stand.has_time(self._ends_s):
                return step
            offered_per_s *= OVERLOAD
