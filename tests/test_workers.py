"""Workers on other machines: each plays its share by its own clock, and a lost one is told."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli import pollstorm
from harness.errors import PlanError, ServiceError
from harness.history.ledger import LEDGER_DTYPE
from harness.load.arrivals import planned_votes
from harness.load.fleet import Fleet, LoadedSite
from harness.plan import Arrivals, Limits, Plan, Voters
from harness.services.ports import free_port
from harness.services.processes import Child, Supervisor
from tests.fake_site import FakeSite, Reply
from tests.generators import ACCEPTED

pytestmark = pytest.mark.services


def plan_of(port: int, *, lasts_s: float, patience_s: float = 30.0) -> Plan:
    return Plan(
        scenario="test",
        duration_s=lasts_s,
        arrivals=Arrivals(trickle_per_s=60),
        voters=Voters(generators=2, timeout_s=1, master=f"127.0.0.1:{port}"),
        limits=Limits(start_s=patience_s, grace_s=1),
    )


def start_workers(supervisor: Supervisor, port: int, folder: Path, number: int) -> list[Child]:
    workers = []
    for each in range(number):
        own = folder / f"worker-{each}"
        own.mkdir()
        argv = [sys.executable, "-m", "harness.load.worker", "127.0.0.1", str(port), str(own)]
        workers.append(supervisor.spawn(f"worker {each}", argv, log=folder / f"{each}.log"))
    return workers


def ledger_of(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("ledger-*.bin"))
    return np.concatenate([np.fromfile(file, LEDGER_DTYPE) for file in files])


def test_two_workers_play_the_whole_load_together_and_their_ledgers_come_back(
    tmp_path: Path, serve: Callable[[Reply], FakeSite], supervisor: Supervisor
) -> None:
    port = free_port()
    plan = plan_of(port, lasts_s=2.0)
    workers = start_workers(supervisor, port, tmp_path, 2)
    site = LoadedSite("127.0.0.1", serve(lambda *_: ACCEPTED).port, tmp_path)
    report = Fleet(plan, supervisor, tmp_path, site).run()
    assert (report.ended_early, report.lost) == ((), ())
    ledger = ledger_of(tmp_path)
    planned = planned_votes(plan)
    assert len(ledger) == sum(planned.values())
    assert len(set(ledger["vote"].tolist())) == len(ledger)
    assert {n: each.sent for n, each in report.reports.items()} == planned
    # By one clock: what was planned first was sent first, whoever sent it, to within a breath.
    assert ledger["planned_ns"].min() >= report.start_ns
    assert np.all(ledger["answered_ns"] >= ledger["sent_ns"])
    for worker in workers:
        assert worker.wait(10) == 0


def test_a_worker_that_is_lost_is_told_and_the_other_one_s_ledger_is_whole(
    tmp_path: Path, serve: Callable[[Reply], FakeSite], supervisor: Supervisor
) -> None:
    port = free_port()
    plan = plan_of(port, lasts_s=3.0)
    workers = start_workers(supervisor, port, tmp_path, 2)
    site = LoadedSite("127.0.0.1", serve(lambda *_: ACCEPTED).port, tmp_path)

    def lose_one(elapsed_s: float) -> None:
        if elapsed_s > 1.0 and workers[0].poll() is None:
            os.killpg(workers[0].pid, signal.SIGKILL)  # the machine is gone, generator and all

    report = Fleet(plan, supervisor, tmp_path, site).run(on_tick=lose_one)
    assert len(report.lost) == 1
    assert report.ended_early == report.lost
    assert report.in_flight_mean is None
    (kept,) = set(planned_votes(plan)) - set(report.lost)
    assert len(ledger_of(tmp_path)) == planned_votes(plan)[kept]
    assert workers[1].wait(10) == 0


def test_workers_that_do_not_come_are_waited_for_no_longer_than_the_plan_says(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    port = free_port()
    plan = plan_of(port, lasts_s=1.0, patience_s=4.0)
    fleet = Fleet(plan, supervisor, tmp_path, LoadedSite("127.0.0.1", 1, tmp_path))
    with pytest.raises(ServiceError, match="0 of 2 workers came"):
        fleet.run()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run", "steady-trickle", "--listen", "127.0.0.1:1"], "--remote"),
        (["run", "steady-trickle", "--remote", "2", "--listen", "nowhere"], "host:port"),
        (["worker", "--master", "nowhere"], "host:port"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(arguments: list[str], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        CliRunner().invoke(pollstorm, arguments, catch_exceptions=False, standalone_mode=False)
