"""Site, simulator and explorer run one text: a line broken in it is broken in all three."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIMIT_S = 120.0  # a run of 1 s, with its services
WHOLE = "for number in range(1, pointer.number + 1):"
BROKEN = "for number in range(1, pointer.number):"  # the last slot is never read
SCENARIO = """
scenario = "calm"
modes = ["classic"]
duration_s = 1.0
arrivals = {curve = "trickle", trickle_per_s = 60.0}
site = {workers = 1, threads = 2}
"""


@pytest.fixture(params=[WHOLE, BROKEN], ids=["whole", "broken"])
def line(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


def verdict_of(verb: str, line: str, tmp_path: Path, *flags: str) -> dict[str, object]:
    """What a copy of the package with this line in `classic` prints as JSON."""
    package = tmp_path / "harness"
    shutil.copytree(ROOT / "harness", package, ignore=shutil.ignore_patterns("__pycache__"))
    classic = package / "protocol" / "classic.py"
    text = classic.read_text(encoding="utf-8")
    assert text.count(WHOLE) == 1
    classic.write_text(text.replace(WHOLE, line), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", verb, *flags, "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode in (0, 3, 99), ended.stderr.decode()  # 3: measured beside other work
    result: dict[str, object] = json.loads(ended.stdout)
    return result


def test_the_explorer_runs_it(line: str, tmp_path: Path):
    found = verdict_of("explore", line, tmp_path, "classic", "--writers", "1", "--takeovers", "0")
    assert found["verdict"] == ("safe" if line == WHOLE else "loses")


def test_the_simulator_runs_it(line: str, tmp_path: Path):
    scenario = tmp_path / "calm.toml"
    scenario.write_text(SCENARIO)
    found = verdict_of("simulate", line, tmp_path, str(scenario), "--out", str(tmp_path / "run"))
    assert votes_lost(found) == (line == BROKEN)


@pytest.mark.services
def test_the_site_runs_it(line: str, tmp_path: Path):
    scenario = tmp_path / "calm.toml"
    scenario.write_text(SCENARIO)
    found = verdict_of("run", line, tmp_path, str(scenario), "--out", str(tmp_path / "run"))
    assert votes_lost(found) == (line == BROKEN)


def votes_lost(result: dict[str, object]) -> bool:
    """Whether there were votes, and some were lost."""
    accounts = result["modes"]["classic"]["accounts"]  # type: ignore[index]
    assert accounts["acknowledged"] > 30
    return bool(accounts["lost"])
