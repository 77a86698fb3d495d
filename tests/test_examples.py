"""The worked examples of the documentation: packages that work as they stand."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.errors import Exit
from harness.modes.mode import GROUP, find_mode, known_modes

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "impatient"
RUN_LIMIT_S = 90
PLAN = """
scenario = "example"
duration_s = 2.0
[arrivals]
curve = "step"
peak_per_s = 150.0
lasts_s = 60.0
"""


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A search path on which the example is found as an installed package is, by its metadata."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / "site" / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{n} = {v}\n" for n, v in project["entry-points"][GROUP].items())
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    return os.pathsep.join([str(tmp_path / "site"), str(EXAMPLE)])


def test_the_example_is_short() -> None:
    assert len((EXAMPLE / "impatient.py").read_text().splitlines()) < 60


def test_the_example_is_a_mode_that_can_be_named(
    installed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in installed.split(os.pathsep):
        monkeypatch.syspath_prepend(folder)
    assert "impatient" in known_modes()
    mode = find_mode("impatient")
    assert (mode.promises, mode.queues, mode.excuses) == (False, True, ())


@pytest.mark.services
def test_the_example_takes_votes_in_a_real_run_and_queues_most_of_them(
    installed: str, tmp_path: Path
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    run = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("pollstorm")), "run", "plan.toml"),
            *("--modes", "impatient", "--out", "run", "--json"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": installed, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    assert run.returncode == Exit.OK, run.stderr
    found = json.loads(run.stdout)["modes"]["impatient"]
    assert found["verdict"]["votes"] == "kept"
    assert found["accounts"]["counted"] == found["accounts"]["sent"] > 200
    assert found["lock"]["clean_grants"] > found["accounts"]["sent"] / 2
    assert found["counted_after_s"]["p50"] > 0  # queued: a vote stored at once counts as 0
