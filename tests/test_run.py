"""Whole runs as a user starts them: `pollstorm run` with real services, voters and faults."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from harness.cli import main
from harness.cli.run import repeat_command
from harness.errors import Exit
from harness.history.ledger import LEDGER_DTYPE

pytestmark = pytest.mark.services

POLLSTORM = str(Path(sys.executable).with_name("pollstorm"))
RUN_LIMIT_S = 150
GONE_S = 5.0
SPIKE = """
scenario = "short-spike"
duration_s = 4.0
[arrivals]
curve = "spike"
peak_per_s = 250.0
starts_s = 0.5
peak_at_s = 1.2
rise_s = 0.4
decay_s = 1.5
results_per_vote = 0.1
[[faults]]
kind = "pause"
target = "lock-holder"
at_s = 1.2
for_s = 1.2
"""
STEP = """
scenario = "step"
modes = ["direct"]
duration_s = {duration_s}
[arrivals]
curve = "step"
peak_per_s = {peak_per_s}
lasts_s = 60.0
"""


def plan_file(folder: Path, text: str) -> str:
    path = folder / "plan.toml"
    path.write_text(text)
    return str(path)


def pollstorm(
    *arguments: str, cwd: Path, limit_s: float = RUN_LIMIT_S
) -> "subprocess.CompletedProcess[str]":
    """Run the command; its output is no traceback, and nothing stays behind."""
    finished = subprocess.run(
        [POLLSTORM, *arguments],
        cwd=cwd, env=environment(cwd), capture_output=True, text=True, timeout=limit_s,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in finished.stderr + finished.stdout
    assert children_of_runs(cwd) == []
    return finished


def environment(folder: Path) -> dict[str, str]:
    """Marks a run: all that it starts has its temporary files in the folder."""
    return {**os.environ, "TMPDIR": str(folder)}


def children_of_runs(folder: Path) -> list[str]:
    """Processes that a run in that folder started and left."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def result_of(finished: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


@pytest.fixture(scope="module")
def spike(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One short spike through three modes, with a stalled lock holder."""
    cwd = tmp_path_factory.mktemp("spike")
    finished = pollstorm(
        "run", plan_file(cwd, SPIKE), "--out", "run", "--json", "--slo", "p50<60s", cwd=cwd
    )
    assert finished.returncode == Exit.OK, finished.stderr
    return cwd / "run", result_of(finished)


def test_every_vote_is_in_exactly_one_account(spike: tuple[Path, dict[str, Any]]):
    parts = ("counted", "lost", "altered", "resurrected", "recovered", "absent", "refused")
    for mode in spike[1]["modes"].values():
        accounts = mode["accounts"]
        assert accounts["sent"] == accounts["planned"] > 200
        assert sum(accounts[part] for part in parts) + accounts["pending"] == accounts["sent"]
        assert accounts["phantom"] == 0


def test_direct_and_cached_lose_and_double_nothing(spike: tuple[Path, dict[str, Any]]):
    for mode in ("direct", "cached"):
        found = spike[1]["modes"][mode]
        assert (found["accounts"]["lost"], found["accounts"]["duplicated"]) == (0, 0)
        assert found["promise_kept"] is True
        assert found["verdict"]["votes"] == "kept"


def test_classic_shows_its_cold_start_and_the_takeover_of_a_stalled_holder(
    spike: tuple[Path, dict[str, Any]],
):
    classic = spike[1]["modes"]["classic"]
    assert classic["lock"]["takeovers"] >= 1
    assert classic["lock"]["cold_grants"] >= 1
    assert classic["lock"]["wait_ms"]["max"] > 900
    (fault,) = classic["faults"]
    assert fault["hit"]
    assert 1.1 < fault["end_s"] - fault["start_s"] < 2.5
    assert classic["promise_kept"] is None


def test_the_run_folder_holds_everything(spike: tuple[Path, dict[str, Any]]):
    folder, _ = spike
    for name in ("plan.toml", "environment.json", "events.jsonl", "result.json", "junit.xml",
                 "summary.md", "index.html"):  # fmt: skip
        assert (folder / name).stat().st_size > 0, name
    for mode in ("direct", "cached", "classic"):
        assert {p.name for p in (folder / mode).iterdir()} == {
            "ledger.parquet", "journal.parquet", "ballots.parquet", "trial.json",
            "certificates.parquet",
        }  # fmt: skip
    assert list((folder / "figures").glob("*.png"))


def test_a_finished_run_can_be_audited_and_reported_again(spike: tuple[Path, dict[str, Any]]):
    folder, result = spike
    again = pollstorm("audit", str(folder), "--json", cwd=folder.parent)
    assert again.returncode == Exit.OK
    assert result_of(again)["modes"] == result["modes"]
    assert pollstorm("report", str(folder), cwd=folder.parent).returncode == Exit.OK


def test_the_command_that_repeats_the_run_can_be_pasted_and_shown_around():
    arguments = ["run", "a b", "--out", "x", "--out=y", "--database", "mysql://me:secret@h/x"]
    assert repeat_command(arguments) == "pollstorm run 'a b' --database 'mysql://me:***@h/x'"


def test_a_run_folder_is_never_overwritten(spike: tuple[Path, dict[str, Any]]):
    folder, _ = spike
    plan = str(folder.parent / "plan.toml")
    refused = pollstorm("run", plan, "--out", "run", cwd=folder.parent)
    assert refused.returncode == Exit.USAGE
    assert "never overwritten" in refused.stderr


def test_a_starved_generator_makes_the_measurement_invalid(tmp_path: Path):
    """Far more than one generator process can send; the figures must not be believed."""
    plan = plan_file(tmp_path, STEP.format(duration_s=0.5, peak_per_s=60_000.0))
    finished = pollstorm("run", plan, "--out", "run", "--json", cwd=tmp_path)
    result = result_of(finished)
    assert result["verdict"]["measurement"] == "invalid"
    assert finished.returncode == Exit.INCONCLUSIVE


@pytest.fixture(scope="module")
def saturated(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """Each commit waits 20 ms and two threads serve: at most 100 votes/s, 400 are offered."""
    cwd = tmp_path_factory.mktemp("saturated")
    slow = STEP.format(duration_s=4.0, peak_per_s=400.0)
    slow += "[site]\nworkers = 1\nthreads = 2\n[database]\ncommit_wait_us = 20000\n"
    slow += "[voters]\ntimeout_s = 2.0\n"
    plan = plan_file(cwd, slow)
    return pollstorm("run", plan, "--out", "run", "--slo", "p99<1ms", "--json", cwd=cwd)


def test_a_saturated_site_is_no_reason_to_distrust_the_measurement(
    saturated: "subprocess.CompletedProcess[str]",
):
    result = result_of(saturated)
    assert result["verdict"]["measurement"] == "sound", result["verdict"]
    direct = result["modes"]["direct"]
    assert direct["rates_per_s"]["acknowledged"] < 150
    assert direct["latency_ms"]["p99"] > 1000
    assert direct["accounts"]["lost"] == 0


def test_a_missed_threshold_fails_the_run(saturated: "subprocess.CompletedProcess[str]"):
    assert saturated.returncode == Exit.BROKEN_PROMISE


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("no-such-scenario",), "no scenario 'no-such-scenario'"),
        (("none.toml",), "No such file"),
        (("steady-trickel",), "did you mean 'steady-trickle'"),
        (("steady-trickle", "--modes", "drect"), "did you mean 'direct'"),
        (("steady-trickle", "--modes", ","), "modes is empty"),
        (("controversial-poll", "--peak", "-5"), "arrivals.peak_per_s"),
        (("steady-trickle", "--duration", "0"), "--duration 0"),
        (("steady-trickle", "--workers", "0"), "site.workers"),
        (("steady-trickle", "--workers", "40"), "database.max_connections is 600"),
        (("steady-trickle", "--slo", "p98<1ms"), "did you mean 'p9"),
        (("steady-trickle", "--memcached", "10.1.2.3:11211"), "--allow-target 10.1.2.3"),
        (("steady-trickle", "--database", "mysql://u:p@example.com/x"), "--allow-target"),
        (("steady-trickle", "--duration", "1e9"), "MiB free and the run needs"),
        (("steady-trickle", "--peak", "100"), "has no peak"),
        (("controversial-poll", "--peak", "inf"), "'--peak': inf"),
        (("steady-trickle", "--modes", "direct,direct"), "modes names one twice"),
        (("steady-trickle", "--bogus"), "No such option"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    arguments: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """In this process: to import all that a run takes is most of what such a command does."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # they are pytest's here
    monkeypatch.setattr(sys, "argv", ["pollstorm", "run", *arguments])
    monkeypatch.chdir(tmp_path)
    before = psutil.Process().children()
    with pytest.raises(SystemExit) as ended:
        main()
    errors = capsys.readouterr().err
    assert ended.value.code == Exit.USAGE, errors
    assert says in errors
    assert errors.count("\n") <= 4  # click adds its usage lines
    assert list(tmp_path.iterdir()) == []
    assert psutil.Process().children() == before


def test_a_wrong_word_as_a_user_types_it_is_one_line(tmp_path: Path):
    finished = pollstorm("run", "steady-trickel", cwd=tmp_path)
    assert finished.returncode == Exit.USAGE
    assert finished.stderr.startswith("pollstorm: ")
    assert finished.stderr.count("\n") == 1


def test_a_service_that_does_not_answer_is_named(tmp_path: Path):
    down = pollstorm("run", "steady-trickle", "--memcached", "127.0.0.1:1", cwd=tmp_path)
    assert down.returncode == Exit.FAILED
    assert "memcached at 127.0.0.1:1 does not answer" in down.stderr
    assert not (tmp_path / "reports").exists()


def test_a_missing_memcached_is_one_line_with_what_to_install(tmp_path: Path):
    finished = subprocess.run(
        [POLLSTORM, "run", "steady-trickle", "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False,
        env={**environment(tmp_path), "PATH": str(tmp_path)},
    )  # fmt: skip
    if finished.returncode == Exit.OK:
        pytest.fail("memcached was found although PATH has none")
    assert finished.returncode == Exit.FAILED
    assert "memcached" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr


def started(folder: Path, step: str, *arguments: str, plan: str = SPIKE) -> "subprocess.Popen[str]":
    """A run, of the short spike or another plan, that has just begun the step, such as ` 6/12`."""
    run = subprocess.Popen(
        [POLLSTORM, "run", plan_file(folder, plan), *arguments],
        cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert run.stdout is not None
    assert any(line.startswith(step) for line in run.stdout)
    return run


def test_a_killed_run_leaves_no_process(tmp_path: Path):
    run = started(tmp_path, " 6/12", "--modes", "classic", "--out", "run")
    assert len(children_of_runs(tmp_path)) > 4  # memcached, MariaDB, site, flusher, generator
    run.kill()
    run.communicate()
    until_s = time.monotonic() + GONE_S
    while children_of_runs(tmp_path) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert children_of_runs(tmp_path) == []


def await_votes(raw: Path, number: int) -> None:
    """Until so many have been sent: in the midst of the load."""
    until_s = time.monotonic() + RUN_LIMIT_S
    sent = 0
    while sent < number:
        assert time.monotonic() < until_s, f"{sent} votes were sent"
        time.sleep(0.02)
        ledgers = [np.fromfile(path, LEDGER_DTYPE) for path in raw.glob("ledger-*.bin")]
        sent = sum(int((ledger["sent_ns"] > 0).sum()) for ledger in ledgers)


def test_a_generator_that_was_killed_makes_the_run_partial_and_its_ledger_counts(tmp_path: Path):
    run = started(tmp_path, " 6/12", "--modes", "direct", "--out", "run", "--set",
                  "voters.generators=2", "--no-faults")  # fmt: skip
    await_votes(tmp_path / "run" / "direct" / "raw", 50)
    generators = [
        p for p in psutil.Process(run.pid).children() if "load.generator" in str(p.cmdline())
    ]
    assert len(generators) == 2
    generators[0].kill()
    output, errors = run.communicate(timeout=60)
    assert run.returncode == Exit.INCONCLUSIVE, output + errors
    assert children_of_runs(tmp_path) == []
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    direct = result["modes"]["direct"]
    assert result["partial"] is True
    assert direct["verdict"]["measurement"] == "invalid"
    assert "was killed during the load" in " ".join(direct["verdict"]["reasons"])
    accounts = direct["accounts"]
    assert accounts["unsent"] > 0
    assert accounts["lost"] == 0
    assert accounts["counted"] > accounts["planned"] / 10


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_fills_while_recording_ends_the_run_in_one_line(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", disk], check=True)
    try:
        run = started(tmp_path, " 2/12", "--modes", "direct", "--out", str(disk / "run"))
        with (disk / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(disk).f_bavail * 4096 - 65_536)
        _, errors = run.communicate(timeout=RUN_LIMIT_S)
        assert run.returncode == Exit.FAILED, errors
        assert "No space left on device" in errors.splitlines()[-1]
        assert "Traceback" not in errors
        assert children_of_runs(tmp_path) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
