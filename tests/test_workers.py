"""Workers on other machines: each plays its share by its own clock, and a lost one is told."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli import pollstorm
from harness.errors import Exit, Interrupted, PlanError, ServiceError
from harness.history.ledger import LEDGER_DTYPE, RequestKind
from harness.history.store import quoted
from harness.load.arrivals import planned_votes
from harness.load.fleet import Fleet, LoadedSite
from harness.load.request import ALLOW_TARGET
from harness.plan import Arrivals, Limits, Plan, Voters
from harness.run import Destination, run
from harness.services.ports import free_port
from harness.services.processes import Child, Supervisor
from harness.services.targets import Existing
from tests.fake_site import FakeSite, Reply
from tests.generators import ACCEPTED
from tests.machines import Machine, machines

pytestmark = pytest.mark.services


def plan_of(port: int, *, lasts_s: float, patience_s: float = 30.0, generators: int = 2) -> Plan:
    return Plan(
        scenario="test",
        duration_s=lasts_s,
        arrivals=Arrivals(trickle_per_s=60),
        voters=Voters(generators=generators, timeout_s=1, master=f"127.0.0.1:{port}"),
        limits=Limits(start_s=patience_s, grace_s=1),
    )


def worker_argv(host: str, port: int, folder: Path) -> list[str]:
    """One load's worker, which waits half a minute for it."""
    return [sys.executable, "-m", "harness.load.worker", host, str(port), str(folder), "30"]


def start_workers(supervisor: Supervisor, port: int, folder: Path, number: int) -> list[Child]:
    workers = []
    for each in range(number):
        own = folder / f"worker-{each}"
        own.mkdir()
        argv = worker_argv("127.0.0.1", port, own)
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


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[Machine, ...]]:
    """Two other machines."""
    with machines() as two:
        yield two


def test_machines_with_networks_and_clocks_of_their_own_play_a_run_and_every_vote_is_accounted_for(
    tmp_path: Path, supervisor: Supervisor, elsewhere: tuple[Machine, ...]
) -> None:
    address = elsewhere[0].address
    master = f"{address}:{free_port()}"
    argv = [sys.executable, "-m", "harness.cli", "worker", "--master", master, "--loads", "2"]
    workers = [
        supervisor.spawn(
            machine.name,
            machine.command([*argv, "--allow-target", address]),
            log=tmp_path / f"{machine.name}.log",
        )
        for machine in elsewhere
    ]
    arguments = ["--modes", "direct", "--duration", "2", "--set", "arrivals.trickle_per_s=60"]
    remote = ["--remote", "2", "--listen", master, "--out", str(tmp_path / "run"), "--json"]
    CliRunner().invoke(
        pollstorm,
        ["run", "steady-trickle", *arguments, *remote],
        catch_exceptions=False,
        standalone_mode=False,
    )
    for worker in workers:
        assert worker.wait(10) == 0, worker.log_tail()
    result = json.loads((tmp_path / "run" / "result.json").read_text())["modes"]["direct"]
    accounts = result["accounts"]
    assert accounts["counted"] == accounts["acknowledged"] == accounts["planned"] > 80
    assert result["verdict"]["votes"] == "kept"
    assert 0 < result["generator"]["clock_within_ms"] < 50
    facts = json.loads((tmp_path / "run" / "direct" / "trial.json").read_text())
    assert facts["missing_generators"] == []
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"""SELECT generator, min(planned_ns), max(sent_ns), count(*)
            FROM {quoted(tmp_path / "run" / "direct" / "ledger.parquet")}
            WHERE kind = {int(RequestKind.VOTE)}
            GROUP BY generator ORDER BY generator"""
        ).fetchall()
    assert {row[0]: row[3] for row in rows} == {int(n): v for n, v in facts["planned"].items()}
    start_ns = facts["load_start_ns"]
    for _, first_ns, last_ns, _ in rows:  # by our clock, whatever theirs show
        assert start_ns - 50e6 < first_ns <= last_ns < start_ns + 10e9


def test_a_machine_whose_cable_is_pulled_out_is_given_up_within_seconds_and_named(
    tmp_path: Path, supervisor: Supervisor, elsewhere: tuple[Machine, ...]
) -> None:
    address, port = elsewhere[0].address, free_port()
    site = FakeSite(lambda *_: ACCEPTED, address)
    plan = plan_of(port, lasts_s=2.0)
    voters = msgspec.structs.replace(plan.voters, master=f"{address}:{port}")
    plan = msgspec.structs.replace(plan, voters=voters)
    for machine in elsewhere:
        own = tmp_path / machine.name
        own.mkdir()
        argv = machine.command(worker_argv(address, port, own))
        log, env = tmp_path / f"{machine.name}.log", {ALLOW_TARGET: address}
        supervisor.spawn(machine.name, argv, log=log, env=env)
    cut_s = 0.0

    def cut(elapsed_s: float) -> None:
        nonlocal cut_s
        if elapsed_s > 0.5 and not cut_s:
            cut_s = time.monotonic()
            elsewhere[1].cut()

    report = Fleet(plan, supervisor, tmp_path, LoadedSite(address, site.port, tmp_path)).run(
        on_tick=cut
    )
    site.close()
    assert len(report.lost) == len(report.reports) == 1
    assert report.ended_early == report.lost
    assert time.monotonic() - cut_s < 10
    (kept,) = report.reports
    assert set(ledger_of(tmp_path)["generator"].tolist()) == {kept}


class LosesOne:
    """Follows a run, and in the midst of the load takes a machine away, generator and all."""

    def __init__(self, worker: Child) -> None:
        self._worker = worker

    def step(self, trial: str, number: int, text: str) -> None: ...

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:  # noqa: ARG002
        if elapsed_s > 1.0 and self._worker.poll() is None:
            os.killpg(self._worker.pid, signal.SIGKILL)  # its reaper ends the rest


def test_a_run_that_loses_a_worker_keeps_the_other_one_s_ledger_and_says_what_it_cannot_know(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    port = free_port()
    plan = msgspec.structs.replace(plan_of(port, lasts_s=3.0), modes=("direct",))
    argv = [sys.executable, "-m", "harness.cli", "worker", "--master", f"127.0.0.1:{port}"]
    workers = [
        supervisor.spawn(f"worker {each}", argv, log=tmp_path / f"{each}.log") for each in (0, 1)
    ]
    folder, result = run(
        plan, Destination(out=tmp_path / "run"), Existing(), "test", LosesOne(workers[0])
    )
    for worker in workers:
        worker.stop(5)
    assert result.partial
    assert result.exit_code == Exit.INCONCLUSIVE
    trial = folder.trial("direct")
    facts = trial.read_facts()
    (lost,) = facts.missing_generators
    assert f"worker {lost} was lost during the load" in facts.notes[0]
    with duckdb.connect() as connection:
        told = connection.execute(
            f"SELECT count(*) FROM {quoted(trial.ledger)} WHERE kind = {int(RequestKind.VOTE)}"
        ).fetchone()
    (kept,) = set(facts.planned) - {lost}
    assert told == (facts.planned[kept],)
    accounts = result.modes["direct"].accounts
    assert accounts.acknowledged == facts.planned[kept]
    assert accounts.recovered + accounts.absent == facts.planned[lost]  # none is dropped
    assert accounts.recovered > 0
    assert result.verdict.measurement == "invalid"


def test_one_machine_with_another_pollstorm_is_named_before_anything_is_played(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    port = free_port()
    plan = plan_of(port, lasts_s=1.0, generators=1)
    other = (
        "import sys, harness; harness.__version__ = '0.0.1'; from harness.load.worker import main;"
        f"from pathlib import Path; sys.exit(main('127.0.0.1', {port}, Path('{tmp_path}'), 30))"
    )
    worker = supervisor.spawn("worker", [sys.executable, "-c", other], log=tmp_path / "w.log")
    fleet = Fleet(plan, supervisor, tmp_path, LoadedSite("127.0.0.1", 1, tmp_path))
    with pytest.raises(ServiceError, match=r"plays with pollstorm 0\.0\.1, and this is"):
        fleet.run()
    assert worker.wait(10) == Exit.FAILED
    assert "and this is 0.0.1; install the same on both machines" in worker.log_tail()


def test_a_port_where_another_run_listens_is_one_line(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        plan = plan_of(taken.getsockname()[1], lasts_s=1.0)
        fleet = Fleet(plan, supervisor, tmp_path, LoadedSite("127.0.0.1", 1, tmp_path))
        with pytest.raises(ServiceError, match="another run may listen there"):
            fleet.run()
    assert len((tmp_path / "master.log").read_text().splitlines()) == 1


def test_a_run_that_is_interrupted_sends_its_workers_home_and_the_load_ends(
    tmp_path: Path, serve: Callable[[Reply], FakeSite], supervisor: Supervisor
) -> None:
    """Nor does it matter that the worker has missed the first thing that it was asked."""
    port = free_port()
    plan = plan_of(port, lasts_s=60.0, generators=1)
    deaf = (
        "import sys; from pathlib import Path; from harness.load import worker as w\n"
        "told = w.LoadWorker._on_clock; heard = []\n"
        "def on_clock(self, msg, **_): told(self, msg) if heard else heard.append(msg)\n"
        "w.LoadWorker._on_clock = on_clock\n"
        f"sys.exit(w.main('127.0.0.1', {port}, Path('{tmp_path}'), 30))"
    )
    worker = supervisor.spawn("worker", [sys.executable, "-c", deaf], log=tmp_path / "w.log")
    site = LoadedSite("127.0.0.1", serve(lambda *_: ACCEPTED).port, tmp_path)

    def interrupt(elapsed_s: float) -> None:
        if elapsed_s > 0.3:
            raise Interrupted("interrupted by SIGINT")

    with pytest.raises(Interrupted):
        Fleet(plan, supervisor, tmp_path, site).run(on_tick=interrupt)
    assert worker.wait(10) == Exit.OK


def test_workers_that_do_not_come_are_waited_for_no_longer_than_the_plan_says(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    port = free_port()
    plan = plan_of(port, lasts_s=1.0, patience_s=1.0)
    fleet = Fleet(plan, supervisor, tmp_path, LoadedSite("127.0.0.1", 1, tmp_path))
    with pytest.raises(ServiceError, match="0 of 2 workers came"):
        fleet.run()


def test_a_worker_waits_for_its_first_load_no_longer_than_it_is_told_and_ends_when_interrupted(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    argv = [sys.executable, "-m", "harness.cli", "worker", "--master", f"127.0.0.1:{free_port()}"]
    patient = supervisor.spawn("patient", argv, log=tmp_path / "patient.log")
    hasty = supervisor.spawn("hasty", [*argv, "--wait", "1"], log=tmp_path / "hasty.log")
    assert hasty.wait(15) == Exit.FAILED
    told = hasty.log.read_text()
    assert "no load came within 1 s; start `pollstorm run` with --remote" in told
    assert len(told.splitlines()) == 1
    os.kill(patient.pid, signal.SIGINT)
    assert patient.wait(5) == Exit.INTERRUPTED
    assert patient.log.read_text() == "pollstorm: interrupted by SIGINT\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run", "steady-trickle", "--listen", "127.0.0.1:1"], "--remote"),
        (["run", "steady-trickle", "--remote", "2", "--listen", "nowhere"], "host:port"),
        (["capacity", "--listen", "127.0.0.1:1"], "--remote"),
        (["worker", "--master", "nowhere"], "--master 'nowhere': write host:port"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(arguments: list[str], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        CliRunner().invoke(pollstorm, arguments, catch_exceptions=False, standalone_mode=False)
