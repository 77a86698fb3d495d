"""The search for the highest rate that a mode sustains: a strategy, which measures nothing.

Theory of operation
    A rate is tried by playing a trial at it. From the first rate upwards it is doubled until one
    fails, or downwards halved until one passes; then the gap between the highest that passed and
    the lowest that failed is halved, geometrically, until it is narrow enough. Machines are noisy:
    while the gap is halved a rate is judged by the majority of up to three trials, and what has
    been found is confirmed by a longer trial. If that fails, its rate is the new upper bound and
    the search goes on below, where nothing may have passed yet.

    A rate above what the load generator can be trusted with is never used. If the highest usable
    one passes, the generator was the limit, and there is no upper bound. A trial whose measurement
    is invalid says nothing about the mode; it is repeated, and if that does not help, the rate
    counts as unusable: the search goes on below it as if it had failed, but it is no upper bound.
    The upper bound is the lowest rate that did fail, though it lie above an unusable one.

    Whoever plays the trials may run out of time. Then what has been found so far is confirmed, for
    which they keep some time back, and is the answer.
"""

from collections.abc import Generator
from contextlib import suppress
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

FACTOR: Final = 2.0  # between two rates while neither bound is known
VOTES: Final = 2  # trials of three that decide a rate
MOST_INVALID: Final = 2  # measurements in a row of one rate
MOST_STEPS: Final = 60  # trials of one mode: doubling, halving and all their repetitions are fewer
LOWEST_PER_S: Final = 1.0  # a mode that cannot take this much cannot take a poll


class Verdict(Enum):
    """What a trial says of its rate."""

    PASSED = "passed"
    FAILED = "failed"
    INVALID = "invalid"  # the generator was the bottleneck


class Step(NamedTuple):
    """One trial's judgement. `limited_by`: the objective that was missed, or `backlog`."""

    verdict: Verdict
    limited_by: str = ""


class Try(NamedTuple):
    """The trial to play next."""

    rate_per_s: float
    confirming: bool = False  # a longer one


class Found(NamedTuple):
    """What is known of a mode's capacity, in votes per second.

    `lower_per_s`: the highest rate that passed; None if none did. `upper_per_s`: the lowest that
    failed; None if none did. `limited_by`: what the upper bound missed; without one `generator`
    when that was the limit, `budget` when nothing failed before time ran out.
    """

    lower_per_s: float | None
    upper_per_s: float | None
    limited_by: str
    confirmed: bool  # by a longer trial at the lower bound


class BudgetSpent(Exception):
    """Thrown into a search that has time left for a confirming trial, and no other."""


Search: TypeAlias = Generator[Try, Step, Found]


def search(start_per_s: float, usable_per_s: float, precision: float) -> Search:
    """Find the capacity to within `precision`, the largest ratio of upper to lower bound less 1.

    `usable_per_s`: the highest rate at which the generator can be trusted.
    """
    return _Searching(min(start_per_s, usable_per_s), usable_per_s, precision).run()


class _Searching:
    """The bounds as they come closer."""

    def __init__(self, start_per_s: float, usable_per_s: float, precision: float) -> None:
        self._rate_per_s = start_per_s
        self._usable_per_s = usable_per_s
        self._precision = precision
        self._passed: list[float] = []
        self._failed: dict[float, str] = {}  # with what each missed
        self._unusable: set[float] = set()  # of which no trial was sound
        self._confirmed = False
        self._confirming = False
        self._steps = 0

    def run(self) -> Search:
        try:
            yield from self._bracket(self._rate_per_s)
            while True:  # each time round lowers the edge, or ends it
                yield from self._narrow()
                if self._lower is None or (yield from self._confirm()):
                    break
                edge = self._edge
                if self._lower is None and edge is not None and edge > LOWEST_PER_S:
                    yield from self._bracket(max(edge / FACTOR, LOWEST_PER_S))
        except BudgetSpent:
            if self._lower is not None and not self._confirming:
                with suppress(BudgetSpent):
                    yield from self._confirm()
        return self._found()

    @property
    def _edge(self) -> float | None:
        """The lowest rate that failed or is unusable: the search goes on below it."""
        return min((*self._failed, *self._unusable), default=None)

    @property
    def _lower(self) -> float | None:
        """The highest rate that passed, below the edge."""
        edge = self._edge
        return max((rate for rate in self._passed if edge is None or rate < edge), default=None)

    def _bracket(self, rate_per_s: float) -> Generator[Try, Step, None]:
        while True:  # the rate doubles up to what is usable, or halves down to the lowest
            passed = yield from self._judge(rate_per_s, votes=1)
            if self._lower is not None and self._edge is not None:
                return
            if passed and rate_per_s >= self._usable_per_s:
                return
            if not passed and rate_per_s <= LOWEST_PER_S:
                return
            factor = FACTOR if passed else 1 / FACTOR
            rate_per_s = min(max(rate_per_s * factor, LOWEST_PER_S), self._usable_per_s)

    def _narrow(self) -> Generator[Try, Step, None]:
        while (
            (edge := self._edge) is not None
            and (lower := self._lower) is not None
            and edge / lower > 1 + self._precision
        ):
            yield from self._judge((edge * lower) ** 0.5, votes=VOTES)

    def _confirm(self) -> Generator[Try, Step, bool]:
        lower = self._lower
        assert lower is not None
        self._confirming = True
        self._confirmed = yield from self._judge(lower, votes=1, confirming=True)
        self._confirming = False
        return self._confirmed

    def _judge(
        self, rate_per_s: float, votes: int, *, confirming: bool = False
    ) -> Generator[Try, Step, bool]:
        """Play trials at the rate until one verdict has so many; whether it passed."""
        passed = failed = invalid = 0
        limited_by = ""
        while passed < votes and failed < votes and invalid < MOST_INVALID:
            if self._steps == MOST_STEPS:
                raise BudgetSpent
            self._steps += 1
            step = yield Try(rate_per_s, confirming)
            passed += step.verdict is Verdict.PASSED
            failed += step.verdict is Verdict.FAILED
            invalid += step.verdict is Verdict.INVALID
            limited_by = step.limited_by or limited_by
        if passed >= votes:
            self._passed.append(rate_per_s)
            return True
        if failed >= votes:
            self._failed[rate_per_s] = limited_by
        else:
            self._unusable.add(rate_per_s)
        return False

    def _found(self) -> Found:
        lower, upper = self._lower, min(self._failed, default=None)
        if upper is not None:
            limited_by = self._failed[upper]
        elif self._unusable or (lower is not None and lower >= self._usable_per_s):
            limited_by = "generator"
        else:
            limited_by = "budget"
        return Found(lower, upper, limited_by, self._confirmed)
