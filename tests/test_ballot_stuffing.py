"""Voters who cast several votes in a once-only poll: whole runs, simulated and real."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.fault import Fault
from harness.history.store import REJECTION_COLUMNS, connect, quoted
from harness.plan import PollPlan, Voters, find_scenario, read_plan
from harness.run_folder import TrialFolder
from harness.simulation.trial import play
from tests.test_run import plan_file, pollstorm, result_of
from tests.test_simulation import ALL_MODES, MACHINE, audited, plan

DROPPED = Fault(kind="drop-request", at_s=1.0, target="memcached", for_s=1.0, share=0.3)
STUFFED = plan(
    DROPPED,
    per_s=150.0,
    poll=PollPlan(once=True),
    voters=Voters(votes_each=4, retries=2, generators=2),
    modes=ALL_MODES,
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("stuffed")
    return folder / "run", audited(folder, STUFFED)


def rows(parquet: Path, what: str) -> list[tuple[Any, ...]]:
    with connect() as connection:
        return connection.execute(f"SELECT {what} FROM {quoted(parquet)}").fetchall()


@pytest.mark.parametrize("mode", ALL_MODES)
def test_in_a_simulated_poll_each_voter_is_counted_once_whatever_gets_lost(
    simulated: tuple[Path, Any], mode: str
) -> None:
    folder, result = simulated
    accounts = result.modes[mode].accounts
    trial = TrialFolder(folder / mode)
    assert rows(trial.ballots, "count(voter), count(DISTINCT voter)")[0] == (accounts.counted,) * 2
    assert result.modes[mode].rule_kept is True
    assert accounts.overvotes == 0
    assert accounts.refused > accounts.counted > 90
    too_many = rows(trial.rejections, "count(*)")[0][0]
    if mode in ("direct", "cached"):
        assert too_many == 0
    else:
        assert too_many >= accounts.rejected
    if mode in ("ticket", "mirrored"):
        assert accounts.rejected > 0
        assert result.modes[mode].promise_kept is True


def test_rejections_are_written_of_once_only_polls_only(
    simulated: tuple[Path, Any], tmp_path: Path
) -> None:
    with connect() as connection:
        file = quoted(TrialFolder(simulated[0] / "ticket").rejections)
        described = connection.execute(f"DESCRIBE SELECT * FROM {file}").fetchall()
    types = ("UBIGINT", "VARCHAR", "USMALLINT", "VARCHAR")
    assert [(name, kind) for name, kind, *_ in described] == list(
        zip(REJECTION_COLUMNS, types, strict=True)
    )
    trial = TrialFolder(tmp_path / "unlimited")
    play(msgspec.structs.replace(STUFFED, poll=PollPlan()), "ticket", 1, MACHINE, trial)
    assert not trial.rejections.exists()
    (again,) = rows(trial.ballots, "count(voter) - count(DISTINCT voter)")
    assert again[0] > 200, "without the limit all votes of a voter are counted"


def test_the_scenario_has_what_its_name_says() -> None:
    scenario = read_plan(find_scenario("ballot-stuffing"))
    assert scenario.poll.once
    assert scenario.voters.votes_each > 1
    assert scenario.voters.generators > 1
    assert scenario.site.workers > 2


RUN = """
scenario = "stuffed"
duration_s = 3.0
modes = ["ticket"]
[poll]
once = true
[arrivals]
curve = "step"
peak_per_s = 100.0
lasts_s = 60.0
[voters]
votes_each = 4
generators = 2
retries = 2
[[faults]]
kind = "drop-request"
target = "memcached"
at_s = 1.0
for_s = 1.5
share = 0.3
"""


@pytest.mark.services
def test_in_a_real_run_second_votes_in_the_queue_are_found_when_counted(tmp_path: Path) -> None:
    plan_toml = plan_file(tmp_path, RUN)
    options = ("--flushers", "2", "--out", "run", "--json")
    finished = pollstorm("run", plan_toml, *options, cwd=tmp_path)
    found = result_of(finished)["modes"]["ticket"]
    accounts = found["accounts"]
    assert found["rule_kept"] is True
    assert found["promise_kept"] is True
    assert accounts["rejected"] > 0
    assert accounts["refused"] > accounts["counted"] > 50
    trial = TrialFolder(tmp_path / "run" / "ticket")
    (both,) = rows(trial.ballots, "count(voter), count(DISTINCT voter)")
    assert both[0] == both[1]
    assert rows(trial.rejections, "count(*)")[0][0] >= accounts["rejected"]
