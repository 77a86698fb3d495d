"""A study from its order to its folder, with steps that are made up: what it refuses, and keeps."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from harness.capacity import patience as patient
from harness.capacity import sizing
from harness.capacity import study as studied
from harness.capacity.outcome import Bounds, CapacityResult, ModeCapacity, PatienceMap, StepResult
from harness.capacity.patience import Loss, patience
from harness.capacity.saturation import Saturation
from harness.capacity.search import Try
from harness.capacity.study import LEAST_S, Order, share_s, study
from harness.cli import pollstorm
from harness.errors import Exit, Interrupted, PlanError, PollstormError, ServiceError
from harness.modes.mode import Mode, find_mode
from harness.plan import Plan, TargetPlan
from harness.services.targets import Existing
from tests.studied import RESULT, STEP

CEILING_PER_S = 10_000.0
TAKES_PER_S = 700.0


class Quiet:
    def step(self, trial: str, number: int, text: str) -> None: ...
    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None: ...


class MadeUp:
    """A stand whose modes take `TAKES_PER_S`, until a step is played that cannot be."""

    ends: PollstormError | OSError | None = None
    after = 10**6

    def __init__(self, plan: Plan, *_: Any, keep: bool) -> None:  # noqa: ARG002
        self.plan = plan
        self.played = 0
        self.ceiling_per_s: float | None = None
        self.usable_per_s = 0.7 * CEILING_PER_S
        self.longest_s = 1.0

    def has_time(self, ends_s: float, trials: int = 1) -> bool:  # noqa: ARG002
        return True

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


def test_the_trials_of_a_mode_stay_when_no_process_can_be_started(
    stand: type[MadeUp], tmp_path: Path
) -> None:
    stand.ends, stand.after = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), 2
    with pytest.raises(PollstormError, match="Resource temporarily unavailable; what is known"):
        study(order(tmp_path), Existing(), Quiet())
    assert len(kept(tmp_path).modes["direct"].steps) == 2


@pytest.mark.usefixtures("stand")
def test_modes_that_were_sized_before_an_interruption_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(_: Plan) -> bool:
        raise Interrupted("interrupted by SIGINT")

    monkeypatch.setattr(sizing, "_suffices", cut_short)
    sized = order(tmp_path, parts=("search", "sizing"), forecast_per_s=300.0)
    with pytest.raises(Interrupted):
        study(sized, Existing(), Quiet())
    assert list(kept(tmp_path).sizing) == ["direct"]


def test_a_study_that_ends_before_its_first_step_says_so_on_its_page(
    stand: type[MadeUp], tmp_path: Path
) -> None:
    stand.ends, stand.after = ServiceError("no memcached"), 0
    with pytest.raises(ServiceError):
        study(order(tmp_path), Existing(), Quiet())
    assert kept(tmp_path).modes["direct"].steps == ()
    assert not list((tmp_path / "study" / "figures").iterdir())  # nothing is known to be drawn
    assert "no memcached" in (tmp_path / "study" / "index.html").read_text()


@pytest.mark.usefixtures("stand")
def test_what_a_part_knows_when_it_is_interrupted_is_kept_and_shown(
    stand: type[MadeUp], tmp_path: Path
) -> None:
    searched = study(order(tmp_path), Existing(), Quiet())
    in_search = sum(len(mode.steps) for mode in searched.modes.values())
    stand.ends, stand.after = Interrupted("interrupted by SIGINT"), in_search + 7
    parts = ("search", "scaling", "break-even")
    for known, after in (("What more processes bring", 7), ("When the queue wins", 45)):
        stand.after = in_search + after
        folder = tmp_path / str(after)
        with pytest.raises(Interrupted):
            study(order(folder, parts=parts), Existing(), Quiet())
        assert kept(folder).scaling
        assert known in (folder / "study" / "index.html").read_text()
    assert kept(folder).break_even


def test_simulated_cells_heed_the_time_and_those_before_an_interruption_stay(
    stand: type[MadeUp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = order(tmp_path).plan
    one = patient.CELLS[0]
    found: list[PatienceMap] = []

    def cut_short(*_: Any) -> Iterator[Loss]:
        yield Loss(one, 0, 0, simulated=True)
        raise Interrupted("interrupted by SIGINT")

    monkeypatch.setattr(patient, "_simulated", cut_short)
    made_up: Any = stand(plan, keep=False)
    with pytest.raises(Interrupted):
        patience(made_up, [find_mode("classic")], tmp_path, monotonic() + 60, found.append)
    assert (len(found[-1].cells), found[-1].recommended_s) == (1, None)
    monkeypatch.undo()
    begun_s = monotonic()
    assert list(patient._simulated(plan, tmp_path / "cells", begun_s)) == []
    assert monotonic() - begun_s < 5


def test_a_full_disk_is_one_line_that_says_what_to_do(
    stand: type[MadeUp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.ends, stand.after = ServiceError("MariaDB ended"), 3

    def full(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(studied, "write_atomically", full)
    with pytest.raises(PollstormError) as told:
        study(order(tmp_path), Existing(), Quiet())
    assert told.value.exit_code == Exit.FAILED
    assert "capacity.json: No space left on device; make room there" in str(told.value)


def test_what_a_part_leaves_of_the_budget_goes_to_those_after_it() -> None:
    parts = ("search", "scaling", "break-even", "patience")
    assert [round(share_s(parts, part, 110.0)) for part in parts] == [40, 47, 82, 110]
    assert share_s(("search",), "search", 110.0) == 110.0
    assert share_s((*parts, "sizing"), "patience", 30.0) == 20.0


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


def test_a_log_of_traffic_goes_by_both_names(tmp_path: Path) -> None:
    for flag in ("--traffic", "--access-log"):
        with pytest.raises(PlanError, match="no such file"):
            CliRunner().invoke(
                pollstorm,
                ["capacity", flag, str(tmp_path / "access.log")],
                catch_exceptions=False,
                standalone_mode=False,
            )


def test_more_is_offered_to_a_mode_that_takes_it_all_until_the_generator_s_limit(
    stand: type[MadeUp], tmp_path: Path
) -> None:
    class Takes(stand):  # type: ignore[misc, valid-type]
        def step(self, mode: Mode, wanted: Try, *_: Any) -> StepResult:  # noqa: ARG002
            offered.append(wanted.rate_per_s)
            taken_per_s = min(wanted.rate_per_s, TAKES_PER_S)
            return msgspec.structs.replace(
                STEP, rate_per_s=wanted.rate_per_s, acknowledged_per_s=taken_per_s
            )

    offered: list[float] = []
    known = ModeCapacity(
        capacity_per_s=Bounds(lower=200.0, upper=None), limited_by="", confirmed=True, steps=()
    )
    found = msgspec.structs.replace(RESULT, modes={"direct": known})
    made_up: Any = Takes(order(tmp_path).plan, keep=False)
    saturation = Saturation(made_up, found, ends_s=0.0)
    direct, readers = find_mode("direct"), {"arrivals.results_per_vote": 9.0}
    assert saturation.drive(direct, {}).saturated
    assert saturation.drive(direct, {}).rate_per_s == 800.0
    assert offered == [400.0, 800.0, 800.0]
    assert not saturation.drive(direct, readers).saturated
    # Nine of ten requests are for results pages: no more requests than before, and at the most
    # those that the generator can be trusted with.
    assert offered[3:] == [40.0, 80.0, 160.0, 320.0, 640.0, 700.0]
