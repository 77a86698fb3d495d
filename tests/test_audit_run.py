"""Verdicts, repetitions, and `pollstorm audit` over whole run folders."""

import shutil
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from harness.audit.accounts import PARTS
from harness.audit.examination import audit_run, examine
from harness.audit.locks import lock_figures
from harness.audit.verdict import BREAKS_PROMISE, judge_votes, promise_kept, promise_voids
from harness.cli.audit import audit
from harness.errors import Exit, HistoryError, PlanError, RecordingError
from harness.history.journal import JOURNAL_DTYPE
from harness.history.ledger import LEDGER_DTYPE
from harness.history.store import write_parquet
from harness.plan import Plan, Site
from harness.report.page import render
from harness.result import Accounts, FaultRecord, ModeResult, RunResult
from harness.run_folder import RunFolder, TrialFolder, write_atomically
from harness.vote import Outcome
from tests.histories import GENERATOR, attempt, ballot, facts, make_run, make_trial, vote_id

STEADY = [attempt(n, answered_after_ms=2) for n in range(100)]
BALLOTS = [ballot(n) for n in range(100)]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "run", duration_s=6.0, peak_per_s=250).path


@pytest.fixture
def run(original, tmp_path) -> RunFolder:
    return RunFolder(shutil.copytree(original, tmp_path / "run"))


def audited(folder: RunFolder) -> RunResult:
    return audit_run(folder, command="pollstorm run x", started_utc="2026-01-01", partial=False)


def damage_ballots(trial: TrialFolder) -> None:
    """Remove seven ballots and deliver three others once more; all were delivered once."""
    ballots = duckdb.sql(f"SELECT * FROM '{trial.ballots}' ORDER BY vote").df()
    once = ballots.index[ballots["deliveries"] == 1]
    ballots.loc[once[7:10], "deliveries"] += 1
    write_parquet(ballots.drop(once[:7]), trial.ballots)


def accounts(**changes: int) -> Accounts:
    zeros = dict.fromkeys(Accounts.__struct_fields__, 0)
    return Accounts(**zeros | {"acknowledged": 300, "counted": 300} | changes)


@pytest.mark.parametrize(
    ("settled", "trial_facts", "votes"),
    [
        (accounts(), facts(), "kept"),
        (accounts(lost=1), facts(), "lost"),
        (accounts(altered=1), facts(drained=False), "lost"),
        (accounts(), facts(drained=False), "unknown"),
        (accounts(pending=2), facts(drained=False), "unknown"),
        (accounts(unrecorded=1), facts(), "unknown"),
        (accounts(), facts(missing_generators=(3,)), "unknown"),
        (accounts(acknowledged=0), facts(), "unknown"),
        (accounts(absent=5, phantom=1, duplicated=1), facts(), "kept"),
    ],
)
def test_kept_is_said_only_when_all_is_known(settled, trial_facts, votes):
    judgement = judge_votes(settled, trial_facts)
    assert judgement.votes == votes
    assert (judgement.lost_at_most_per_vote == 0.01) is (votes == "kept")
    assert bool(judgement.reasons) is (votes == "unknown" or not trial_facts.drained)


@pytest.mark.parametrize("broken", BREAKS_PROMISE)
def test_a_promise_is_to_lose_double_and_invent_nothing(broken):
    assert promise_kept(facts(), accounts(), "kept") is True
    assert promise_kept(facts(), accounts(), "unknown") is None
    assert promise_kept(facts(), accounts(**{broken: 1}), "unknown") is False
    assert promise_kept(facts(promises=False), accounts(**{broken: 1}), "lost") is None


def wiped(hit: bool = True) -> FaultRecord:
    return FaultRecord(kind="wipe", target="memcached", start_s=0.5, end_s=0.5, hit=hit)


def test_a_fault_that_the_promise_does_not_cover_excuses_what_was_lost_and_nothing_else():
    excused = facts(excuses=("wipe",), faults=(wiped(),))
    assert promise_kept(excused, accounts(lost=1), "lost") is None
    assert promise_kept(excused, accounts(), "kept") is None
    assert promise_kept(excused, accounts(duplicated=1), "kept") is False
    missed = facts(excuses=("wipe",), faults=(wiped(hit=False),))
    assert promise_kept(missed, accounts(lost=1), "lost") is False
    assert promise_kept(facts(faults=(wiped(),)), accounts(lost=1), "lost") is False


def test_a_killed_memcached_counts_as_wiped_and_a_killed_site_does_not():
    def killed(target: str) -> FaultRecord:
        return FaultRecord(kind="kill", target=target, start_s=0.5, end_s=0.5, hit=True)

    for target, void in (("memcached", True), ("memcached-2", True), ("site", False)):
        excused = facts(excuses=("wipe",), faults=(killed(target),))
        assert promise_kept(excused, accounts(lost=1), "lost") is (None if void else False)
        assert promise_voids(excused) == (("wipe",) if void else ())


def test_a_promise_that_the_plan_takes_away_is_void_whatever_happens():
    moving = facts(void_by=("rehash",))
    assert promise_kept(moving, accounts(lost=1), "lost") is None
    assert promise_voids(moving) == ("rehash",)
    assert promise_kept(moving, accounts(duplicated=1), "kept") is False
    assert promise_voids(facts(promises=False, void_by=("rehash",))) == ()


def test_a_loss_under_a_wipe_is_shown_and_is_no_broken_promise(tmp_path):
    # Without a journal, or the audit would be asked for a cause that these histories lack.
    plan = Plan(scenario="test", modes=("ticket",), repeat=2, site=Site(journal=False))
    folder = RunFolder.create(tmp_path, plan, tmp_path / "run")
    for repetition, faults in ((1, (wiped(),)), (2, ())):
        make_trial(
            folder.trial("ticket", repetition).path, STEADY, BALLOTS[repetition % 2 :],
            mode="ticket", excuses=("wipe",), faults=faults,
        )  # fmt: skip
    result = audited(folder)
    ticket = result.modes["ticket"]
    assert (result.exit_code, ticket.verdict.votes, ticket.accounts.lost) == (Exit.OK, "lost", 1)
    assert (ticket.promise_kept, ticket.promise_void_by) == (None, ("wipe",))
    assert [trial.promise_kept for trial in ticket.trials] == [None, True]
    make_trial(tmp_path / "again", STEADY, BALLOTS[1:], mode="ticket", excuses=("wipe",))
    shutil.copy(tmp_path / "again" / "ballots.parquet", folder.trial("ticket", 2).ballots)
    assert audited(folder).exit_code == Exit.BROKEN_PROMISE


def test_the_audit_of_a_whole_run(run):
    result = audited(run)
    assert result == run.result()
    assert (result.verdict.votes, result.verdict.measurement) == ("lost", "sound")
    assert result.exit_code == Exit.OK  # classic promises nothing
    for mode in result.modes.values():
        assert sum(getattr(mode.accounts, name) for name in PARTS) == mode.accounts.sent
    for name in ("direct", "cached"):
        assert result.modes[name].promise_kept is True
        assert result.modes[name].lock.grants == 0
    classic = result.modes["classic"]
    assert classic.promise_kept is None
    assert classic.lock.takeovers >= 1
    assert classic.lock.cold_grants >= 1
    assert classic.lock.overlaps >= 2
    assert classic.accounts.lost >= 1
    assert classic.faults


def changed(before: ModeResult, after: ModeResult) -> dict[str, int]:
    return {
        name: difference
        for name in Accounts.__struct_fields__
        if (difference := getattr(after.accounts, name) - getattr(before.accounts, name))
    }


def test_seven_ballots_removed_and_three_raised_are_found_and_nothing_else(run):
    before = audited(run)
    for mode in ("direct", "classic"):
        damage_ballots(run.trial(mode))
    after = audited(run)
    expected = {"counted": -7, "lost": 7, "duplicated": 3, "extra_deliveries": 3}
    assert changed(before.modes["direct"], after.modes["direct"]) == expected
    assert changed(before.modes["classic"], after.modes["classic"]) == expected
    assert changed(before.modes["cached"], after.modes["cached"]) == {}
    assert after.modes["direct"].promise_kept is False
    assert after.exit_code == Exit.BROKEN_PROMISE
    assert before.modes["classic"].latency_ms == after.modes["classic"].latency_ms


def test_an_invented_ballot_breaks_the_promise_although_all_votes_are_kept(run):
    for mode in ("direct", "classic"):
        trial = run.trial(mode)
        ballots = duckdb.sql(f"SELECT * FROM '{trial.ballots}'").df()
        invented = ballots.iloc[:1].assign(vote=vote_id(10**6))
        write_parquet(pd.concat([ballots, invented]), trial.ballots)
    result = audited(run)
    direct = result.modes["direct"]
    assert (direct.accounts.phantom, direct.verdict.votes) == (1, "kept")
    assert direct.promise_kept is False
    assert result.modes["classic"].promise_kept is None
    assert result.exit_code == Exit.BROKEN_PROMISE


def test_an_unreadable_history_makes_its_mode_unknown_and_leaves_the_others(run):
    run.trial("cached").ballots.write_bytes(b"no parquet")
    result = audited(run)
    assert result.modes["cached"].verdict.votes == "unknown"
    assert "unreadable" in result.modes["cached"].verdict.reasons[0]
    assert result.modes["direct"].verdict.votes == "kept"
    assert result.exit_code == Exit.INCONCLUSIVE


def test_an_unreadable_journal_invalidates_the_figures_and_not_the_accounts(run):
    run.trial("classic").journal.unlink()
    classic = audited(run).modes["classic"]
    assert (classic.verdict.votes, classic.verdict.measurement) == ("lost", "invalid")
    assert classic.lock.grants == 0


def test_a_mode_that_was_planned_and_not_driven_is_inconclusive(run):
    shutil.rmtree(run.trial("cached").path)
    result = audited(run)
    assert result.exit_code == Exit.INCONCLUSIVE
    assert "cached: It was planned and not driven." in result.verdict.reasons


def as_killed(trial: TrialFolder) -> None:
    """Turn it into what SIGKILL leaves: raw records with unused ones behind them, no Parquet."""
    trial.raw.mkdir()
    for parquet, dtype, stem in (
        (trial.ledger, LEDGER_DTYPE, "ledger-1"),
        (trial.journal, JOURNAL_DTYPE, "journal-7-0"),
    ):
        frame = duckdb.sql(f"SELECT * FROM '{parquet}'").df()
        records = np.zeros(len(frame) + 5, dtype)
        for name in frame:
            records[name][: len(frame)] = frame[name]
        records.tofile(trial.raw / f"{stem}.0.bin")
        parquet.unlink()
    trial.ballots.unlink()
    trial.write_facts(msgspec.structs.replace(trial.read_facts(), drained=False, partial=True))


def test_a_killed_run_is_audited_and_reported_from_its_raw_records(run):
    trial = run.trial("classic")
    grants = lock_figures(trial).grants
    attempts = len(duckdb.sql(f"SELECT * FROM '{trial.ledger}'"))
    as_killed(trial)
    code, _ = invoke(run.path)
    result = run.result()
    assert (code, result.partial) == (Exit.INCONCLUSIVE, True)
    assert result.modes["direct"].verdict.votes == "kept"
    classic = result.modes["classic"]
    assert classic.verdict.votes == "unknown"
    (reason,) = classic.verdict.reasons
    assert "ballots.parquet is missing; the trial did not run to its end" in reason
    assert len(duckdb.sql(f"SELECT * FROM '{trial.ledger}'")) == attempts
    assert lock_figures(trial).grants == grants
    render(run, result)
    assert "classic is not drawn" not in run.page.read_text()


def test_raw_records_that_were_collected_are_not_collected_again(run):
    trial = run.trial("classic")
    trial.raw.mkdir()  # somebody was killed while removing it
    assert audited(run).modes["classic"].accounts.sent > 0


def test_no_room_to_collect_raw_records_is_said(run, monkeypatch):
    def full(*_: object) -> int:
        raise RecordingError("cannot write ledger.parquet: no space left; make room, run again")

    as_killed(run.trial("classic"))
    monkeypatch.setattr("harness.audit.recovery.collect_ledger", full)
    (reason,) = audited(run).modes["classic"].verdict.reasons
    assert "make room" in reason


@pytest.mark.parametrize("content", [b"{half", b'{"schema_version": 0}'])
def test_a_result_that_cannot_be_read_is_written_anew(run, content):
    run.result_file.write_bytes(content)
    code, _ = invoke(run.path)
    assert code == Exit.OK
    assert (run.result().partial, run.result().command[:13]) == (False, "pollstorm run")


def test_a_trial_that_is_missing_makes_a_run_without_a_result_partial(run):
    shutil.rmtree(run.trial("classic").path)
    invoke(run.path)
    assert run.result().partial is True


def test_slos_are_held_against_the_mode(tmp_path):
    trial = make_trial(tmp_path / "trial", STEADY, BALLOTS[1:])
    plan = Plan(scenario="x", slo=("p99<2ms", "p99<=0.002s", "lost=0", "acknowledged_per_s<101/s"))
    assert [slo.held for slo in examine(trial, plan).result.slo] == [False, True, False, True]


def test_repetitions_are_pooled_and_kept_apart(tmp_path):
    plan = Plan(scenario="x", modes=("direct",), repeat=3)
    folder = RunFolder.create(tmp_path, plan, tmp_path / "run")
    slow = [attempt(n, answered_after_ms=8) for n in range(100)]
    make_trial(folder.trial("direct", 1).path, STEADY, BALLOTS)
    make_trial(folder.trial("direct", 2).path, slow, BALLOTS[2:])
    make_trial(folder.trial("direct", 3).path, slow, BALLOTS)
    direct = audited(folder).modes["direct"]
    assert direct.lost_range == (0, 2)
    assert (direct.accounts.sent, direct.accounts.lost) == (300, 2)
    assert (direct.latency_ms.p50, direct.trials[0].latency_ms.p50) == (8, 2)
    assert direct.rates_per_s.sent == 100
    assert [trial.verdict.votes for trial in direct.trials] == ["kept", "lost", "kept"]
    assert direct.verdict.votes == "lost"
    folder.trial("direct", 2).ballots.write_bytes(b"")
    direct = audited(folder).modes["direct"]
    assert (direct.verdict.votes, direct.lost_range) == ("unknown", (0, 0))
    assert direct.accounts.sent == 200
    assert direct.promise_kept is None


def test_a_repetition_that_sent_nothing_is_pooled_and_a_missing_one_leaves_the_names(tmp_path):
    plan = Plan(scenario="x", modes=("direct",), repeat=4)
    folder = RunFolder.create(tmp_path, plan, tmp_path / "run")
    stall, wipe = (
        FaultRecord(kind=kind, target="memcached", start_s=0.1, end_s=0.2, hit=True)
        for kind in ("pause", "wipe")
    )
    make_trial(folder.trial("direct", 2).path, [], [], faults=(stall,), planned={GENERATOR: 50})
    make_trial(folder.trial("direct", 3).path, STEADY, BALLOTS[3:], faults=(wipe,))
    direct = audited(folder).modes["direct"]
    assert [trial.name for trial in direct.trials] == ["direct.2", "direct.3"]
    assert direct.name == ""
    assert direct.faults == (stall, wipe)
    assert direct.lost_range == (0, 3)
    assert (direct.rates_per_s.offered, direct.rates_per_s.sent) == (75, 50)
    shutil.rmtree(folder.trial("direct", 2).path)
    assert audited(folder).modes["direct"].name == "direct.3"


def test_repetitions_none_of_which_can_be_read_are_unknown_together(tmp_path):
    plan = Plan(scenario="x", modes=("direct",), repeat=2)
    folder = RunFolder.create(tmp_path, plan, tmp_path / "run")
    for repetition in (1, 2):
        make_trial(folder.trial("direct", repetition).path, STEADY).ballots.unlink()
    direct = audited(folder).modes["direct"]
    assert (direct.verdict.votes, direct.accounts.planned) == ("unknown", 200)
    assert [reason.partition(":")[0] for reason in direct.verdict.reasons] == ["direct", "direct.2"]


def test_all_repetitions_kept_have_one_bound_together(tmp_path):
    plan = Plan(scenario="x", modes=("direct",), repeat=2)
    folder = RunFolder.create(tmp_path, plan, tmp_path / "run")
    for repetition in (1, 2):
        make_trial(folder.trial("direct", repetition).path, STEADY, BALLOTS)
    verdict = audited(folder).modes["direct"].verdict
    assert verdict.lost_at_most_per_vote == pytest.approx(3 / 200)


def invoke(*arguments: object) -> tuple[int, str]:
    """Exit code and output of the verb, which says its code by returning it."""
    outcome = CliRunner().invoke(audit, [str(a) for a in arguments], standalone_mode=False)
    if outcome.exception:
        raise outcome.exception
    return outcome.return_value, outcome.output


def test_the_verb_audits_again_and_keeps_the_command(run):
    first = audited(run)
    code, output = invoke(run.path, "--json")
    again = msgspec.json.decode(output, type=RunResult)
    assert (code, again) == (Exit.OK, first)
    assert (again.command, again.started_utc) == ("pollstorm run x", "2026-01-01")
    run.result_file.unlink()
    code, output = invoke(run.path)
    assert code == Exit.OK
    assert "extra_deliveries" in output
    assert run.result().command.endswith("plan.toml")


def test_the_verb_audits_files_from_elsewhere(tmp_path):
    trial = make_trial(tmp_path / "trial", STEADY, BALLOTS)
    code, output = invoke("--ledger", trial.ledger, "--ballots", trial.ballots, "--json")
    assert code == Exit.OK
    assert msgspec.json.decode(output)["accounts"]["counted"] == 100
    write_parquet(pd.DataFrame({"vote": [1], "choice": [1]}), trial.ballots)
    code, output = invoke("--ledger", trial.ledger, "--ballots", trial.ballots)
    assert code == Exit.BROKEN_PROMISE
    assert "Votes: lost." in output


def test_the_verb_refuses_what_proves_nothing(tmp_path):
    trial = make_trial(tmp_path / "trial", [attempt(0, Outcome.REFUSED)], [])
    code, _ = invoke("--ledger", trial.ledger, "--ballots", trial.ballots)
    assert code == Exit.INCONCLUSIVE
    trial.ledger.write_bytes(b"PAR1")
    with pytest.raises(HistoryError) as caught:
        invoke("--ledger", trial.ledger, "--ballots", trial.ballots)
    assert caught.value.exit_code == Exit.INCONCLUSIVE
    assert "\n" not in str(caught.value)


def test_files_that_are_swapped_or_missing_are_a_usage_error(tmp_path):
    trial = make_trial(tmp_path / "trial", STEADY, BALLOTS)
    for ledger, ballots, problem in (
        (trial.ballots, trial.ledger, r"--ledger .* has no column outcome; .* other way round"),
        (trial.ballots, trial.ballots, r"--ledger .* has no column outcome; .* needs vote, "),
        (tmp_path / "none.parquet", trial.ballots, r"--ledger .* is no file"),
        (trial.ledger, tmp_path / "none.parquet", r"--ballots .* is no file"),
    ):
        with pytest.raises(PlanError, match=problem):
            invoke("--ledger", ledger, "--ballots", ballots)
    write_parquet(pd.DataFrame({"vote": [1]}), trial.ballots)
    with pytest.raises(PlanError, match=r"--ballots .* has no column choice"):
        invoke("--ledger", trial.ledger, "--ballots", trial.ballots)


@pytest.mark.parametrize("arguments", [[], ["x", "--ledger", "y"], ["--ledger", "y"], ["/nowhere"]])
def test_the_verb_says_what_to_give(arguments):
    with pytest.raises(Exception, match="give") as caught:
        invoke(*arguments)
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("slo", "invalid", "code"),
    [
        ("p99<0.001ms", False, Exit.BROKEN_PROMISE),
        ("p99<0.001ms", True, Exit.INCONCLUSIVE),  # the generator's fault, perhaps
        ("lost=0", True, Exit.BROKEN_PROMISE),  # accounts do not depend on the generator
        ("lost<1000", True, Exit.INCONCLUSIVE),
    ],
)
def test_an_invalid_measurement_proves_thresholds_on_votes_alone(run, slo, invalid, code):
    write_atomically(
        run.plan_file, msgspec.structs.replace(run.plan(), slo=(slo,)).to_toml().encode()
    )
    if invalid:
        for trial in (t for trials in run.trials().values() for t in trials):
            trial.write_facts(msgspec.structs.replace(trial.read_facts(), ceiling_per_s=1.0))
    assert audited(run).exit_code == code
