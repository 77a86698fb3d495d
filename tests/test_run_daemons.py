"""Whole runs on three memcached daemons that are there already: `--memcached a:1,b:2,c:3`."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from harness.errors import Exit
from harness.history.store import connect
from harness.plan import MemcachedPlan
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer, start_memcached
from harness.services.ports import LOOPBACK, free_port
from harness.services.processes import Supervisor
from tests.test_run import children_of_runs, plan_file, pollstorm, result_of, started

pytestmark = pytest.mark.services

MODES: Final = ("classic", "owned", "ticket", "mirrored")
PLAN: Final = """
# Patience and time-outs beyond any stall of a busy machine: this is about where keys lie.
scenario = "three-daemons"
duration_s = {duration_s}
modes = ["classic", "owned", "ticket", "mirrored"]
[arrivals]
curve = "step"
peak_per_s = 200.0
lasts_s = 60.0
[voters]
timeout_s = 20.0
[queue]
patience_s = 20.0
[limits]
drain_s = {drain_s}
"""


@pytest.fixture(scope="module")
def three(supervisor: Supervisor, logs: Path) -> Iterator[tuple[MemcachedServer, ...]]:
    daemons = [
        start_memcached(supervisor, MemcachedPlan(), logs / f"three-{number}.log")
        for number in (1, 2, 3)
    ]
    yield tuple(daemons)
    for daemon in daemons:
        daemon.stop()


def named(daemons: tuple[MemcachedServer, ...]) -> str:
    return ",".join(daemon.address for daemon in daemons)


@pytest.fixture(scope="module")
def run(
    three: tuple[MemcachedServer, ...],
    mariadb: MariadbServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Any]]:
    cwd = tmp_path_factory.mktemp("three")
    plan = plan_file(cwd, PLAN.format(duration_s=1.5, drain_s=60))
    where = ("--memcached", named(three), "--database", mariadb.url)
    finished = pollstorm("run", plan, *where, "--out", "run", "--json", cwd=cwd)
    assert finished.returncode in (Exit.OK, Exit.INCONCLUSIVE), finished.stderr  # a busy machine
    return cwd / "run", result_of(finished)


@pytest.mark.parametrize("mode", MODES)
def test_every_queue_is_filled_and_drained_on_them(
    run: tuple[Path, dict[str, Any]], mode: str
) -> None:
    """A queue's keys lie on all three; a mirrored one has a copy on each of the first two."""
    folder, result = run
    found = result["modes"][mode]
    accounts = found["accounts"]
    assert accounts["acknowledged"] == accounts["sent"] > 150, accounts
    assert found["faults"] == []
    if found["lock"]["cold_grants"] < 2:  # two who begin at once cost classic what they drew
        assert accounts["counted"] == accounts["acknowledged"], (accounts, found["lock"])
        assert (found["verdict"]["votes"], accounts["duplicated"]) == ("kept", 0)
    with connect() as connection:
        slots = connection.execute(
            f"SELECT DISTINCT daemon FROM '{folder / mode / 'journal.parquet'}' WHERE slot > 0"
        ).fetchall()
    assert sorted(slots) == [(0,), (1,)] + [(2,)] * (mode != "mirrored")


def test_one_that_is_down_at_the_start_is_one_line_and_nothing_is_started(
    three: tuple[MemcachedServer, ...], tmp_path: Path
) -> None:
    down = f"{LOOPBACK}:{free_port()}"
    plan = plan_file(tmp_path, PLAN.format(duration_s=1.5, drain_s=60))
    where = ("--memcached", f"{named(three[:2])},{down}")
    finished = pollstorm("run", plan, *where, "--out", "run", cwd=tmp_path)
    assert finished.returncode == Exit.FAILED
    assert finished.stderr.startswith(f"pollstorm: memcached at {down} does not answer: ")
    assert "start it, or leave --memcached away" in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_one_that_dies_during_the_load_is_told_with_its_time(
    supervisor: Supervisor, three: tuple[MemcachedServer, ...], tmp_path: Path
) -> None:
    """Slots on it cannot be read, so nobody can say that the queue is empty."""
    doomed = start_memcached(supervisor, MemcachedPlan(), tmp_path / "doomed.log")
    arguments = ("--modes", "ticket", "--memcached", named((*three[:2], doomed)), "--out", "run")
    plan = PLAN.format(duration_s=3.0, drain_s=1)
    run = started(tmp_path, " 6/12", *arguments, plan=plan)
    time.sleep(1.0)  # the load begins, or has begun
    os.kill(doomed.child.pid, signal.SIGKILL)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (Exit.INCONCLUSIVE, "")
    assert children_of_runs(tmp_path) == []
    told = f"ticket: memcached at {doomed.address} is gone, and not by this run, "
    assert told in " ".join(output.split())
    ticket = json.loads((tmp_path / "run" / "result.json").read_text())["modes"]["ticket"]
    (fault,) = ticket["faults"]
    assert not fault["planned"]
    assert fault["start_s"] < 3.0  # it is looked for all the time, and not only after the drain
    assert ticket["verdict"]["votes"] == "unknown"
    assert told[:-2] in (tmp_path / "run" / "summary.md").read_text().replace("\\", "")
