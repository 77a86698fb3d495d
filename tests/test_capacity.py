"""The parts of a capacity study, from points that are made by hand; and one step for real."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.analysis.scalability import throughput
from harness.capacity.breakeven import line_of
from harness.capacity.outcome import (
    Bounds,
    BreakEven,
    BreakEvenPoint,
    CapacityResult,
    Estimate,
    ModeCapacity,
    ModeScaling,
    PatienceCell,
    ScalingPoint,
    Sizing,
    StepResult,
)
from harness.capacity.page import patience_sentence, write_page
from harness.capacity.patience import summarised
from harness.capacity.search import Try
from harness.capacity.sizing import (
    LEAST_MIB,
    backlog_for,
    memory_for,
    processes_for,
    shards_for,
    threads_for,
)
from harness.capacity.stand import Stand
from harness.cli.capacity import forecast_of, parts_of, seconds
from harness.errors import Exit, PlanError
from harness.modes.mode import find_mode
from harness.plan import Plan, Site
from harness.services.processes import Supervisor
from harness.services.targets import Existing

STEP = StepResult(
    rate_per_s=400.0,
    lasts_s=5.0,
    confirming=False,
    verdict="passed",
    limited_by="",
    reasons=(),
    acknowledged_per_s=399.0,
    p50_ms=2.0,
    p99_ms=50.0,
    counted_p99_s=0.6,
    lost=0,
    refused=0,
    unknown=0,
    takeovers=0,
    deepest_backlog=240,
    backlog_growth_per_s=0.0,
    in_flight_residual=0.01,
    cpu_s_per_vote=0.001,
)
MODE = ModeCapacity(
    capacity_per_s=Bounds(lower=400.0, upper=440.0),
    limited_by="p99<250ms",
    confirmed=True,
    steps=(STEP,),
)
RESULT = CapacityResult(
    schema_version=1,
    command="pollstorm capacity",
    started_utc="2026-01-01T00:00:00+00:00",
    slo=("p99<250ms", "lost=0"),
    ceiling_per_s=10_000.0,
    usable_per_s=7_000.0,
    budget_s=600.0,
    modes={"direct": MODE, "ticket": MODE},
)


def point(commit_ms: float, ratio: float) -> BreakEvenPoint:
    return BreakEvenPoint(
        commit_wait_us=0,
        results_per_vote=1.0,
        commit_ms=commit_ms,
        direct_per_s=100.0,
        queue_per_s=100.0 * ratio,
    )


def test_the_break_even_lies_between_the_points_where_the_lead_changes() -> None:
    line = line_of([point(16.0, 2.0), point(1.0, 0.5), point(4.0, 1.0 / 2**0.5)], 1.0)
    assert line.wins == "from"
    assert line.from_commit_ms == pytest.approx(4.0 * 4 ** (1 / 3))


def test_who_leads_at_every_point_wins_always() -> None:
    assert line_of([point(1.0, 2.0), point(9.0, 3.0)], 1.0).wins == "always"
    assert line_of([point(1.0, 0.2), point(9.0, 0.3)], 1.0).wins == "never"
    assert line_of([], 1.0).wins == "never"


def cell(patience_s: float, stall_s: float, lost: float) -> PatienceCell:
    return PatienceCell(
        patience_s=patience_s,
        stall_s=stall_s,
        rate_per_s=100.0,
        lost=lost,
        takeovers=1,
        trials=1,
        simulated=True,
    )


def test_a_patience_is_recommended_only_if_no_longer_one_lost_a_vote() -> None:
    grid = [cell(0.5, 0.3, 0), cell(1, 0.3, 0), cell(2, 0.3, 0), cell(4, 0.3, 0)]
    grid += [cell(0.5, 1.2, 3), cell(1, 1.2, 2), cell(2, 1.2, 0), cell(4, 1.2, 0)]
    grid += [cell(0.5, 2.4, 0), cell(1, 2.4, 5), cell(2, 2.4, 1), cell(4, 2.4, 0)]
    found = summarised(grid)
    assert (found.recommended_s, found.never_below_s) == (4, 2)
    assert found.shortest_harmful_stall_s == 1.2
    assert patience_sentence(found) == (
        "From 4 s on, no stall of up to 2.4 s lost a vote. "
        "Never less than 2 s: then even a stall of 1.2 s loses some."
    )


def test_without_any_loss_every_patience_will_do_and_with_too_many_none() -> None:
    found = summarised([cell(0.5, 0.3, 0), cell(1, 0.3, 0)])
    assert (found.recommended_s, found.never_below_s) == (0.5, None)
    assert summarised([cell(0.5, 0.3, 1), cell(1, 0.3, 2)]).recommended_s is None


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def law(single: float, contention: float, coherency: float) -> ModeScaling:
    best = np.sqrt((1 - contention) / coherency) if coherency else None
    return ModeScaling(
        points=(),
        single_per_s=estimate(single),
        contention=estimate(contention),
        coherency=estimate(coherency),
        best_processes=None if best is None else estimate(float(best)),
    )


def test_processes_are_the_fewest_that_take_the_rate_by_the_law() -> None:
    assert processes_for(law(100.0, 0.0, 0.0), 350.0) == 4
    found = processes_for(law(100.0, 0.1, 0.01), 250.0)
    assert found is not None
    rates = throughput(np.array([found - 1.0, found]), 100.0, 0.1, 0.01)
    assert rates[0] < 250.0 <= rates[1]


def test_no_number_of_processes_is_named_beyond_what_the_law_gives() -> None:
    assert processes_for(law(100.0, 0.2, 0.05), 1000.0) is None
    assert processes_for(ModeScaling(points=()), 1.0) is None
    assert processes_for(None, 1.0) is None


def test_threads_backlog_and_memory_follow_from_what_was_measured() -> None:
    assert threads_for([STEP], 800.0, processes=2) == 40  # 800/s x 50 ms, twice, in two processes
    assert threads_for([], 800.0, processes=2) == 4
    assert backlog_for([STEP], 800.0, interval_s=0.5) == 480  # 240 at half the rate
    assert backlog_for([STEP], 800.0, interval_s=2.0) == 1600
    plan = Plan(scenario="test")
    assert memory_for(plan, 100) == LEAST_MIB
    assert memory_for(plan, 1_000_000) > 2 * 96  # no chunk is smaller than 96 bytes


def test_the_simulator_says_how_many_queues_a_forecast_takes() -> None:
    plan = Plan(scenario="test", slo=("p99<250ms",), site=Site(workers=2))
    assert shards_for(plan, find_mode("ticket"), 100.0, processes=2) == 1


@pytest.mark.parametrize(("text", "value"), [("90s", 90.0), ("6m", 360.0), ("0.5h", 1800.0)])
def test_a_budget_is_read_with_its_unit(text: str, value: float) -> None:
    assert seconds(text, "--budget") == value


@pytest.mark.parametrize("text", ["", "6", "6 minutes", "-6m", "0s", "nanm"])
def test_a_budget_without_a_time_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="--budget"):
        seconds(text, "--budget")


def test_parts_are_played_in_their_order_with_the_search_first() -> None:
    assert parts_of("patience,scaling", sized=False) == ("search", "scaling", "patience")
    assert parts_of("search", sized=True) == ("search", "sizing")
    with pytest.raises(PlanError, match="did you mean 'scaling'"):
        parts_of("scalin", sized=False)
    with pytest.raises(PlanError, match="--forecast"):
        parts_of("sizing", sized=False)


@pytest.mark.parametrize("text", ["", "lots", "0/s", "-5/s", "5/m"])
def test_a_forecast_must_be_a_rate(text: str) -> None:
    with pytest.raises(PlanError, match="--forecast"):
        forecast_of(text, {"traffic": None, "match": None, "scale": None})


def test_a_study_is_inconclusive_while_a_lower_bound_is_not_confirmed() -> None:
    doubtful = msgspec.structs.replace(MODE, confirmed=False)
    takes_nothing = msgspec.structs.replace(
        MODE, confirmed=False, capacity_per_s=Bounds(lower=None, upper=1.0)
    )
    assert RESULT.exit_code == Exit.OK
    for mode, code in ((doubtful, Exit.INCONCLUSIVE), (takes_nothing, Exit.OK)):
        result = msgspec.structs.replace(RESULT, modes={"direct": MODE, "classic": mode})
        assert result.exit_code == code


def test_the_page_shows_every_part_that_there_is(tmp_path: Path) -> None:
    points = tuple(
        ScalingPoint(processes=n, offered_per_s=900, acknowledged_per_s=100.0 * n, p50_ms=1)
        for n in range(1, 5)
    )
    whole = msgspec.structs.replace(
        RESULT,
        forecast_per_s=300.0,
        scaling={"direct": msgspec.structs.replace(law(100.0, 0.1, 0.01), points=points)},
        break_even=BreakEven(
            queue="ticket",
            points=(point(1.0, 0.5), point(9.0, 2.0)),
            lines=(line_of([point(1.0, 0.5), point(9.0, 2.0)], 1.0),),
        ),
        patience=summarised([cell(0.5, 1.2, 3), cell(2, 1.2, 0)]),
        sizing={
            "ticket": Sizing(
                fits=True, headroom=0.33, processes=2, threads=20, database_connections=46,
                backlog_votes=480, memcached_mib=64, drain_s=1.2, shards=None,
            )
        },
    )  # fmt: skip
    page = write_page(tmp_path, whole).read_text()
    for words in (
        "votes a second",
        "ticket takes more votes from 3.00 ms up",
        "Never less than 2 s",
        "more than 16",
        "contention",
    ):
        assert words in page
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5
    bare = write_page(tmp_path, RESULT).read_text()
    assert "contention" not in bare


@pytest.mark.services
def test_a_step_is_a_whole_trial_that_is_audited(supervisor: Supervisor, tmp_path: Path) -> None:
    class Quiet:
        def step(self, trial: str, number: int, text: str) -> None: ...
        def load(self, trial: str, elapsed_s: float, duration_s: float) -> None: ...

    plan = Plan(scenario="test", slo=("lost=0", "counted_p99<5s", "p50<1ms"))
    stand = Stand(plan, tmp_path, supervisor, Existing(), Quiet(), keep=False)
    stand.ceiling_per_s = 10_000.0
    step = stand.step(find_mode("ticket"), Try(100.0), 2.0, {"queue.slot_grace_s": 0.03})
    assert step.acknowledged_per_s > 50
    assert (step.lost, step.refused, step.unknown) == (0, 0, 0)
    assert step.deepest_backlog > 0
    assert step.limited_by in ("p50<1ms", "")
    assert step.counted_p99_s is not None
    assert step.cpu_s_per_vote
    (folder,) = tmp_path.iterdir()
    assert not list(folder.glob("ticket/*.parquet"))
    assert (folder / "ticket" / "trial.json").is_file()
