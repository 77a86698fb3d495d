"""The flags of `pollstorm capacity`: what they mean, and which contradict each other."""

from typing import Any

import pytest
from click.testing import CliRunner

from harness.capacity import study
from harness.capacity.objectives import USUAL, usual_objectives
from harness.cli import pollstorm
from harness.cli.capacity import forecast_of, parts_of, seconds
from harness.errors import PlanError
from harness.plan import Plan, TargetPlan

MODES = ("direct", "ticket", "classic")
TARGET = ("--target", "http://127.0.0.1:1")


@pytest.mark.parametrize(("text", "value"), [("90s", 90.0), ("6m", 360.0), ("0.5h", 1800.0)])
def test_a_budget_is_read_with_its_unit(text: str, value: float) -> None:
    assert seconds(text, "--budget") == value


@pytest.mark.parametrize("text", ["", "6", "6 minutes", "-6m", "0s", "nanm"])
def test_a_budget_without_a_time_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="--budget"):
        seconds(text, "--budget")


def test_parts_are_played_in_their_order_with_the_search_first() -> None:
    assert parts_of("patience,scaling", MODES, sized=False) == ("search", "scaling", "patience")
    assert parts_of("search", MODES, sized=True) == ("search", "sizing")
    with pytest.raises(PlanError, match="did you mean 'scaling'"):
        parts_of("scalin", MODES, sized=False)
    with pytest.raises(PlanError, match="--forecast"):
        parts_of("sizing", MODES, sized=False)


@pytest.mark.parametrize("text", ["", "lots", "0/s", "-5/s", "5/m"])
def test_a_forecast_must_be_a_rate(text: str) -> None:
    with pytest.raises(PlanError, match="--forecast"):
        forecast_of(text, {"traffic": None, "match": None, "scale": None})


def test_all_are_the_parts_that_there_are_for_the_modes() -> None:
    assert parts_of("all", MODES, sized=False) == ("search", "scaling", "break-even", "patience")
    assert parts_of("all", ["direct"], sized=True) == ("search", "scaling", "sizing")
    with pytest.raises(PlanError, match="break-even compares direct with a queue; name one"):
        parts_of("break-even", ["direct", "cached"], sized=False)
    with pytest.raises(PlanError, match=r"patience .* name classic in --modes"):
        parts_of("patience", ["direct", "ticket"], sized=False)


def test_a_target_is_searched_by_what_can_be_seen_of_it() -> None:
    def objectives(url: str = "", ballots: str = "") -> tuple[str, ...]:
        return usual_objectives(Plan(scenario="x", target=TargetPlan(url=url, ballots=ballots)))

    url = TARGET[1]
    assert objectives() == USUAL == ("p99<250ms", "lost=0", "counted_p99<5s")
    assert objectives(url, "votes.csv") == ("p99<250ms", "lost=0")
    assert objectives(url) == ("p99<250ms",)


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> None:
        pytest.fail("it was not refused")

    monkeypatch.setattr(study, "Stand", start)


def refused(*arguments: str) -> str:
    with pytest.raises(PlanError) as why:
        CliRunner().invoke(
            pollstorm, ["capacity", *arguments], catch_exceptions=False, standalone_mode=False
        )
    return str(why.value)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--modes", "tickt"], "did you mean 'ticket'"),
        (["--modes", ","], "mode"),
        (["--slo", "p99<soon"], "p99<soon"),
        (["--budget", "20s"], "too short"),
        (["--out", "."], "never overwritten"),
        (["--out", "/proc/study"], "cannot make"),
        (["nowhere"], "nowhere"),
        (["--workers", "3", "--set", "site.workers=2"], "--set site.workers: another flag sets it"),
        (["--set", "slo=[]"], "--set slo: give --slo instead"),
        (["--set", "duration_s=9"], "--set duration_s: a study decides that itself"),
        (["--set", "arrivals.peak_per_s=9"], "--set arrivals.peak_per_s: a study decides"),
        (["--workers", "3", "--parts", "all"], "scaling varies site.workers itself; leave"),
        (["--set", "site.workers=3", "--parts", "scaling"], "scaling varies site.workers itself"),
        (
            ["--set", "database.commit_wait_us=9", "--parts", "break-even"],
            "break-even varies database.commit_wait_us itself",
        ),
        (["--scale", "2"], "--match and --scale are for --traffic"),
        (["--forecast", "8/s", "--traffic", "a.csv"], "both say what to size for"),
        (["--parts", "sizing"], "--parts sizing needs what to size for"),
        (["--forecast", "1000000/s"], "--forecast: 1,000,000 votes a second; no more than 100,000"),
        (["--workers", "100"], "a real site has 64 at most"),
        (["--set", "site.journal=false"], "--set site.journal: a study decides that itself"),
        (
            ["--set", "queue.patience_s=2", "--parts", "all"],
            "patience varies queue.patience_s itself; leave that flag away, or the part: "
            "--parts search,scaling,break-even",
        ),
        (["--workers", "3", "--parts", "all"], "or the part: --parts search,break-even"),
        (
            ["--set", "arrivals.results_per_vote=1", "--parts", "break-even"],
            "break-even varies arrivals.results_per_vote itself",
        ),
        (["--slo", "acknowledged_per_s>=300/s"], "is what is searched for, and low rates take few"),
        (["--slo", "p99>=1ms"], "low rates miss what is to be at least so much"),
        ([*TARGET, "--slo", "counted_p99<5s"], "a --target keeps no journal"),
        ([*TARGET, "--slo", "lost=0"], "without its --ballots"),
        ([*TARGET, "--modes", "direct"], "--modes: the processes and services of a --target"),
        ([*TARGET, "--workers", "2"], "--workers: the processes and services of a --target"),
        ([*TARGET, "--memcached", "127.0.0.1:1"], "--memcached: the processes and services of a"),
        ([*TARGET, "--set", "queue.queues=2"], "--set queue.queues: the processes and services"),
    ],
)
def test_flags_that_make_no_sense_are_refused_in_one_line(arguments: list[str], why: str) -> None:
    told = refused(*arguments)
    assert why in told
    assert "\n" not in told
