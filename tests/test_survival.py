"""A run that is interrupted or killed at any of its twelve steps leaves nothing but its folder.

In the suite a few moments are tried; `make survival` tries each step with each signal, just when
the step begins and at a random moment within it. POLLSTORM_SURVIVAL=all asks for them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import psutil
import pytest

from harness.errors import Exit

pytestmark = pytest.mark.services

POLLSTORM: Final = str(Path(sys.executable).with_name("pollstorm"))
GONE_S: Final = 5.0
ENDS_S: Final = 30.0  # of which the audit and the report of the little that there is take most
LIMIT_S: Final = 60.0
LOOK_S: Final = 0.002
PLAN: Final = """
scenario = "short"
modes = ["classic"]
duration_s = 1.5
[arrivals]
curve = "step"
peak_per_s = 80.0
lasts_s = 60.0
[voters]
generators = 2
timeout_s = 2.0
[[faults]]
kind = "pause"
target = "lock-holder"
at_s = 0.4
for_s = 0.8
"""
STEPS: Final = tuple(range(1, 13))  # 10 and 11 are announced as one: each trial is both in turn
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
MOMENTS: Final = ("begins", "goes on")
HALF_OVER: Final = "is half over"


class Case(NamedTuple):
    step: int
    number: signal.Signals
    moment: str

    def __str__(self) -> str:
        return f"{self.number.name} when step {self.step} {self.moment}"

    def waits_s(self, lasts_s: float) -> float:
        """From the step's beginning, in its first half: a step may take less time than before. The
        same share of it at each repetition."""
        if self.moment == HALF_OVER:
            return lasts_s / 2
        return Random(str(self)).uniform(0, lasts_s / 2) if self.moment == "goes on" else 0.0


EVERY: Final = [Case(*each) for each in product(STEPS, SIGNALS, MOMENTS)]
SAMPLE: Final = [
    Case(1, signal.SIGTERM, "begins"),
    Case(2, signal.SIGKILL, "goes on"),
    Case(4, signal.SIGTERM, "begins"),
    Case(6, signal.SIGINT, HALF_OVER),
    Case(9, signal.SIGKILL, "begins"),
    Case(12, signal.SIGINT, "begins"),
]
ALL: Final = os.environ.get("POLLSTORM_SURVIVAL") == "all"
CASES: Final = EVERY if ALL else SAMPLE
LASTS_AT_LEAST_S: Final = dict.fromkeys({*STEPS} - {11}, 0.0) | {2: 0.4, 6: 2.0}
"""Of the steps within which the sample comes, so that no run need be measured: MariaDB's start;
the generators' start, and the load."""


class Run:
    """A run under way in a folder, with all that it may leave."""

    def __init__(self, folder: Path) -> None:
        (folder / "plan.toml").write_text(PLAN)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.path = folder / "run"
        self._environment = {**os.environ, "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            [POLLSTORM, "run", "plan.toml", "--out", "run"],
            cwd=folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout
        assert self.process.stdout.readline().startswith(" 1/12"), self.process.communicate()[1]

    def steps(self) -> dict[int, float]:
        """When each step began, as Unix time in s."""
        return {each["number"]: at_s for at_s, each in self._events() if each["event"] == "step"}

    def ended(self) -> float:
        """When it said that it had ended, as Unix time in s."""
        (at_s,) = (at_s for at_s, each in self._events() if each["event"] == "ended")
        return at_s

    def _events(self) -> list[tuple[float, dict[str, Any]]]:
        events = self.path / "events.jsonl"
        lines = events.read_text().splitlines(keepends=True) if events.exists() else []
        told = [json.loads(line) for line in lines if line.endswith("\n")]
        return [(datetime.fromisoformat(each["utc"]).timestamp(), each) for each in told]

    def await_step(self, step: int) -> None:
        """The first step has begun when the run says its first word."""
        until_s = time.monotonic() + LIMIT_S
        while step > 1 and step not in self.steps():
            assert time.monotonic() < until_s, f"step {step} did not begin"
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(LOOK_S)

    def processes(self) -> list[psutil.Process]:
        """All that it has started, by descent or by where their temporary files lie."""
        found = set()
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == str(self.temporary):
                    found.add(process)
            except psutil.Error:
                continue
        with suppress(psutil.NoSuchProcess):
            found |= set(psutil.Process(self.process.pid).children(recursive=True))
        return [process for process in found if process.pid != self.process.pid]

    def report(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [POLLSTORM, "report", str(self.path)],
            env=self._environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "result.json").read_text())
        return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started = Run(tmp_path)
    yield started
    started.process.kill()
    started.process.communicate()


@pytest.fixture(scope="module")
def lasts_s(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """How long each step of an undisturbed run takes, as far as the cases ask."""
    if not ALL:
        return LASTS_AT_LEAST_S
    run = Run(tmp_path_factory.mktemp("undisturbed"))
    _, errors = run.process.communicate(timeout=LIMIT_S)
    assert errors == ""
    assert run.result()["partial"] is False
    began = run.steps()
    ends = [*list(began.values())[1:], run.ended()]
    return {step: end - at for (step, at), end in zip(began.items(), ends, strict=True)}


def alive(processes: list[psutil.Process]) -> list[str]:
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.NoSuchProcess:
            continue
    return found


def gone_after(before: list[psutil.Process], run: Run) -> float:
    """How many seconds until nothing runs any more. Fails after GONE_S."""
    started_s = time.monotonic()
    while left := alive(before) or alive(run.processes()):
        assert time.monotonic() - started_s < GONE_S, left
        time.sleep(0.05)
    return time.monotonic() - started_s


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_is_left_but_a_folder_that_can_be_reported(
    case: Case, run: Run, lasts_s: dict[int, float]
) -> None:
    announced = case.step if case.step in lasts_s else case.step - 1
    run.await_step(announced)
    time.sleep(case.waits_s(lasts_s.get(announced, 0.0)))
    before = run.processes()
    assert run.process.poll() is None, "it had ended before"
    run.process.send_signal(case.number)
    took_s = gone_after(before, run)
    sent_s = time.monotonic()
    _, errors = run.process.communicate(timeout=ENDS_S)
    print(
        f"{case}: gone after {took_s:.2f} s, ended after {took_s + time.monotonic() - sent_s:.2f}"
    )
    assert alive(run.processes()) == []
    assert list(run.temporary.iterdir()) == []
    assert str(run.temporary) not in Path("/proc/self/mounts").read_text()
    if case.number is signal.SIGKILL:
        assert (run.process.returncode, errors) == (-signal.SIGKILL, "")
    else:
        assert run.process.returncode == Exit.INTERRUPTED, errors
        assert f"interrupted by {case.number.name}" in errors
        assert errors.count("\n") == 1
        assert case.step == 1 or (run.path / "index.html").exists()
    if case.step == 1 and not run.path.exists():
        return
    told = run.report()
    assert told.returncode == Exit.OK, told.stderr
    assert ("was cut short" in told.stderr) is (case.number is signal.SIGKILL)
    assert told.stderr.count("\n") <= 1
    result = run.result()
    assert result["partial"] is True
    if case.moment == HALF_OVER:
        assert result["modes"]["classic"]["verdict"]["measurement"] == "invalid"
    assert "Partial: the run was interrupted" in (run.path / "index.html").read_text()
