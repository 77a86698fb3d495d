"""Voters who give up, vote again or read slowly: what they send, and what it comes to."""

import socket
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.audit.accounts import settle
from harness.errors import HistoryError
from harness.fault import Fault
from harness.faults.voters import most_recasts, records
from harness.history.ledger import Trouble
from harness.load.conduct import DELAY_S, conduct_at, conducts
from harness.plan import Plan
from harness.vote import SEQUENCE_BITS, Outcome, mint, recast, times_recast
from tests.fake_site import Reply
from tests.generators import ACCEPTED, GeneratorProcess, plan_of
from tests.histories import GENERATOR, attempt, ballot, make_trial
from tests.test_run import STEP, plan_file, pollstorm, result_of

SLOW_S = 0.5
HASTY = Fault(kind="give-up", at_s=0.0, for_s=9.0, delay_s=0.1)


def faulty(plan: Plan, *faults: Fault) -> Plan:
    return msgspec.structs.replace(plan, faults=faults)


def slow_at_first() -> Reply:
    """Too slow for the hasty when a voter comes first, quick when he comes again."""
    seen: set[int] = set()

    def reply(number: int, _: socket.socket) -> bytes:
        voter = number & (1 << 40) - 1
        if voter not in seen:
            seen.add(voter)
            time.sleep(SLOW_S)
        return ACCEPTED

    return reply


def test_only_who_comes_while_it_lasts_behaves_otherwise():
    found = conducts(
        [
            Fault(kind="wipe", at_s=0.0),
            Fault(kind="revote", at_s=1.0, for_s=2.0),
            Fault(kind="slow-read", at_s=4.0, for_s=1.0, delay_s=0.05),
        ]
    )
    at = [conduct_at(found, round(s * 1e9)) for s in (0.999, 1.0, 2.999, 3.0, 4.5, 5.0)]
    assert [each and each.number for each in at] == [None, 1, 1, None, 2, None]
    assert at[1]
    assert at[1].is_hasty
    assert at[1].delay_s == DELAY_S
    assert at[4]
    assert not at[4].is_hasty
    assert at[4].delay_s == 0.05


def test_an_id_says_whose_vote_was_cast_again():
    first = mint(3, 77)
    again = recast(first)
    assert (times_recast(first), times_recast(again)) == (0, 1)
    assert again >> SEQUENCE_BITS == 3
    assert again & (1 << 40) - 1 == 77


def test_a_record_says_how_many_voters_and_that_it_missed_without_any():
    faults = (Fault(kind="wipe", at_s=0), HASTY)
    (hit,) = records(faults, {1: 5}, duration_s=4.0)  # type: ignore[arg-type]
    assert (hit.kind, hit.target, hit.hit, hit.end_s) == ("give-up", "voters", True, 4.0)
    assert hit.detail == "5 voters gave up waiting, and sent the same vote again"
    (missed,) = records(faults, {1: 0}, duration_s=4.0)  # type: ignore[arg-type]
    assert not missed.hit
    assert most_recasts(faults) == 0


@pytest.mark.services
def test_who_gives_up_sends_the_same_vote_again(serve, tmp_path: Path):
    site = serve(slow_at_first())
    plan = faulty(plan_of(40, 0.5, timeout_s=3.0), HASTY)
    report, ledger, _ = GeneratorProcess(tmp_path, plan, site.port).finish()
    assert report
    first, second = ledger[ledger["attempt"] == 1], ledger[ledger["attempt"] == 2]
    assert len(first) == len(second) == report.sent == report.met[0] > 5
    assert set(first["vote"]) == set(second["vote"])
    assert set(first["error"]) == {Trouble.TIMED_OUT}
    waited_s = (first["answered_ns"] - first["sent_ns"]) / 1e9
    assert waited_s.min() >= 0.099
    assert np.median(waited_s) < 0.3
    assert set(second["outcome"]) == {Outcome.ACKNOWLEDGED}


@pytest.mark.services
def test_who_votes_again_has_a_second_vote(serve, tmp_path: Path):
    site = serve(slow_at_first())
    fault = msgspec.structs.replace(HASTY, kind="revote")
    report, ledger, _ = GeneratorProcess(
        tmp_path, faulty(plan_of(40, 0.5, timeout_s=3.0), fault), site.port
    ).finish()
    assert report
    assert set(ledger["attempt"]) == {1}
    again = ledger[[times_recast(int(vote)) == 1 for vote in ledger["vote"]]]
    first = ledger[[times_recast(int(vote)) == 0 for vote in ledger["vote"]]]
    assert sorted(recast(int(vote)) for vote in first["vote"]) == sorted(again["vote"].tolist())
    assert len(first) == report.sent == report.planned == report.met[0]
    assert set(first["outcome"]) == {Outcome.UNKNOWN}
    assert set(again["outcome"]) == {Outcome.ACKNOWLEDGED}
    assert set(first["choice"]) >= set(again["choice"])


@pytest.mark.services
def test_nobody_gives_up_on_a_quick_site(serve, tmp_path: Path):
    site = serve(lambda *_: ACCEPTED)
    plan = faulty(plan_of(40, 0.5, timeout_s=3.0), HASTY)
    report, ledger, _ = GeneratorProcess(tmp_path, plan, site.port).finish()
    assert report
    assert not report.met
    assert set(ledger["attempt"]) == {1}


@pytest.mark.services
def test_a_slow_reader_takes_an_answer_in_pieces_and_keeps_his_connection(serve, tmp_path: Path):
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 150\r\n\r\n" + b"x" * 150
    site = serve(lambda *_: answer)
    fault = Fault(kind="slow-read", at_s=0.0, for_s=9.0, delay_s=0.03)
    plan = faulty(plan_of(40, 0.5, timeout_s=3.0), fault)
    report, ledger, _ = GeneratorProcess(tmp_path, plan, site.port).finish()
    assert report
    assert report.met[0] == len(ledger) > 5
    assert set(ledger["outcome"]) == {Outcome.ACKNOWLEDGED}
    pieces = -(-len(answer) // 64)
    assert ((ledger["answered_ns"] - ledger["sent_ns"]) / 1e9).min() >= pieces * 0.03 - 0.005
    assert site.connections < len(ledger), "they are used again"


def cast_again(row: dict[str, object]) -> dict[str, object]:
    return row | {"vote": recast(row["vote"])}  # type: ignore[arg-type]


LEDGER = (
    attempt(0, Outcome.UNKNOWN),
    cast_again(attempt(0)),  # both counted
    attempt(1, Outcome.UNKNOWN),
    cast_again(attempt(1)),  # the second counted
    attempt(2, Outcome.UNKNOWN),
    cast_again(attempt(2)),  # the second lost
    attempt(3),
)
BALLOTS = (ballot(0), cast_again(ballot(0)), cast_again(ballot(1)), ballot(3))


def test_each_vote_is_in_one_account_and_who_was_counted_again_is_told(tmp_path: Path):
    trial = make_trial(tmp_path / "t", LEDGER, BALLOTS, planned={GENERATOR: 5}, recasts=1)
    found = settle(trial, trial.read_facts())
    assert (found.planned, found.sent, found.recast, found.unsent) == (5, 7, 3, 1)
    assert (found.counted, found.lost, found.recovered, found.absent) == (3, 1, 1, 2)
    assert found.counted_again == 1
    assert (found.phantom, found.duplicated) == (0, 0)


def test_a_vote_cast_again_without_that_fault_was_never_planned(tmp_path: Path):
    trial = make_trial(tmp_path / "t", LEDGER, BALLOTS, planned={GENERATOR: 5})
    with pytest.raises(HistoryError, match="3 votes were never planned"):
        settle(trial, trial.read_facts())
    ours = [row for row in LEDGER if not times_recast(row["vote"])]
    trial = make_trial(tmp_path / "u", ours, BALLOTS, planned={GENERATOR: 5})
    assert settle(trial, trial.read_facts()).phantom == 2


def test_a_lost_ledger_is_not_missing_what_was_cast_again(tmp_path: Path):
    trial = make_trial(
        tmp_path / "t", (), BALLOTS, planned={GENERATOR: 5}, recasts=1, missing_generators=(1,)
    )
    found = settle(trial, trial.read_facts())
    assert (found.planned, found.sent, found.recast, found.unsent) == (5, 7, 2, 0)
    assert (found.recovered, found.absent, found.unrecorded) == (4, 3, 7)


@pytest.mark.services
def test_a_run_accounts_for_voters_who_vote_again(tmp_path: Path):
    """They give up sooner than any INSERT is done."""
    text = STEP.format(duration_s=2.0, peak_per_s=60.0)
    again = ("--fault", "revote@0.2s for=1.5s delay=1ms")
    finished = pollstorm("run", plan_file(tmp_path, text), *again, "--json", cwd=tmp_path)
    direct = result_of(finished)["modes"]["direct"]
    accounts, (record,) = direct["accounts"], direct["faults"]
    assert (record["kind"], record["target"], record["hit"]) == ("revote", "voters", True)
    assert accounts["sent"] == accounts["planned"] + accounts["recast"] - accounts["unsent"]
    assert 0 < accounts["counted_again"] <= accounts["recast"]
    assert accounts["phantom"] == accounts["lost"] == accounts["duplicated"] == 0
    assert direct["promise_kept"]
