"""All generators of a load together: what they report, and what becomes of it without one."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.errors import RecordingError, ServiceError
from harness.history.ledger import LEDGER_DTYPE
from harness.load.arrivals import planned_votes
from harness.load.fleet import Fleet, LoadedSite, require_no_failure
from harness.services.processes import Supervisor
from tests.fake_site import FakeSite, Reply
from tests.generators import ACCEPTED, LIMIT_S, plan_of

pytestmark = pytest.mark.services


def test_a_fleet_plays_all_votes_and_says_how_many_requests_were_under_way(
    tmp_path: Path, serve: Callable[[Reply], FakeSite], supervisor: Supervisor
) -> None:
    def reply(*_: object) -> bytes:
        time.sleep(0.1)
        return ACCEPTED

    site = serve(reply)
    plan = plan_of(60, 3, results=0.5, generators=2)
    started: list[int] = []
    ticks: list[float] = []
    fleet = Fleet(plan, supervisor, tmp_path, LoadedSite("127.0.0.1", site.port, tmp_path))
    report = fleet.run(on_start=started.append, on_tick=ticks.append)
    assert started == [report.start_ns]
    assert ticks == sorted(ticks)
    assert ticks[-1] > 2.5
    assert report.ended_early == ()
    assert {n: r.sent for n, r in report.reports.items()} == planned_votes(plan)
    files = sorted(tmp_path.glob("ledger-*.bin"))
    ledger = np.concatenate([np.fromfile(file, LEDGER_DTYPE) for file in files])
    ledger = ledger[ledger["sent_ns"] != 0]
    assert ledger["planned_ns"].min() >= report.start_ns
    expected = np.sum(ledger["answered_ns"] - ledger["sent_ns"]) / 1e9 / plan.duration_s
    assert report.in_flight_mean == pytest.approx(expected, rel=0.15)
    assert not report.short_of_users
    assert report.longest_block_ms == max(r.longest_block_ms for r in report.reports.values())


def test_the_same_load_goes_to_two_sites_at_once_each_with_a_ledger_of_its_own(
    tmp_path: Path, serve: Callable[[Reply], FakeSite], supervisor: Supervisor
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    sites = []
    for folder in folders:
        folder.mkdir()
        sites.append(LoadedSite("127.0.0.1", serve(lambda *_: ACCEPTED).port, folder))
    plan = plan_of(60, 1)
    report = Fleet(plan, supervisor, tmp_path, *sites).run()
    assert sorted(report.reports) == [1, 2]
    ledgers = [np.fromfile(next(folder.glob("ledger-1.*.bin")), LEDGER_DTYPE) for folder in folders]
    for field in ("vote", "choice", "planned_ns"):
        one, other = (ledger[ledger["sent_ns"] != 0][field] for ledger in ledgers)
        assert sorted(one) == sorted(other)
        assert len(one) == planned_votes(plan)[1]


def test_a_fleet_goes_on_without_a_generator_that_was_killed(
    tmp_path: Path, serve: Callable[[Reply], FakeSite], supervisor: Supervisor
) -> None:
    site = serve(lambda *_: ACCEPTED)
    plan = plan_of(40, 2, generators=2)

    def kill_one(elapsed_s: float) -> None:
        if 0.5 < elapsed_s < 0.8:
            for child in fleet.children:
                if child.name == "generator 1" and child.poll() is None:
                    os.kill(child.pid, signal.SIGKILL)

    fleet = Fleet(plan, supervisor, tmp_path, LoadedSite("127.0.0.1", site.port, tmp_path))
    report = fleet.run(on_tick=kill_one)
    assert report.ended_early == (1,)
    assert report.partial
    assert report.in_flight_mean is None
    assert report.reports[2].sent == planned_votes(plan)[2]
    assert list(tmp_path.glob("ledger-1.*.bin"))


def test_a_fleet_whose_ledger_cannot_be_written_raises_what_the_generator_said(
    tmp_path: Path, serve: Callable[[Reply], FakeSite], supervisor: Supervisor
) -> None:
    site = serve(lambda *_: ACCEPTED)
    nowhere = LoadedSite("127.0.0.1", site.port, tmp_path / "missing")
    fleet = Fleet(plan_of(40, 2), supervisor, tmp_path, nowhere)
    with pytest.raises(RecordingError, match=r"^cannot record in [^\n]*$"):
        fleet.run()


def test_a_generator_that_breaks_is_not_mistaken_for_a_full_disk(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    command = [sys.executable, "-c", "raise ValueError('nonsense')"]
    child = supervisor.spawn("generator 1", command, log=tmp_path / "log")
    child.wait(LIMIT_S)
    with pytest.raises(ServiceError, match=r"^generator 1: [^\n]*ValueError: nonsense[^\n]*$"):
        require_no_failure(child)


def test_the_ceiling_is_measured_within_seconds_and_leaves_no_ledger(
    tmp_path: Path, serve: Callable[[Reply], FakeSite], supervisor: Supervisor
) -> None:
    site = serve(lambda *_: ACCEPTED)
    fleet = Fleet(plan_of(1, 1), supervisor, tmp_path, LoadedSite("127.0.0.1", site.port, tmp_path))
    assert fleet.measure_ceiling() > 100
    assert not list(tmp_path.glob("ledger-*"))
