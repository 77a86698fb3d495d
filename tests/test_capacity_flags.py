"""The flags of `pollstorm capacity`: what they mean, and which contradict each other."""

from typing import Any

import pytest
from click.testing import CliRunner

from harness.capacity import study
from harness.cli import pollstorm
from harness.cli.capacity import forecast_of, parts_of, seconds
from harness.errors import PlanError

MODES = ("direct", "ticket", "classic")


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
    ],
)
def test_flags_that_make_no_sense_are_refused_in_one_line(arguments: list[str], why: str) -> None:
    told = refused(*arguments)
    assert why in told
    assert "\n" not in told
