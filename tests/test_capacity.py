"""Scaling, sizing and the page of a capacity study, from points made by hand; a step for real."""

from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from harness.analysis.scalability import throughput
from harness.capacity.breakeven import concluded
from harness.capacity.outcome import (
    Bounds,
    CapacityResult,
    Estimate,
    ModeScaling,
    Need,
    Range,
    ScalingPoint,
    Sizing,
)
from harness.capacity.page import write_page
from harness.capacity.patience import Cell, Loss, mapped
from harness.capacity.scaling import fitted
from harness.capacity.search import Try
from harness.capacity.sizing import (
    LEAST_MIB,
    NO_TIME,
    backlog_for,
    drain_for,
    flush_interval_for,
    headroom_of,
    memory_for,
    processes_for,
    shards_for,
    threads_for,
)
from harness.capacity.stand import BACKLOG, Stand, at_rate, missed_by, residual
from harness.capacity.wording import (
    little_sentence,
    played_sentences,
    sentence,
    sustained_sentence,
)
from harness.cli.capacity_table import print_capacity
from harness.errors import Exit
from harness.modes.mode import find_mode
from harness.plan import FlusherPlan, Plan, Site, TargetPlan
from harness.result import Generator
from harness.services.processes import Supervisor
from harness.services.targets import Existing
from tests.results import mode_result
from tests.studied import MODE, RESULT, STEP, point


def law(single: float, contention: float, coherency: float, noise: float = 0.0) -> ModeScaling:
    random = np.random.default_rng(1)
    return fitted(
        [
            ScalingPoint(
                processes=n,
                offered_per_s=9e9,
                acknowledged_per_s=float(
                    throughput(np.array([float(n)]), single, contention, coherency)[0]
                    * (1 + random.normal(0, noise))
                ),
                p50_ms=1,
                saturated=True,
            )
            for n in (1, 2, 3, 4, 6, 8)
        ],
        seed=1,
    )


def test_a_mode_sustains_the_most_only_if_no_other_s_bounds_reach_its_own() -> None:
    def said(lower: float | None, upper: float | None) -> str:
        bounds = Bounds(lower=lower, upper=upper)
        other = msgspec.structs.replace(MODE, capacity_per_s=bounds)
        return sentence(msgspec.structs.replace(RESULT, modes={"direct": MODE, "ticket": other}))

    assert said(200.0, 400.0) == "direct sustains the most: 400 to 440 votes a second."
    assert said(500.0, None) == "ticket sustains the most: 500 or more votes a second."
    assert "open, as the bounds overlap: direct 400 to 440, ticket 200 to 410" in said(200.0, 410.0)
    assert said(None, None) == "direct sustains the most: 400 to 440 votes a second."


def just(value: int) -> Need:
    return Need(value=value, low=value, high=value)


SUSTAINED = Bounds(lower=100.0, upper=None)  # by one process


def test_processes_are_the_fewest_that_take_the_rate_by_the_law() -> None:
    proportional = law(100.0, 0.0, 0.0)
    assert processes_for(proportional, SUSTAINED, 1, 350.0, seed=1) == just(4)
    between = Bounds(lower=100.0, upper=200.0)
    found = processes_for(proportional, between, 1, 350.0, seed=1)
    assert found == Need(value=4, low=2, high=4)
    # Two were tried, and sustain half of what they take at saturation.
    assert processes_for(proportional, SUSTAINED, 2, 340.0, seed=1) == just(7)
    noisy = law(100.0, 0.05, 0.01, noise=0.05)
    found = processes_for(noisy, SUSTAINED, 1, 350.0, seed=1)
    assert found is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert found.low < found.high
    nearly = processes_for(noisy, SUSTAINED, 1, 390.0, seed=1)
    assert nearly is not None
    assert nearly.high is None  # some of the laws that might have been give no such number


def test_no_number_of_processes_is_named_beyond_what_the_law_gives() -> None:
    steep = law(100.0, 0.2, 0.05)
    assert processes_for(steep, SUSTAINED, 1, 1000.0, seed=1) is None
    assert processes_for(steep, Bounds(lower=None, upper=1.0), 1, 1.0, seed=1) is None
    assert processes_for(ModeScaling(points=()), SUSTAINED, 1, 1.0, seed=1) is None
    assert processes_for(None, SUSTAINED, 1, 1.0, seed=1) is None


def test_a_throughput_of_which_more_could_not_be_offered_is_no_point_of_the_law() -> None:
    points = law(100.0, 0.1, 0.01).points
    limited = [msgspec.structs.replace(point, saturated=False) for point in points]
    why = fitted([*points[:3], *limited[3:]], seed=1).without_law
    assert "4 different numbers" in why
    assert "3 of 6 trials were not saturated" in why
    assert fitted(points, seed=1).without_law == ""


def test_threads_backlog_and_memory_follow_from_what_was_measured() -> None:
    slower = msgspec.structs.replace(STEP, p99_ms=70.0, deepest_backlog=300)
    # 800/s x 50 ms, twice, in two processes; and by the trials' p99
    assert threads_for([STEP], 800.0, processes=2) == Need(value=40, low=40, high=40)
    assert threads_for([STEP, slower], 800.0, processes=2) == Need(value=48, low=40, high=56)
    assert threads_for([], 800.0, processes=2) == Need(value=4, low=4, high=4)
    # 240 at half the rate
    assert backlog_for([STEP, slower], 800.0, 0.5) == Need(value=600, low=480, high=600)
    assert backlog_for([STEP], 800.0, interval_s=2.0).value == 1600
    bounds = Bounds(lower=400.0, upper=600.0)
    assert drain_for(Need(value=600, low=480, high=600), bounds) == Range(low=0.8, high=1.5)
    assert headroom_of(bounds, 400.0) == Range(low=0.0, high=0.5)
    assert headroom_of(Bounds(lower=400.0, upper=None), 200.0) == Range(low=1.0, high=None)
    plan = Plan(scenario="test")
    assert memory_for(plan, 100) == LEAST_MIB
    assert memory_for(plan, 1_000_000) > 2 * 96  # no chunk is smaller than 96 bytes


def test_the_simulator_says_how_many_queues_a_forecast_takes() -> None:
    plan = Plan(scenario="test", slo=("p99<250ms",), site=Site(workers=2))
    found = shards_for(plan, find_mode("ticket"), 100.0, workers=2, ends_s=inf)
    assert found == (just(1), "")
    assert shards_for(plan, find_mode("ticket"), 100.0, workers=2, ends_s=0.0) == (None, NO_TIME)


def test_the_flush_interval_is_the_longest_that_counts_votes_in_time() -> None:
    def plan(*slo: str, processes: int = 1) -> Plan:
        flusher = FlusherPlan(interval_s=0.5, processes=processes)
        return Plan(scenario="test", slo=slo, flusher=flusher)

    def interval_s(found: Estimate | None) -> tuple[float, float, float | None]:
        assert found is not None
        return found.value, found.low, found.high

    # 0.1 s beyond the interval, for the 200 votes of one: 0.5 ms each. At 1,000/s a drain takes
    # half an interval.
    found = flush_interval_for(plan("counted_p99<6s"), [STEP], 1000.0)
    assert interval_s(found) == pytest.approx((4.0, 4.0, 4.0))
    slower = msgspec.structs.replace(STEP, counted_p99_s=0.8)  # 1.5 ms each
    quick = msgspec.structs.replace(STEP, rate_per_s=200.0, counted_p99_s=0.4)  # no time at all
    far = msgspec.structs.replace(STEP, rate_per_s=50.0, counted_p99_s=5.0)
    found = flush_interval_for(plan("counted_p99<=6s"), [far, quick, STEP, slower], 500.0)
    assert interval_s(found) == pytest.approx((4.0, 6 / 1.75, 6.0))
    # Two flushers take turns: 0.35 s beyond a quarter of a second, for 100 votes.
    found = flush_interval_for(plan("counted_p99<6s", processes=2), [STEP], 1000 / 7)
    assert interval_s(found)[0] == pytest.approx(2 * 6 / 1.5)
    for none in (
        flush_interval_for(plan("p99<6s"), [STEP], 1000.0),
        flush_interval_for(plan("counted_p99<6s"), [], 1000.0),
        flush_interval_for(plan("counted_p99<6s"), [STEP], 2001.0),  # drains never end
    ):
        assert none is None


def test_votes_without_a_ballot_are_a_backlog_only_where_ballots_are_seen() -> None:
    waiting, url = mode_result(accounts={"pending": 9}), "http://127.0.0.1:1"
    for target, missed in (
        (TargetPlan(), [(BACKLOG, False)]),
        (TargetPlan(url=url, ballots="votes.csv"), [(BACKLOG, False)]),
        (TargetPlan(url=url), []),
    ):
        assert missed_by(waiting, Plan(scenario="test", target=target), grows=False) == missed


def test_a_trial_keeps_its_journal_whatever_the_scenario_says() -> None:
    plan = Plan(scenario="test", site=Site(journal=False))
    assert at_rate(plan, "ticket", 1.0, 1.0, 1, {}).site.journal


def test_a_gauge_that_saw_nobody_is_the_worst_residual_not_none() -> None:
    def generator(sampled: float | None, expected: float | None) -> Generator:
        return Generator(
            ceiling_per_s=None,
            in_flight_sampled=sampled,
            in_flight_expected=expected,
            site_in_flight=None,
        )

    assert residual(generator(0.0, 4.0)) == -1.0
    assert residual(generator(5.0, 4.0)) == 0.25
    assert residual(generator(0.0, 0.9)) is None
    assert residual(generator(None, 4.0)) is None


def test_the_page_says_what_was_loaded_and_from_where() -> None:
    def said(**known: Any) -> str:
        result = msgspec.structs.replace(RESULT, **known)
        return f"{sustained_sentence(result)} {played_sentences(result)}"

    assert "refused and no backlog grew. Each rate was played on real memcached" in said()
    assert "All of it shared this machine" in said()
    remote = said(workers_at="10.0.0.1:5557", given=("memcached", "database"))
    assert "The voters were played by workers that came to 10.0.0.1:5557." in remote
    assert "The memcached and the database were there before" in remote
    assert "All else shared this machine" in remote
    target = said(target="http://127.0.0.1:8000", sees_ballots=False)
    assert "held and hardly a vote was refused." in target
    assert "played from this machine against http://127.0.0.1:8000" in target
    assert "without its ballots nobody knows which votes were counted." in target
    assert "memcached" not in target
    assert "its ballots came in time" in said(target="http://127.0.0.1:8000")


def test_a_study_is_inconclusive_while_a_lower_bound_is_not_confirmed() -> None:
    doubtful = msgspec.structs.replace(MODE, confirmed=False)
    takes_nothing = msgspec.structs.replace(
        MODE, confirmed=False, capacity_per_s=Bounds(lower=None, upper=1.0)
    )
    nothing_lower_tried = msgspec.structs.replace(
        MODE, confirmed=False, capacity_per_s=Bounds(lower=None, upper=400.0)
    )
    assert RESULT.exit_code == Exit.OK
    for mode, code in (
        (doubtful, Exit.INCONCLUSIVE),
        (takes_nothing, Exit.OK),
        (nothing_lower_tried, Exit.INCONCLUSIVE),
    ):
        result = msgspec.structs.replace(RESULT, modes={"direct": MODE, "classic": mode})
        assert result.exit_code == code


def whole() -> CapacityResult:
    return msgspec.structs.replace(
        RESULT,
        forecast_per_s=300.0,
        scaling={"direct": law(100.0, 0.1, 0.03, 0.02), "ticket": fitted([], seed=1)},
        break_even=concluded("ticket", [point(1.0, 0.5, 0.51, 0.5), point(9.0, 2.0, 2.1)], seed=1),
        patience=mapped(
            [
                Loss(Cell(0.5, 1.2, 100.0), 3, 1, simulated=True),
                Loss(Cell(2.0, 1.2, 100.0), 0, 0, simulated=True),
                Loss(Cell(2.0, 1.2, 100.0), 0, 0, simulated=False),
            ]
        ),
        sizing={
            "ticket": Sizing(
                fits=True,
                headroom=Range(low=0.33, high=None),
                processes=Need(value=2, low=2, high=None),
                processes_by="law",
                threads=Need(value=20, low=17, high=23),
                database_connections=just(46),
                backlog_votes=just(480),
                memcached_mib=just(64),
                drain_s=Range(low=1.0, high=1.2),
                flush_interval_s=Estimate(value=3.2, low=2.9, high=3.4),
                shards=None,
                without_shards=NO_TIME,
            )
        },
    )


def test_the_page_shows_every_part_that_there_is(tmp_path: Path) -> None:
    page = write_page(tmp_path, whole()).read_text()
    for words in (
        "votes a second",
        "Little’s law: the requests",
        "+1.0 %",
        "with its Little’s-law residual",
        "4 different numbers of processes are needed",
        "1.00 ms to 9.00 ms",
        "One trial’s ratio varies by about",
        "2 of 48 cells",
        "+33 % or more",
        "2 or more",
        "17 to 23",
        "1.00 to 1.20",
        "3.20",
        "2.90 to 3.40",
        NO_TIME,
        "Every cell, with its takeovers",
        "contention",
    ):
        assert words in page
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5
    bare = write_page(tmp_path, RESULT).read_text()
    assert "contention" not in bare


def test_trials_in_which_nothing_was_taken_are_drawn_without_a_word(tmp_path: Path) -> None:
    nothing = msgspec.structs.replace(STEP, acknowledged_per_s=0.0, verdict="failed")
    mode = msgspec.structs.replace(MODE, steps=(STEP, nothing))
    write_page(tmp_path, msgspec.structs.replace(RESULT, modes={"direct": mode}))  # or a warning


def test_the_terminal_says_each_part_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_capacity(whole(), Console(width=100))
    told = capsys.readouterr().out
    for words in (
        "limited by",
        "the most is taken by",
        "ticket: no scalability law: 4 different",
        "than direct (results pages per vote: 1) from 2.9",
        "ms; interval: 1.00 ms to 9.00 ms",
        "Patience of classic: No patience can be recommended",
        "ticket: 300 votes/s with 30 % of headroom fits here; 2 site processes, 20 threads each, "
        "drained every 3.20 s or more often",
    ):
        assert words in told


def test_of_single_trials_the_page_says_that_their_noise_is_unknown(tmp_path: Path) -> None:
    once = concluded("ticket", [point(1.0, 0.5), point(9.0, 2.0)], seed=1)
    result = msgspec.structs.replace(RESULT, break_even=once)
    assert "Each point was tried once only" in write_page(tmp_path, result).read_text()
    idle = msgspec.structs.replace(STEP, in_flight_residual=None)
    quiet = msgspec.structs.replace(MODE, steps=(idle,))
    assert "No trial had" in little_sentence(msgspec.structs.replace(RESULT, modes={"a": quiet}))


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
    assert step.deepest_backlog
    assert step.limited_by in ("p50<1ms", "")
    assert step.counted_p99_s is not None
    assert step.cpu_s_per_vote
    (folder,) = tmp_path.iterdir()
    assert not list(folder.glob("ticket/*.parquet"))
    assert (folder / "ticket" / "trial.json").is_file()
