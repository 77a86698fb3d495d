"""The queues beside `classic` in a whole run: what they promise holds, with real faults."""

from pathlib import Path
from typing import Any

import pytest

from harness.errors import Exit
from harness.history.journal import Role
from harness.history.store import connect
from tests.test_run import plan_file, pollstorm, result_of

pytestmark = pytest.mark.services

PLAN = """
scenario = "queues"
duration_s = 3.0
modes = ["owned", "ticket", "mirrored"]
[arrivals]
curve = "step"
peak_per_s = 200.0
lasts_s = 60.0
[[faults]]
kind = "pause"
target = "lock-holder"
at_s = 0.5
for_s = 0.6
modes = ["ticket", "mirrored"]
[[faults]]
kind = "wipe"
at_s = 2.0
modes = ["mirrored"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Three modes, two flushers each; both daemons of `mirrored` are at work, and one is wiped."""
    cwd = tmp_path_factory.mktemp("queues")
    finished = pollstorm(
        *("run", plan_file(cwd, PLAN), "--flushers", "2", "--out", "run", "--json"), cwd=cwd
    )
    assert finished.returncode == Exit.OK, finished.stderr
    return cwd / "run", result_of(finished)


@pytest.mark.parametrize("mode", ["owned", "ticket", "mirrored"])
def test_no_vote_is_lost_or_doubled(run: tuple[Path, dict[str, Any]], mode: str) -> None:
    found = run[1]["modes"][mode]
    accounts = found["accounts"]
    assert accounts["counted"] == accounts["acknowledged"] == accounts["sent"] > 400
    assert (accounts["duplicated"], accounts["phantom"]) == (0, 0)
    assert found["verdict"]["votes"] == "kept"
    assert found["promise_kept"] is (None if mode == "owned" else True)
    assert found["promise_void_by"] == []


def test_faults_met_what_they_are_said_to_have_met(run: tuple[Path, dict[str, Any]]) -> None:
    faults = {mode: found["faults"] for mode, found in run[1]["modes"].items()}
    assert faults["owned"] == []
    for mode in ("ticket", "mirrored"):
        assert (faults[mode][0]["target"], faults[mode][0]["hit"]) == ("ticket-holder", True)
    wipe = faults["mirrored"][1]
    assert (wipe["hit"], wipe["detail"]) == (True, "the first of 2 memcached emptied")


def test_only_a_queue_with_a_lock_has_its_figures(run: tuple[Path, dict[str, Any]]) -> None:
    locks = {mode: found["lock"] for mode, found in run[1]["modes"].items()}
    assert locks["owned"]["clean_grants"] > 400
    assert (locks["owned"]["takeovers"], locks["owned"]["cold_grants"]) == (0, 0)
    assert [locks[mode]["grants"] for mode in ("ticket", "mirrored")] == [0, 0]
    page = (run[0] / "index.html").read_text()
    assert "The queue’s lock" in page


@pytest.mark.parametrize("mode", ["ticket", "mirrored"])
def test_both_flushers_drained_and_every_vote_has_its_commit(
    run: tuple[Path, dict[str, Any]], mode: str
) -> None:
    counted_after_s = run[1]["modes"][mode]["counted_after_s"]
    assert 0 < counted_after_s["p50"] <= counted_after_s["p99"] < 2.0
    journal = run[0] / mode / "journal.parquet"
    with connect() as connection:
        (flushers,) = connection.execute(
            f"SELECT count(DISTINCT pid) FROM '{journal}' WHERE role = {Role.FLUSHER:d}"
        ).fetchone() or (0,)
        daemons = connection.execute(f"SELECT DISTINCT daemon FROM '{journal}'").fetchall()
    assert flushers == 2
    assert len(daemons) == (2 if mode == "mirrored" else 1)


def test_each_process_has_its_own_log(run: tuple[Path, dict[str, Any]]) -> None:
    logs = {path.name for path in (run[0] / "logs" / "mirrored").iterdir()}
    assert {"flusher.log", "flusher-2.log", "memcached.log", "memcached-2.log"} <= logs


def test_too_few_memcached_daemons_start_nothing(tmp_path: Path) -> None:
    arguments = ("steady-trickle", "--modes", "mirrored", "--memcached", "127.0.0.1:11211")
    finished = pollstorm("run", *arguments, cwd=tmp_path)
    assert finished.returncode == Exit.USAGE
    assert "mode mirrored needs 2 memcached daemons, and 1 is given" in finished.stderr
    twice = ("steady-trickle", "--memcached", "127.0.0.1:1,127.0.0.1:1")
    assert "names one twice" in pollstorm("run", *twice, cwd=tmp_path).stderr
    assert not (tmp_path / "reports").exists()
