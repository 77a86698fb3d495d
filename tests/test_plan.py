"""Plans: read, checked, refused with one line that helps."""

from pathlib import Path

import pytest

from harness.errors import PlanError
from harness.plan import find_scenario, plan_from, read_plan
from harness.slo import parse_slo


def refusal(**tables: object) -> str:
    with pytest.raises(PlanError) as caught:
        plan_from({"scenario": "s", **tables}, "s.toml")
    message = str(caught.value)
    assert message.startswith("s.toml: ")
    assert "\n" not in message
    return message


def test_a_plan_survives_being_written_and_read_again(tmp_path: Path):
    fault = {"kind": "pause", "target": "lock-holder", "at_s": 1.0, "for_s": 1.2}
    plan = plan_from({"scenario": "s", "faults": [fault], "slo": ["p99<250ms"]}, "here")
    path = tmp_path / "plan.toml"
    path.write_text(plan.to_toml())
    assert read_plan(path) == plan


def test_an_unknown_key_names_the_nearest():
    assert "did you mean 'peak_per_s'?" in refusal(arrivals={"peek_per_s": 3})
    assert "did you mean 'arrivals'?" in refusal(arivals={})
    assert "did you mean 'target'?" in refusal(faults=[{"kind": "wipe", "at_s": 1, "tarket": "x"}])


def test_a_negative_rate_is_refused_with_its_place():
    message = refusal(arrivals={"peak_per_s": -3})
    assert "arrivals.peak_per_s" in message
    assert ">= 0" in message


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"modes": []}, "modes is empty"),
        ({"modes": ["direct", "direct"]}, "modes names one twice"),
        ({"poll": {"name": "no good"}}, "poll.name"),
        ({"poll": {"choices": ["only"]}}, "poll.choices"),
        ({"arrivals": {"curve": "step", "peak_per_s": 1}}, "at least arrivals.trickle_per_s"),
        ({"arrivals": {"curve": "spike", "peak_per_s": 9, "starts_s": 5}}, "peak_at_s"),
        ({"faults": [{"kind": "pause", "at_s": 1}]}, "needs a time that it lasts"),
        ({"faults": [{"kind": "wipe", "at_s": 99}]}, "after the load's end"),
        ({"arrivals": 3}, "arrivals"),
        ({"arrivals": {"curve": "spik"}}, "did you mean 'spike'"),
        ({"faults": [{"kind": "wype", "at_s": 1}]}, "did you mean 'wipe'"),
        ({"duration_s": float("inf")}, "duration_s"),
        ({"arrivals": {"trickle_per_s": float("nan")}}, "arrivals.trickle_per_s"),
        ({"queue": {"prefix": "poll\n"}}, "queue.prefix"),
        (
            {
                "faults": [
                    {"kind": "pause", "target": "lock-holder", "at_s": 1.0, "for_s": 2.0},
                    {"kind": "pause", "target": "lock-holder", "at_s": 2.0, "for_s": 1.0},
                ]
            },
            "before the pause at 1 s ends",
        ),
        ({"seed": True}, "seed"),
    ],
)
def test_what_cannot_be_run_is_refused(tables: dict[str, object], says: str):
    assert says in refusal(**tables)


def test_a_broken_file_is_refused_with_its_name(tmp_path: Path):
    path = tmp_path / "broken.toml"
    path.write_text("[arrivals\n")
    with pytest.raises(PlanError, match=r"broken\.toml is no TOML"):
        read_plan(path)
    with pytest.raises(PlanError, match="No such file"):
        read_plan(tmp_path / "none.toml")


def test_an_unknown_scenario_names_the_nearest():
    with pytest.raises(PlanError, match="did you mean 'controversial-poll'"):
        find_scenario("controversal-poll")


@pytest.mark.parametrize(
    ("text", "figure", "bound"),
    [("p99<250ms", "p99", 250.0), ("p99 < 0.25s", "p99", 250.0), ("lost=0", "lost", 0.0),
     ("counted_p99<=5s", "counted_p99", 5.0),
     ("acknowledged_per_s>=300/s", "acknowledged_per_s", 300.0)],
)  # fmt: skip
def test_thresholds_are_read_in_the_figures_own_unit(text: str, figure: str, bound: float):
    slo = parse_slo(text)
    assert (slo.figure, slo.bound) == (figure, bound)


@pytest.mark.parametrize(
    "text",
    ["p99<250", "p99", "p98<3ms", "lost<3ms", "p99<x", "counted_p99<3/s", "p99<1.2.3", "p99=>3ms"],
)
def test_a_threshold_that_says_nothing_is_refused(text: str):
    with pytest.raises(PlanError, match="SLO"):
        parse_slo(text)


def test_a_threshold_without_a_measured_value_does_not_hold():
    assert not parse_slo("p99<250ms").holds(None)
    assert parse_slo("p99<250ms").holds(249.9)
    assert not parse_slo("p99<250ms").holds(250.0)
    assert parse_slo("lost=0").holds(0)
    assert parse_slo("acknowledged_per_s>=300/s").holds(300.0)
    assert not parse_slo("acknowledged_per_s>300/s").holds(300.0)
