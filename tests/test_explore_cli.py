"""`pollstorm explore` and `pollstorm replay` as a user meets them."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli import pollstorm
from harness.errors import Exit, PlanError
from harness.exploration.witness import read_witness

SEARCHING_S = 4.0  # by then it searches, which it does for hours
LIMIT_S = 30.0


def call(*arguments: str) -> Result:
    """The verb's exit code is what it returns; errors come as they are raised."""
    return CliRunner().invoke(
        pollstorm, list(arguments), catch_exceptions=False, standalone_mode=False
    )


def witness_of(folder: Path, *bounds: str) -> Path:
    path = folder / "loss.json"
    assert call("explore", *bounds, "--witness", str(path)).return_value == Exit.BROKEN_PROMISE
    return path


def test_a_loss_is_a_table_with_a_column_for_each_process_and_exit_code_99():
    result = call("explore", "classic", "--writers", "1", "--takeovers", "1")
    assert result.return_value == Exit.BROKEN_PROMISE
    header, *_, last = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert header == ["writer", "1", "reader", "1"]
    assert "set slot 1 vote A → ok" in result.stdout
    said = " ".join(result.stdout.split())
    assert "vote A acknowledged and lost, after 8 memcached commands" in said
    assert last


def test_no_loss_is_a_line_with_the_states_and_exit_code_0():
    result = call("explore", "classic", "--takeovers", "0")
    assert result.return_value == Exit.OK
    assert "no loss in all 52 states within these bounds" in " ".join(result.stdout.split())


def test_bounds_that_were_not_exhausted_are_exit_code_3():
    result = call("explore", "ticket", "--max-states", "50", "--json")
    assert result.return_value == Exit.INCONCLUSIVE
    assert json.loads(result.stdout)["verdict"] == "unfinished"


def test_the_json_counts_only_memcached_commands():
    found = json.loads(call("explore", "classic", "--writers", "1", "--json").stdout)
    assert found["verdict"] == "loses"
    assert found["commands"] == 8 == sum(row.get("counts", False) for row in found["schedule"])
    assert len(found["schedule"]) > 8
    assert (found["lost"], found["doubled"]) == (["vote A"], [])
    assert found["states"] > 0
    assert found["seconds"] >= 0


def test_a_mode_without_a_queue_cannot_be_explored():
    with pytest.raises(PlanError, match="direct has no queue"):
        call("explore", "direct")


@pytest.mark.parametrize(
    "flags",
    [
        ["--readers", "0", "--crash", "reader"],
        ["--random", "3", "--max-states", "4"],
        ["--seed", "1"],
    ],
    ids=" ".join,
)
def test_flags_that_contradict_each_other_are_refused(flags):
    with pytest.raises(PlanError, match=flags[-2]):
        call("explore", "classic", *flags)


@pytest.mark.services
def test_a_signal_ends_a_search_with_one_line_and_exit_code_105():
    program = Path(sys.executable).with_name("pollstorm")
    command = [program, "explore", "ticket", "--writers", "3", "--readers", "3", "--drains", "3"]
    searches = {
        number: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    time.sleep(SEARCHING_S)
    for number, search in searches.items():
        search.send_signal(number)
        told, complaint = search.communicate(timeout=LIMIT_S)
        assert (search.returncode, told) == (Exit.INTERRUPTED, b"")
        assert complaint.decode() == f"pollstorm: interrupted by {number.name}\n"


def test_the_fatal_step_is_named_even_without_colours():
    told = call("explore", "classic", "--writers", "1").stdout
    assert "set slot 1 vote A → ok ◄ lost" in told
    assert told.count("◄") == 1


def test_a_witness_is_written_once_and_only_for_a_loss(tmp_path):
    path = witness_of(tmp_path, "classic", "--writers", "1")
    with pytest.raises(PlanError, match="is there already"):
        call("explore", "classic", "--writers", "1", "--witness", str(path))
    with pytest.raises(PlanError, match="is no folder"):
        call("explore", "classic", "--witness", str(tmp_path / "no" / "loss.json"))
    safe = tmp_path / "safe.json"
    result = call("explore", "classic", "--takeovers", "0", "--witness", str(safe))
    assert "no witness was written" in result.stderr
    assert not safe.exists()


def test_a_file_that_is_no_witness_is_told_so(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        read_witness(tmp_path / "none")
    path = witness_of(tmp_path, "classic", "--writers", "1")
    good = json.loads(path.read_text())
    bad = {
        "is no witness": {"a": 1},
        "has schema 7": {**good, "schema": 7},
        "proves nothing": {**good, "lost": []},
        "no 'writer 2'": {**good, "schedule": [{"actor": "writer 2"}]},
        "<= 8": {**good, "bounds": {**good["bounds"], "writers": 10**9}},
    }
    for complaint, content in bad.items():
        path.write_text(json.dumps(content))
        with pytest.raises(PlanError, match=complaint):
            call("replay", str(path))


LOSSES = [
    ["classic", "--writers", "1"],
    ["classic", "--cold", "--takeovers", "0"],
    ["classic", "--takeovers", "0", "--crash", "reader"],
    ["classic", "--takeovers", "0", "--wipe"],
    ["classic", "--takeovers", "0", "--evict-pointer"],
    ["owned", "--writers", "1"],
    ["owned", "--takeovers", "0", "--crash", "writer"],
    ["owned", "--takeovers", "0", "--lost-reply"],
]


@pytest.mark.services
@pytest.mark.parametrize("bounds", LOSSES, ids=" ".join)
def test_a_real_memcached_loses_the_same_vote(tmp_path, bounds):
    result = call("replay", str(witness_of(tmp_path, *bounds)))
    assert "as in the witness" in result.stdout
    assert result.return_value == Exit.BROKEN_PROMISE


@pytest.mark.services
def test_a_schedule_that_reality_does_not_follow_is_exit_code_1_and_names_the_step(tmp_path):
    path = witness_of(tmp_path, "classic", "--writers", "1")
    text = path.read_text()
    path.write_text(text.replace('"incr pointer",', '"set pointer 5",'))
    result = call("replay", str(path))
    assert result.return_value == Exit.FAILED
    assert "reality disagreed at step 6, writer 1: asks to incr pointer" in result.stdout
    witness = json.loads(text)
    reader = [row for row in witness["schedule"] if row["actor"] == "reader 1"]
    writer = [row for row in witness["schedule"] if row["actor"] == "writer 1"]
    path.write_text(json.dumps({**witness, "schedule": writer + reader}))
    result = call("replay", str(path))
    assert "reality disagreed at step 6, reader 1: incr lock gave 1, not 2" in result.stdout


@pytest.mark.services
def test_a_vote_that_survives_in_reality_is_a_disagreement(tmp_path):
    path = witness_of(tmp_path, "classic", "--writers", "1")
    witness = json.loads(path.read_text())
    writer = [row for row in witness["schedule"] if row["actor"] == "writer 1"]
    path.write_text(json.dumps({**witness, "schedule": writer}))
    result = call("replay", str(path))
    assert result.return_value == Exit.FAILED
    assert "the last drain: no vote is lost or doubled in reality" in result.stdout
