"""The accounts: small histories by hand, and random ones against an oracle that is obvious."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.audit.accounts import PARTS, settle, settle_files
from harness.errors import HistoryError
from harness.history.ledger import RequestKind
from harness.history.store import write_parquet
from harness.result import Accounts
from harness.vote import Outcome
from tests.histories import GENERATOR, attempt, ballot, facts, make_trial

ACKNOWLEDGED, UNKNOWN, REFUSED = Outcome.ACKNOWLEDGED, Outcome.UNKNOWN, Outcome.REFUSED


def settled(path: Path, ledger=(), ballots=(), **changes) -> Accounts:
    trial = make_trial(path / "trial", ledger, ballots, **changes)
    return settle(trial, trial.read_facts())


def nonzero(accounts: Accounts) -> dict[str, int]:
    return {n: getattr(accounts, n) for n in PARTS if getattr(accounts, n)}


def test_an_empty_history_has_empty_accounts(tmp_path):
    accounts = settled(tmp_path)
    assert all(getattr(accounts, name) == 0 for name in Accounts.__struct_fields__)


@pytest.mark.parametrize(
    ("ledger", "ballots", "drained", "expected"),
    [
        ([attempt(0)], [ballot(0)], True, "counted"),
        ([attempt(0)], [], True, "lost"),
        ([attempt(0)], [], False, "pending"),
        ([attempt(0, choice=1)], [ballot(0, choice=2)], True, "altered"),
        ([attempt(0, REFUSED)], [], True, "refused"),
        ([attempt(0, REFUSED)], [ballot(0)], True, "resurrected"),
        ([attempt(0, UNKNOWN)], [ballot(0)], True, "recovered"),
        ([attempt(0, UNKNOWN)], [ballot(0, choice=3)], True, "recovered"),
        ([attempt(0, UNKNOWN)], [], True, "absent"),
        ([attempt(0, UNKNOWN)], [], False, "absent"),
        ([attempt(0, REFUSED), attempt(0, UNKNOWN, number=2)], [], True, "absent"),
        ([attempt(0, UNKNOWN), attempt(0, ACKNOWLEDGED, number=2)], [], True, "lost"),
        ([attempt(0, ACKNOWLEDGED), attempt(0, REFUSED, number=2)], [ballot(0)], True, "counted"),
        ([attempt(0, choice=1), attempt(0, choice=3)], [ballot(0, choice=3)], True, "counted"),
        ([attempt(0, choice=1), attempt(0, choice=3)], [ballot(0, choice=2)], True, "altered"),
        (
            [attempt(0, choice=1), attempt(0, UNKNOWN, choice=2)],
            [ballot(0, choice=2)],
            True,
            "altered",
        ),
        ([attempt(0, choice=100)], [ballot(0, choice=100)], True, "counted"),
        ([attempt(0, choice=100)], [ballot(0, choice=36)], True, "altered"),
    ],
)
def test_each_vote_is_in_exactly_one_account(tmp_path, ledger, ballots, drained, expected):
    accounts = settled(tmp_path, ledger, ballots, drained=drained)
    assert nonzero(accounts) == {expected: 1}
    assert accounts.sent == accounts.planned == 1


def test_results_pages_are_no_votes(tmp_path):
    page = attempt(7, kind=RequestKind.RESULTS)
    assert settled(tmp_path, [attempt(0), page], [ballot(0)]).sent == 1


def test_what_was_planned_and_never_sent_is_unsent(tmp_path):
    accounts = settled(tmp_path, [attempt(0)], [ballot(0)], planned={GENERATOR: 5})
    assert (accounts.planned, accounts.sent, accounts.unsent) == (5, 1, 4)


def test_deliveries_that_no_retry_explains_are_doubles(tmp_path):
    ledger = [attempt(0), attempt(1), attempt(1, UNKNOWN, number=2), attempt(2), attempt(3)]
    ledger += [attempt(2, REFUSED, number=2)]
    ballots = [ballot(0, deliveries=4), ballot(1, deliveries=2), ballot(2, deliveries=2), ballot(3)]
    accounts = settled(tmp_path, ledger, ballots)
    assert (accounts.duplicated, accounts.extra_deliveries) == (2, 4)
    assert nonzero(accounts) == {"counted": 4}


def test_two_rows_of_one_ballot_are_one_ballot_with_all_their_deliveries(tmp_path):
    accounts = settled(tmp_path, [attempt(0)], [ballot(0), ballot(0, deliveries=2)])
    assert nonzero(accounts) == {"counted": 1}
    assert (accounts.duplicated, accounts.extra_deliveries) == (1, 2)


def test_two_rows_of_a_ballot_that_nobody_sent_are_one_phantom(tmp_path):
    accounts = settled(tmp_path, [attempt(0)], [ballot(0), ballot(1), ballot(1)], planned=None)
    assert (accounts.phantom, accounts.sent, accounts.counted) == (1, 1, 1)


def test_a_second_row_with_another_choice_alters_the_vote(tmp_path):
    accounts = settled(tmp_path, [attempt(0)], [ballot(0, choice=1), ballot(0, choice=2)])
    assert nonzero(accounts) == {"altered": 1}


def test_a_ballot_whose_id_was_never_planned_is_a_phantom(tmp_path):
    ballots = [ballot(0), ballot(1), ballot(0, generator=9, deliveries=5)]
    accounts = settled(tmp_path, [attempt(0)], ballots)
    assert (accounts.phantom, accounts.duplicated, accounts.sent) == (2, 0, 1)


def test_without_planned_ids_a_ballot_that_is_not_in_the_ledger_is_a_phantom(tmp_path):
    accounts = settled(tmp_path, [attempt(0)], [ballot(0), ballot(1)], planned=None)
    assert (accounts.phantom, accounts.planned, accounts.unsent) == (1, 1, 0)


def test_a_planned_ballot_without_a_ledger_row_was_sent_and_is_recovered(tmp_path):
    accounts = settled(tmp_path, [attempt(0)], [ballot(0), ballot(1)], planned={GENERATOR: 3})
    assert nonzero(accounts) == {"counted": 1, "recovered": 1}
    assert (accounts.unrecorded, accounts.sent, accounts.unsent) == (1, 2, 1)


def test_what_a_missing_ledger_would_have_said_is_unknown(tmp_path):
    accounts = settled(
        tmp_path,
        [attempt(0), attempt(0, generator=2)],
        [ballot(0), ballot(0, generator=2), ballot(1, generator=2)],
        planned={1: 1, 2: 4},
        missing_generators=(2,),
    )
    assert nonzero(accounts) == {"counted": 2, "recovered": 1, "absent": 2}
    assert (accounts.sent, accounts.unsent, accounts.unrecorded) == (5, 0, 3)


def test_an_outcome_that_does_not_exist_makes_the_sum_fail(tmp_path):
    odd = attempt(0) | {"outcome": 3}
    with pytest.raises(HistoryError, match="do not sum: 1 votes in accounts, 2 sent"):
        settled(tmp_path, [odd, attempt(1)], [ballot(1)])


def test_a_ledger_of_another_run_is_refused(tmp_path):
    with pytest.raises(HistoryError, match="1 votes were never planned"):
        settled(tmp_path, [attempt(0), attempt(1)], planned={GENERATOR: 1})


def test_a_missing_or_broken_file_proves_nothing(tmp_path):
    trial = make_trial(tmp_path / "trial", [attempt(0)], [ballot(0)])
    trial.ballots.write_bytes(trial.ballots.read_bytes()[:-20])
    with pytest.raises(HistoryError, match=r"ballots\.parquet is unreadable"):
        settle(trial, trial.read_facts())
    trial.ledger.unlink()
    with pytest.raises(HistoryError, match=r"ledger\.parquet is missing"):
        settle(trial, trial.read_facts())


def test_damage_in_the_middle_of_a_file_proves_nothing(tmp_path):
    ledger = [attempt(n) for n in range(3000)]
    trial = make_trial(tmp_path / "trial", ledger, [ballot(n) for n in range(3000)])
    content = bytearray(trial.ledger.read_bytes())
    content[4:4000] = b"\xff" * 3996
    trial.ledger.write_bytes(content)
    with pytest.raises(HistoryError, match=r"ledger\.parquet"):
        settle(trial, trial.read_facts())


def test_histories_from_elsewhere_need_few_columns(tmp_path):
    ledger, ballots = tmp_path / "l.parquet", tmp_path / "b.parquet"
    write_parquet(pd.DataFrame({"vote": [5, 6], "outcome": [1, 1], "choice": [1, 2]}), ledger)
    write_parquet(pd.DataFrame({"vote": [5, 9], "choice": [1, 1]}), ballots)
    accounts = settle_files(ledger, ballots, facts(planned=None))
    assert nonzero(accounts) == {"counted": 1, "lost": 1}
    assert accounts.phantom == 1
    write_parquet(pd.DataFrame({"vote": [5]}), ballots)
    with pytest.raises(HistoryError, match="no column choice"):
        settle_files(ledger, ballots, facts(planned=None))


def test_choices_and_ids_that_cannot_be_are_refused(tmp_path):
    ledger, ballots = tmp_path / "l.parquet", tmp_path / "b.parquet"
    write_parquet(pd.DataFrame({"vote": [5], "choice": [1]}), ballots)
    write_parquet(pd.DataFrame({"vote": [5], "outcome": [1], "choice": [127]}), ledger)
    with pytest.raises(HistoryError, match="choices 127 to 127"):
        settle_files(ledger, ballots, facts(planned=None))
    frame = pd.DataFrame({"vote": pd.array([None], "Int64"), "outcome": [1], "choice": [1]})
    write_parquet(frame, ledger)
    with pytest.raises(HistoryError, match="no vote id"):
        settle_files(ledger, ballots, facts(planned=None))


attempts = st.lists(
    st.tuples(st.integers(0, 14), st.sampled_from(list(Outcome)), st.integers(1, 3)), max_size=40
)
ballot_rows = st.lists(
    st.tuples(st.integers(0, 19), st.integers(1, 3), st.integers(1, 4)), max_size=25
)


def oracle(ledger, ballots, drained: bool, planned: int) -> Counter[str]:
    """The accounts as one would settle them with pencil and paper."""
    found: Counter[str] = Counter()
    for vote in {row[0] for row in ledger} | {row[0] for row in ballots}:
        told = [(outcome, choice) for v, outcome, choice in ledger if v == vote]
        held = [(choice, deliveries) for v, choice, deliveries in ballots if v == vote]
        outcomes = {outcome for outcome, _ in told}
        if not told:
            found["phantom" if vote >= planned else "recovered"] += 1
            continue
        if ACKNOWLEDGED in outcomes:
            cast = {choice for outcome, choice in told if outcome is ACKNOWLEDGED}
            if held:
                found["counted" if {c for c, _ in held} <= cast else "altered"] += 1
            else:
                found["lost" if drained else "pending"] += 1
        elif UNKNOWN in outcomes:
            found["recovered" if held else "absent"] += 1
        else:
            found["resurrected" if held else "refused"] += 1
        explained = max(1, sum(outcome is not REFUSED for outcome, _ in told))
        extra = sum(deliveries for _, deliveries in held) - explained
        if extra > 0:
            found["duplicated"] += 1
            found["extra_deliveries"] += extra
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(attempts, ballot_rows, st.booleans())
def test_random_histories_settle_as_by_pencil_and_paper(tmp_path_factory, ledger, ballots, drained):
    planned = 15
    accounts = settled(
        tmp_path_factory.mktemp("history"),
        [attempt(v, outcome, choice) for v, outcome, choice in ledger],
        [ballot(v, choice, deliveries) for v, choice, deliveries in ballots],
        drained=drained,
        planned={GENERATOR: planned},
    )
    expected = oracle(ledger, ballots, drained, planned)
    for name in (*PARTS, "phantom", "duplicated", "extra_deliveries"):
        assert getattr(accounts, name) == expected[name], name
    assert sum(getattr(accounts, name) for name in PARTS) == accounts.sent
    assert accounts.acknowledged == sum(
        getattr(accounts, name) for name in ("counted", "lost", "altered", "pending")
    )
    assert accounts.planned == accounts.sent + accounts.unsent == planned
