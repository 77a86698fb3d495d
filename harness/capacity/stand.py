"""The test stand: plays trials at a constant rate, each with fresh services, and judges them.

A trial is audited as that of any run is. All parts of a study measure here.
"""

from pathlib import Path
from time import monotonic
from typing import Any, Final

import msgspec

from harness.analysis.backlog import Backlog, backlog
from harness.audit.examination import examine
from harness.capacity.objectives import sees_ballots
from harness.capacity.outcome import StepResult
from harness.capacity.search import LOWEST_PER_S, Try, Verdict
from harness.errors import HistoryError
from harness.foreign import FOREIGN, aimed_at_target, play
from harness.load.meeting import within_reach
from harness.modes.mode import Mode, find_mode
from harness.plan import Plan, with_changes
from harness.result import Generator, ModeResult
from harness.run_folder import RunFolder, TrialFacts, TrialFolder
from harness.services.processes import Supervisor
from harness.services.targets import Existing
from harness.slo import SLO_FIGURES
from harness.trial import Progress, Stage

STEP_S: Final = 5.0  # ten of the flusher's intervals; at 100 votes/s, p99 is of 500
CONFIRM_S: Final = 2 * STEP_S
TRUSTED: Final = 0.7
"""Of the generator's ceiling. Above it, its own queueing begins to show in the target's latency."""
NOT_TAKEN: Final = 0.001
"""Of the votes sent, how many may be refused or remain unknown. A site that refuses quickly has a
fine latency; one vote in a thousand is what a restart costs."""
BACKLOG: Final = "backlog"
REFUSED: Final = "refused"
FIRST_TRIAL_S: Final = 12.0  # until one took longer: services, load, drain, audit
FEWEST_IN_FLIGHT: Final = 1.0  # with less, a gauge that is read now and then says little
OURS: Final = {"target.url": ""}
"""What makes a plan one of our own site: somebody else's server has no route that does nothing, and
there the ceiling is measured."""


class Stand:
    """Plays trials in folders of their own, one after the other."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        supervisor: Supervisor,
        existing: Existing,
        progress: Progress,
        *,
        keep: bool,
    ) -> None:
        """`plan`: everything but the rate; `keep`: leave ledgers and journals where they lie."""
        self.plan = plan
        self._folder = folder
        self._supervisor = supervisor
        self._existing = existing
        self._progress = progress
        self._keep = keep
        self._trials = 0
        self.longest_s = FIRST_TRIAL_S
        self.ceiling_per_s: float | None = None
        """Requests per second that the generator can send to a route that does nothing."""

    @property
    def usable_per_s(self) -> float:
        """The highest rate of votes at which the generator can be trusted."""
        assert self.ceiling_per_s is not None, "the ceiling is measured first"
        return TRUSTED * self.ceiling_per_s / (1 + self.plan.arrivals.results_per_vote)

    def has_time(self, ends_s: float, trials: int = 1) -> bool:
        """Whether so many trials, as long as the longest so far, end by then."""
        return monotonic() + trials * self.longest_s <= ends_s

    def measure_ceiling(self, mode: Mode) -> None:
        """By a trial at a trickle. Raises PollstormError."""
        mode = find_mode("direct") if mode is FOREIGN else mode
        trial, _ = self._play(mode, Try(LOWEST_PER_S), 1.0, OURS)
        self.ceiling_per_s = trial.read_facts().ceiling_per_s
        self._tidy(trial)

    def step(
        self, mode: Mode, wanted: Try, lasts_s: float, changes: dict[str, Any] | None = None
    ) -> StepResult:
        """Play the rate, with other values at some of the plan's dotted keys, and judge it.

        Raises PollstormError when it cannot be played.
        """
        begun_s = monotonic()
        trial, plan = self._play(mode, wanted, lasts_s, changes or {})
        result = judge(trial, plan, wanted)
        self._tidy(trial)
        self.longest_s = max(self.longest_s, monotonic() - begun_s)
        return result

    def _play(
        self, mode: Mode, wanted: Try, lasts_s: float, changes: dict[str, Any]
    ) -> tuple[TrialFolder, Plan]:
        self._trials += 1
        plan = at_rate(self.plan, mode.name, wanted.rate_per_s, lasts_s, self._trials, changes)
        name = f"{self._trials:03d}-{mode.name}-{wanted.rate_per_s:.0f}-per-s"
        folder = RunFolder.create(self._folder, plan, self._folder / name)
        trial = folder.trial(mode.name)
        stage = Stage(
            plan, self._supervisor, self._existing, folder.logs, self._progress, self.ceiling_per_s
        )
        play(stage, mode, trial)
        return trial, plan

    def _tidy(self, trial: TrialFolder) -> None:
        for history in () if self._keep else trial.path.glob("*.parquet"):
            history.unlink()


def at_rate(
    plan: Plan,
    mode: str,
    rate_per_s: float,
    lasts_s: float,
    number: int,
    more: dict[str, Any],
) -> Plan:
    """The plan's deployment under a constant rate, without its faults; each trial has its seed."""
    changes = {
        "modes": [mode],
        "repeat": 1,
        "duration_s": lasts_s,
        "seed": plan.seed + number,
        "arrivals.curve": "trickle",
        "arrivals.trickle_per_s": rate_per_s,
        "site.journal": True,  # without it nobody knows of a backlog
        **more,
    }
    plan = msgspec.structs.replace(plan, faults=())
    return within_reach(aimed_at_target(with_changes(plan, changes, "capacity step")))


def judge(trial: TrialFolder, plan: Plan, wanted: Try) -> StepResult:
    """What the trial says of its rate."""
    facts = trial.read_facts()
    result = examine(trial, plan).result
    accounts = result.accounts
    waiting = _backlog(trial, facts)
    missed = missed_by(result, plan, grows=waiting is not None and waiting.grows)
    sound = result.verdict.measurement == "sound"
    # Votes are accounted for whatever the generator did; times and rates are not.
    proven = [text for text, of_votes in missed if of_votes or sound]
    verdict: Verdict = Verdict.FAILED if proven else Verdict.PASSED if sound else Verdict.INVALID
    spent_s = sum(facts.cpu_s.values()) if facts.cpu_s else None  # a target does not tell
    return StepResult(
        rate_per_s=wanted.rate_per_s,
        lasts_s=plan.duration_s,
        confirming=wanted.confirming,
        verdict=verdict.value,
        limited_by=proven[0] if proven else "",
        sound=sound,
        reasons=result.verdict.reasons,
        acknowledged_per_s=result.rates_per_s.acknowledged,
        p50_ms=result.latency_ms.p50,
        p99_ms=result.latency_ms.p99,
        counted_p99_s=result.counted_after_s.p99,
        lost=accounts.lost,
        refused=accounts.refused,
        unknown=accounts.recovered + accounts.absent,
        takeovers=result.lock.takeovers,
        deepest_backlog=None if waiting is None else waiting.deepest,
        backlog_growth_per_s=None if waiting is None else waiting.growth_per_s,
        in_flight_residual=residual(result.generator),
        cpu_s_per_vote=spent_s / accounts.sent if spent_s is not None and accounts.sent else None,
    )


def _backlog(trial: TrialFolder, facts: TrialFacts) -> Backlog | None:
    """None without a journal: a target keeps none; another trial is invalid then."""
    try:
        return backlog(trial, facts)
    except HistoryError:
        return None


def residual(generator: Generator) -> float | None:
    """Little's law: requests under way as sampled, over those expected, less 1.

    None where too few were expected, or nobody counted.
    """
    sampled, expected = generator.in_flight_sampled, generator.in_flight_expected
    if sampled is None or expected is None or expected < FEWEST_IN_FLIGHT:
        return None
    return sampled / expected - 1


def missed_by(result: ModeResult, plan: Plan, *, grows: bool) -> list[tuple[str, bool]]:
    """The objectives that the trial missed, each with whether it is one of votes.

    Beside those given: nearly every vote is taken in, and the backlog does not grow. Where nobody
    sees the ballots, nobody knows of a backlog either.
    """
    accounts = result.accounts
    missed = [
        (slo.text, SLO_FIGURES[slo.figure] == "accounts")
        for slo, found in zip(plan.slos(), result.slo, strict=True)
        if not found.held
    ]
    not_taken = accounts.refused + accounts.absent + accounts.recovered + accounts.resurrected
    if not_taken > NOT_TAKEN * accounts.sent:
        missed.append((REFUSED, False))
    if grows or (accounts.pending and sees_ballots(plan)):
        missed.append((BACKLOG, False))
    return missed
