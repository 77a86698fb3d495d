"""A study from its order to its folder, with steps that are made up: what it refuses, and keeps."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from harness.capacity import study as studied
from harness.capacity.outcome import CapacityResult, StepResult
from harness.capacity.search import Try
from harness.capacity.study import LEAST_S, Order, study
from harness.cli import pollstorm
from harness.errors import Exit, Interrupted, PlanError, PollstormError, ServiceError
from harness.modes.mode import Mode
from harness.plan import Plan, TargetPlan
from harness.services.targets import Existing
from tests.test_capacity import STEP

CEILING_PER_S = 10_000.0
TAKES_PER_S = 700.0


class Quiet:
    def step(self, trial: str, number: int, text: str) -> None: ...
    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None: ...


class MadeUp:
    """A stand whose modes take `TAKES_PER_S`, until a step is played that cannot be."""

    ends: PollstormError | None = None
    after = 10**6

    def __init__(self, plan: Plan, *_: Any, keep: bool) -> None:  # noqa: ARG002
        self.plan = plan
        self.played = 0
        self.ceiling_per_s: float | None = None
        self.usable_per_s = 0.7 * CEILING_PER_S

    def measure_ceiling(self, mode: Mode) -> None:  # noqa: ARG002
        self.ceiling_per_s = CEILING_PER_S

    def step(self, mode: Mode, wanted: Try, *_: Any) -> StepResult:  # noqa: ARG002
        self.played += 1
        if self.ends and self.played > self.after:
            raise self.ends
        passed = wanted.rate_per_s <= TAKES_PER_S
        return msgspec.structs.replace(
            STEP,
            rate_per_s=wanted.rate_per_s,
            confirming=wanted.confirming,
            verdict="passed" if passed else "failed",
            limited_by="" if passed else "p99<250ms",
        )


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> type[MadeUp]:
    class Own(MadeUp):
        pass

    monkeypatch.setattr(studied, "Stand", Own)
    return Own


def order(folder: Path, **changes: Any) -> Order:
    plan = Plan(scenario="test", modes=("direct", "ticket"), slo=("p99<250ms",))
    made = Order(plan, 1e6, folder / "study", False, ("search",), None, "pollstorm capacity")
    return made._replace(**changes)


def kept(folder: Path) -> CapacityResult:
    return msgspec.json.decode(
        (folder / "study" / "capacity.json").read_bytes(), type=CapacityResult
    )


@pytest.mark.usefixtures("stand")
def test_each_mode_s_bounds_lie_about_what_it_takes(tmp_path: Path) -> None:
    result = study(order(tmp_path), Existing(), Quiet())
    for mode in result.modes.values():
        bounds = mode.capacity_per_s
        assert bounds.lower is not None
        assert bounds.upper is not None
        assert bounds.lower <= TAKES_PER_S < bounds.upper <= 1.1 * bounds.lower
        assert mode.confirmed
    assert result.exit_code == Exit.OK
    assert kept(tmp_path) == result
    assert (tmp_path / "study" / "index.html").is_file()


@pytest.mark.parametrize(
    "ends", [ServiceError("MariaDB ended by SIGKILL"), Interrupted("interrupted by SIGINT")]
)
def test_what_is_known_when_a_study_is_ended_stays(
    ends: PollstormError, stand: type[MadeUp], tmp_path: Path
) -> None:
    stand.ends, stand.after = ends, 2
    with pytest.raises(type(ends), match=f"{ends}; what is known so far is in"):
        study(order(tmp_path), Existing(), Quiet())
    result = kept(tmp_path)
    assert result.stopped_by == str(ends)
    assert result.exit_code == Exit.INCONCLUSIVE
    (mode,) = result.modes.values()
    assert (mode.capacity_per_s.lower, mode.capacity_per_s.upper) == (400.0, 800.0)
    assert (len(mode.steps), mode.confirmed) == (2, False)
    page = (tmp_path / "study" / "index.html").read_text()
    assert f"The study was stopped: {ends}" in page


def test_a_study_that_ends_before_its_first_step_says_so_on_its_page(
    stand: type[MadeUp], tmp_path: Path
) -> None:
    stand.ends, stand.after = ServiceError("no memcached"), 0
    with pytest.raises(ServiceError):
        study(order(tmp_path), Existing(), Quiet())
    assert kept(tmp_path).modes["direct"].steps == ()
    assert not list((tmp_path / "study" / "figures").iterdir())  # nothing is known to be drawn
    assert "no memcached" in (tmp_path / "study" / "index.html").read_text()


def test_a_budget_too_short_for_one_rate_is_refused_and_says_what_it_takes(
    tmp_path: Path,
) -> None:
    with pytest.raises(PlanError, match=rf"takes? {2 * LEAST_S:.0f}s or more") as refused:
        study(order(tmp_path, budget_s=2 * LEAST_S - 1), Existing(), Quiet())
    assert refused.value.exit_code == Exit.USAGE
    assert not (tmp_path / "study").exists()


def test_a_server_of_somebody_elses_is_not_varied(tmp_path: Path) -> None:
    target = Plan(scenario="x", target=TargetPlan(url="http://127.0.0.1:1"))
    with pytest.raises(PlanError, match="scaling"):
        study(order(tmp_path, plan=target, parts=("search", "scaling")), Existing(), Quiet())


def test_commits_of_an_existing_database_are_not_slowed_down(tmp_path: Path) -> None:
    existing = Existing(database="mysql://a@127.0.0.1/b")
    with pytest.raises(PlanError, match="break-even"):
        study(order(tmp_path, parts=("search", "break-even")), existing, Quiet())


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
    ],
)
def test_flags_that_make_no_sense_are_refused(arguments: list[str], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        CliRunner().invoke(
            pollstorm, ["capacity", *arguments], catch_exceptions=False, standalone_mode=False
        )


def test_a_log_of_traffic_goes_by_both_names(tmp_path: Path) -> None:
    for flag in ("--traffic", "--access-log"):
        with pytest.raises(PlanError, match="no such file"):
            CliRunner().invoke(
                pollstorm,
                ["capacity", flag, str(tmp_path / "access.log")],
                catch_exceptions=False,
                standalone_mode=False,
            )
