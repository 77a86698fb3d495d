"""Whole simulated trials: their records, what the audit says of them, and the verb."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from harness.audit.examination import audit_run
from harness.cli.simulate import simulate
from harness.errors import PlanError
from harness.fault import Fault
from harness.history.ledger import RequestKind
from harness.history.store import connect, quoted
from harness.modes.mode import find_mode
from harness.modes.queues import terms
from harness.plan import Arrivals, Plan, Voters, plan_from
from harness.protocol import classic
from harness.protocol.commands import COMMAND_CODES, Incr, KeyKind, Machine
from harness.protocol.queue import Queue
from harness.result import RunResult
from harness.run_folder import RunFolder, TrialFolder
from harness.simulation.calibration import from_journals, parted
from harness.simulation.records import Records
from harness.simulation.service_times import PROBABILITIES, ServiceTimes, constant, shipped
from harness.simulation.trial import Machine as Simulated
from harness.simulation.trial import play
from harness.simulation.world import Told, World

US = 1_000
MS = 1_000_000
TIMES = ServiceTimes(
    origin="round numbers",
    cores=1,
    client_ns=constant(20 * US),
    call_each_ns=16 * US,
    awakened_ns=constant(30 * US),
    memcached_ns=constant(10 * US),
    pipelined_ns=constant(2 * US),
    wake_ns=constant(5 * US),
    switch_each_ns=0,
    oversleep_ns=constant(80 * US),
    insert_ns=constant(100 * US),
    row_ns=constant(10 * US),
    commit_ns=constant(200 * US),
    count_row_ns=constant(100),
    http_ns=constant(50 * US),
    python_ns=constant(50 * US),
    way_ns=constant(0),
    wake_lag_ns=constant(400 * US),
)
MACHINE = Simulated(TIMES, cores=1)
PAUSE = Fault(kind="pause", at_s=1.0, target="lock-holder", for_s=1.2)
ALL_MODES = ("direct", "cached", "classic", "owned", "ticket", "mirrored")


def plan(*faults: Fault, per_s: float = 400.0, **changes: object) -> Plan:
    arrivals = Arrivals(curve="trickle", trickle_per_s=per_s, results_per_vote=0.1)
    return msgspec.structs.replace(
        Plan(scenario="test", duration_s=3.0, arrivals=arrivals, faults=faults), **changes
    )


def world(mode_name: str, of: Plan, times: ServiceTimes = TIMES, cores: int = 1) -> World:
    mode = find_mode(mode_name)
    played = World(of, Told(mode_name, mode.protocol(terms(of)), 0), times, cores, (of.seed, 1))
    played.play()
    return played


def audited(folder: Path, of: Plan, machine: Simulated = MACHINE) -> RunResult:
    """A run of all the plan's modes, audited."""
    run = RunFolder.create(folder, of, folder / "run")
    for mode in of.modes:
        play(of, mode, 1, machine, run.trial(mode))
    return audit_run(run, command="test", started_utc="", partial=False)


def rows(trial: TrialFolder, sql: str) -> list[tuple[int, ...]]:
    with connect() as connection:
        names = {"journal": quoted(trial.journal), "ledger": quoted(trial.ledger)}
        return connection.execute(sql.format(**names)).fetchall()


def bytes_of(records: Records) -> tuple[bytes, bytes]:
    return bytes(records.ledger), bytes(records.journal)


@pytest.mark.parametrize("mode", ["classic", "mirrored"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(mode: str) -> None:
    one, again = (world(mode, plan(PAUSE), shipped()) for _ in range(2))
    other = world(mode, plan(PAUSE, seed=2), shipped())
    assert bytes_of(one.records) == bytes_of(again.records)
    assert one.ballots.ballots().equals(again.ballots.ballots())
    assert bytes_of(one.records) != bytes_of(other.records)


def test_parquet_files_of_one_seed_are_the_same_to_the_last_byte(tmp_path: Path) -> None:
    of = plan(modes=("classic",))
    trials = [TrialFolder(tmp_path / name) for name in ("one", "two")]
    for trial in trials:
        play(of, "classic", 1, MACHINE, trial)
    one, two = trials
    for file in ("ledger", "journal", "ballots"):
        assert getattr(one, file).read_bytes() == getattr(two, file).read_bytes()


def test_left_in_peace_every_mode_keeps_every_vote_and_its_accounts_sum(tmp_path: Path) -> None:
    result = audited(tmp_path, plan(modes=ALL_MODES))
    for name, mode in result.modes.items():
        accounts = mode.accounts
        assert (name, mode.verdict.votes, mode.verdict.reasons) == (name, "kept", ())
        assert accounts.counted == accounts.acknowledged == accounts.sent == accounts.planned > 1000
        assert accounts.duplicated == accounts.phantom == 0
    assert result.verdict.measurement == "sound"


def test_a_stalled_holder_costs_classic_votes_and_the_others_none(tmp_path: Path) -> None:
    modes = ("direct", "classic", "ticket")
    result = audited(tmp_path, plan(PAUSE, per_s=800.0, modes=modes))
    classic_result = result.modes["classic"]
    assert classic_result.accounts.lost > 0
    assert classic_result.lock.takeovers > 0
    assert classic_result.faults[0].hit
    for mode in ("direct", "ticket"):
        assert result.modes[mode].verdict.votes == "kept"


def test_a_stopped_process_does_nothing_until_it_goes_on(tmp_path: Path) -> None:
    result = audited(tmp_path, plan(PAUSE, modes=("classic",)))
    (fault,) = result.modes["classic"].faults
    assert fault.end_s - fault.start_s == pytest.approx(1.2, abs=1e-3)
    trial = RunFolder.open(tmp_path / "run").trial("classic")
    start_ns = trial.read_facts().load_start_ns
    pid = int(fault.detail.split()[2])
    stopped, healed = (start_ns + round(s * 1e9) for s in (fault.start_s, fault.end_s))
    during = f"begin_ns > {stopped + MS} AND begin_ns < {healed - MS}"
    ((by_it, by_others),) = rows(
        trial,
        f"SELECT count_if(pid = {pid}), count_if(pid <> {pid}) FROM {{journal}} WHERE {during}",
    )
    assert by_it == 0
    assert by_others > 100
    ((after,),) = rows(
        trial, f"SELECT count(*) FROM {{journal}} WHERE pid = {pid} AND begin_ns >= {healed - MS}"
    )
    assert after > 0


def test_a_wipe_starts_the_queue_cold(tmp_path: Path) -> None:
    wipe = Fault(kind="wipe", at_s=1.0)
    result = audited(tmp_path, plan(wipe, modes=("classic",)))
    assert result.modes["classic"].lock.cold_grants >= 2  # the first of all, and the one after it
    assert result.modes["classic"].faults[0].hit


def test_naps_last_a_millisecond_and_what_the_timer_adds(tmp_path: Path) -> None:
    result = audited(tmp_path, plan(per_s=700.0, modes=("classic",)))
    assert result.modes["classic"].lock.grants > 1000
    trial = RunFolder.open(tmp_path / "run").trial("classic")
    is_try = f"command = {COMMAND_CODES[Incr]} AND key = {int(KeyKind.LOCK)}"
    naps = rows(
        trial,
        f"""SELECT began - tried FROM (
                SELECT lead(begin_ns) OVER w AS began, end_ns AS tried, number,
                    lead(operation) OVER w = operation AS same
                FROM {{journal}} WHERE {is_try}
                WINDOW w AS (PARTITION BY pid, thread ORDER BY begin_ns))
            WHERE same AND number > 1 ORDER BY 1""",
    )
    assert len(naps) > 100
    shortest, median = naps[0][0], naps[len(naps) // 2][0]
    # A nap, the timer's addition, and the client's computing before and after.
    assert shortest >= MS + 80 * US + 20 * US
    assert median < 1.5 * MS


def test_a_voter_whose_time_is_over_does_not_know_and_comes_again(tmp_path: Path) -> None:
    slow = msgspec.structs.replace(TIMES, python_ns=constant(20 * MS))
    of = plan(modes=("direct",), voters=Voters(timeout_s=0.5, retries=1), per_s=100.0)
    result = audited(tmp_path, of, Simulated(slow, cores=1))
    accounts = result.modes["direct"].accounts
    assert accounts.recovered > 0
    assert accounts.lost == accounts.phantom == accounts.duplicated == 0
    trial = RunFolder.open(tmp_path / "run").trial("direct")
    ((second, longest_ns),) = rows(
        trial,
        "SELECT count_if(attempt = 2), max(answered_ns - sent_ns) FROM {ledger} "
        f"WHERE kind = {int(RequestKind.VOTE)}",
    )
    assert second > 0
    assert longest_ns == 500 * MS


def test_several_flushers_and_many_queues_lose_nothing(tmp_path: Path) -> None:
    base = msgspec.to_builtins(plan(modes=("ticket", "mirrored")))
    base["flusher"]["processes"] = 3
    base["queue"]["queues"] = 8
    result = audited(tmp_path, plan_from(_without_none(base), "test"))
    for mode in result.modes.values():
        assert mode.verdict.votes == "kept"
        assert mode.accounts.counted == mode.accounts.planned


def test_more_cores_and_queues_carry_more_votes() -> None:
    crowded = plan(per_s=12_000.0, modes=("ticket",), duration_s=0.5)

    def answered_in_time(cores: int, workers: int) -> int:
        site = msgspec.structs.replace(crowded.site, workers=workers)
        played = world("ticket", msgspec.structs.replace(crowded, site=site), TIMES, cores)
        return sum(inside for _, inside in played.samples)

    assert answered_in_time(8, 8) < answered_in_time(1, 2) / 4


def test_breaking_a_line_of_the_protocol_changes_the_simulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = audited(tmp_path / "as-it-is", plan(modes=("classic",)))
    monkeypatch.setattr(classic, "acquire", _everybody_is_let_in)
    broken = audited(tmp_path / "broken", plan(modes=("classic",)))
    assert kept.modes["classic"].accounts.lost == 0
    assert broken.modes["classic"].accounts.lost > 0


def _everybody_is_let_in(queue: Queue, *, take_over: bool) -> Machine[classic.Grant]:  # noqa: ARG001
    yield Incr(queue.lock)
    return classic.Grant.CLEAN


def test_calibration_finds_the_times_that_a_journal_was_played_with(tmp_path: Path) -> None:
    audited(tmp_path, plan(per_s=300.0, modes=("direct", "classic")))
    trials = RunFolder.open(tmp_path / "run").trials().values()
    with connect() as connection:
        found = from_journals(
            connection.execute(f"SELECT * FROM {quoted(trial.journal)}").df() for (trial,) in trials
        )
    medians = {name: np.median(values) for name, values in found.items() if len(values)}
    both_ns = medians["memcached_ns"] + medians["client_ns"]
    assert both_ns == pytest.approx(30 * US, rel=0.05)
    # Timers strike 80 us late, cores wake up in 5 us, and then 30 us are computed. A kernel's
    # timers are 50 us late, so what goes beyond that is taken for computing.
    assert medians["oversleep_ns"] == 50 * US
    assert medians["awakened_ns"] == pytest.approx((30 + 5 + 30) * US, abs=3 * US)
    assert medians["row_ns"] == pytest.approx(10 * US, rel=0.2)


def test_where_there_is_no_lock_who_holds_a_ticket_is_stopped(tmp_path: Path) -> None:
    result = audited(tmp_path, plan(PAUSE, modes=("ticket",)))
    (fault,) = result.modes["ticket"].faults
    assert (fault.hit, fault.target) == (True, "ticket-holder")


def test_left_in_peace_direct_takes_little_longer_than_its_work(tmp_path: Path) -> None:
    """With the times that come with us, at a load that any machine stands."""
    result = audited(tmp_path, plan(modes=("direct",), per_s=20.0), Simulated(shipped(), 1))
    middle = {
        name: value[PROBABILITIES.index(0.5)]
        for name, value in msgspec.structs.asdict(shipped()).items()
        if isinstance(value, tuple)
    }
    work = ("way_ns", "http_ns", "python_ns", "client_ns", "insert_ns", "commit_ns")
    alone_ms = sum(middle[name] for name in work) / MS
    p50_ms = result.modes["direct"].latency_from_sent_ms.p50
    assert p50_ms is not None
    assert alone_ms / 2 < p50_ms < 2 * alone_ms
    assert p50_ms < 10.0


def test_processor_time_tells_computing_from_waiting() -> None:
    computing, waiting = parted(np.array([100.0, 300.0]), 50.0)
    assert computing.tolist() == [25.0, 75.0]
    assert waiting.tolist() == [75.0, 225.0]
    assert parted(np.array([100.0]), 500.0)[1].tolist() == [0.0]


def run_verb(*arguments: str) -> tuple[int, str]:
    """What the verb returned, and printed."""
    outcome = CliRunner().invoke(simulate, list(arguments), standalone_mode=False)
    if outcome.exception:
        raise outcome.exception
    return outcome.return_value, outcome.output


def test_the_verb_writes_a_run_folder_that_says_everywhere_that_it_is_simulated(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    code, printed = run_verb(
        "steady-trickle", "--modes", "direct,classic", "--duration", "3", "--out", str(out),
        "--cores", "2", "--shards", "2", "--seed", "5",
    )  # fmt: skip
    assert code == 0
    assert printed.count("Simulated: virtual time") == 1
    result = json.loads((out / "result.json").read_text())
    assert result["simulated"] is True
    assert "Simulated: virtual time" in (out / "summary.md").read_text()
    assert "Simulated: virtual time" in (out / "index.html").read_text()
    described = json.loads((out / "simulation.json").read_text())
    assert described["cores"] == 2
    assert described["service_times"]["memcached_ns"] == list(shipped().memcached_ns)
    assert RunFolder.open(out).plan().queue.queues == 2
    assert sorted(path.name for path in (out / "classic").iterdir()) == [
        "ballots.parquet",
        "certificates.parquet",
        "journal.parquet",
        "ledger.parquet",
        "trial.json",
    ]


def test_a_simulated_run_stays_simulated_when_it_is_audited_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_verb("steady-trickle", "--modes", "direct", "--duration", "2", "--out", str(out))
    again = audit_run(RunFolder.open(out), command="again", started_utc=None, partial=False)
    assert again.simulated


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("steady-trickle", "--modes", "clasic"), "classic"),
        (("stedy-trickle",), "steady-trickle"),
        (("steady-trickle", "--shards", "0"), "queue.queues"),
        (("steady-trickle", "--calibrate", "/nowhere"), "/nowhere"),
    ],
)
def test_what_cannot_be_simulated_is_one_line_and_a_usage_error(
    arguments: tuple[str, ...], says: str
) -> None:
    with pytest.raises(PlanError, match=says) as told:
        run_verb(*arguments)
    assert "\n" not in str(told.value)
    assert told.value.exit_code == 2


def test_a_simulated_run_cannot_be_calibrated_with(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_verb("steady-trickle", "--modes", "direct", "--duration", "2", "--out", str(out))
    with pytest.raises(PlanError, match="simulated itself"):
        run_verb("steady-trickle", "--calibrate", str(out))


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(inner) for inner in value]
    return value
