"""One step of a capacity search: a whole trial at a constant rate, audited and judged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from harness.analysis.backlog import backlog
from harness.audit.examination import examine
from harness.capacity.outcome import StepResult
from harness.capacity.search import Step, Try, Verdict
from harness.errors import HistoryError
from harness.modes.mode import Mode
from harness.plan import Plan, with_changes
from harness.result import ModeResult
from harness.run_folder import RunFolder, TrialFolder
from harness.services.processes import Supervisor
from harness.services.targets import Existing
from harness.slo import SLO_FIGURES, Slo
from harness.trial import Progress, Stage, play

STEP_S: Final = 5.0  # ten of the flusher's intervals; at 100 votes/s, p99 is of 500
CONFIRM_S: Final = 2 * STEP_S
NOT_TAKEN: Final = 0.001
"""Of the votes sent, how many may be refused or remain unknown. A site that refuses quickly has a
fine latency; one vote in a thousand is what a restart costs."""
BACKLOG: Final = "backlog"
REFUSED: Final = "refused"
FEWEST_IN_FLIGHT: Final = 1.0  # with less, a gauge that is read now and then says little


class Steps:
    """Plays one mode's steps, each with fresh services, in folders of their own."""

    def __init__(
        self,
        plan: Plan,
        mode: Mode,
        folder: Path,
        supervisor: Supervisor,
        existing: Existing,
        progress: Progress,
        ceiling_per_s: float | None,
        *,
        keep: bool,
    ) -> None:
        """`plan`: everything but the rate; `keep`: leave ledgers and journals where they lie."""
        self._plan = plan
        self._mode = mode
        self._folder = folder
        self._supervisor = supervisor
        self._existing = existing
        self._progress = progress
        self._ceiling_per_s = ceiling_per_s
        self._keep = keep
        self.results: list[StepResult] = []

    def measure_ceiling(self) -> float:
        """What the generator can send, from a step at a trickle. Raises PollstormError."""
        trial = self._play(at_rate(self._plan, self._mode.name, 1.0, 1.0, 0), "ceiling")
        ceiling_per_s = trial.read_facts().ceiling_per_s
        assert ceiling_per_s is not None, "each trial without a known ceiling measures it"
        return ceiling_per_s

    def take(self, wanted: Try) -> Step:
        """Play it. Raises PollstormError when that fails."""
        number = len(self.results) + 1
        lasts_s = CONFIRM_S if wanted.confirming else STEP_S
        plan = at_rate(self._plan, self._mode.name, wanted.rate_per_s, lasts_s, number)
        trial = self._play(plan, f"{number:02d}-{wanted.rate_per_s:.0f}-per-s")
        result = judge(trial, plan, wanted)
        self.results.append(result)
        if not self._keep:
            for history in (trial.ledger, trial.journal, trial.ballots):
                history.unlink(missing_ok=True)
        return Step(Verdict(result.verdict), result.limited_by)

    def _play(self, plan: Plan, name: str) -> TrialFolder:
        folder = RunFolder.create(self._folder, plan, self._folder / self._mode.name / name)
        trial = folder.trial(self._mode.name)
        stage = Stage(
            plan, self._supervisor, self._existing, folder.logs, self._progress, self._ceiling_per_s
        )
        play(stage, self._mode, trial)
        return trial


def at_rate(plan: Plan, mode: str, rate_per_s: float, lasts_s: float, number: int) -> Plan:
    """The plan's deployment under a constant rate, without its faults; each step has its seed."""
    changes = {
        "modes": [mode],
        "repeat": 1,
        "duration_s": lasts_s,
        "seed": plan.seed + number,
        "arrivals.curve": "trickle",
        "arrivals.trickle_per_s": rate_per_s,
    }
    return with_changes(msgspec.structs.replace(plan, faults=()), changes, "capacity step")


def judge(trial: TrialFolder, plan: Plan, wanted: Try) -> StepResult:
    """What the trial says of its rate."""
    facts = trial.read_facts()
    result = examine(trial, plan).result
    accounts = result.accounts
    try:
        waiting = backlog(trial, facts)
        deepest, growth_per_s, grows = waiting.deepest, waiting.growth_per_s, waiting.grows
    except HistoryError:  # no journal: then nothing is known of a backlog
        deepest, growth_per_s, grows = 0, 0.0, False
    missed = missed_by(result, plan.slos(), grows=grows)
    invalid = result.verdict.measurement == "invalid"
    # Votes are accounted for whatever the generator did; times and rates are not.
    proven = [text for text, of_votes in missed if of_votes or not invalid]
    verdict: Verdict = Verdict.FAILED if proven else Verdict.INVALID if invalid else Verdict.PASSED
    gauge, expected = result.generator.in_flight_sampled, result.generator.in_flight_expected
    crowded = gauge is not None and expected is not None and expected >= FEWEST_IN_FLIGHT
    return StepResult(
        rate_per_s=wanted.rate_per_s,
        lasts_s=plan.duration_s,
        confirming=wanted.confirming,
        verdict=verdict.value,
        limited_by=proven[0] if proven else "",
        reasons=result.verdict.reasons,
        acknowledged_per_s=result.rates_per_s.acknowledged,
        p50_ms=result.latency_ms.p50,
        p99_ms=result.latency_ms.p99,
        counted_p99_s=result.counted_after_s.p99,
        lost=accounts.lost,
        refused=accounts.refused,
        unknown=accounts.recovered + accounts.absent,
        deepest_backlog=deepest,
        backlog_growth_per_s=growth_per_s,
        in_flight_residual=gauge / expected - 1 if crowded and gauge and expected else None,
        cpu_s_per_vote=sum(facts.cpu_s.values()) / accounts.sent if accounts.sent else None,
    )


def missed_by(result: ModeResult, slos: Sequence[Slo], *, grows: bool) -> list[tuple[str, bool]]:
    """The objectives that the trial missed, each with whether it is one of votes.

    Beside those given: nearly every vote is taken in, and the backlog does not grow.
    """
    accounts = result.accounts
    missed = [
        (slo.text, SLO_FIGURES[slo.figure] == "accounts")
        for slo, found in zip(slos, result.slo, strict=True)
        if not found.held
    ]
    not_taken = accounts.refused + accounts.absent + accounts.recovered + accounts.resurrected
    if not_taken > NOT_TAKEN * accounts.sent:
        missed.append((REFUSED, False))
    if grows or accounts.pending:
        missed.append((BACKLOG, False))
    return missed
