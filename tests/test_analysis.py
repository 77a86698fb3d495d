"""Latency, rates and validity, from ledgers and journals written by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.latency import counted_after, lag, latency, nearest_rank
from harness.analysis.rates import rates
from harness.analysis.validity import in_flight, judge_measurement
from harness.audit.accounts import settle
from harness.history.ledger import RequestKind, Trouble
from harness.protocol.commands import Get, InsertBallots, KeyKind, Status
from harness.vote import Outcome
from tests.histories import (
    GENERATOR,
    attempt,
    ballot,
    command,
    make_trial,
    vote_id,
)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.sampled_from([50, 90, 99, 99.9]))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(values, percent):
    found = nearest_rank(np.sort(np.array(values, dtype=float)), percent)
    enough = math.ceil(round(percent * len(values) / 100, 6))
    assert found == min(v for v in values if sum(w <= v for w in values) >= enough)


def test_percentiles_of_a_thousand_are_exact():
    values = np.arange(1, 1001, dtype=float)
    assert [nearest_rank(values, p) for p in (50, 90, 99, 99.9, 100)] == [500, 900, 990, 999, 1000]
    assert nearest_rank(np.empty(0), 99) is None


def test_latency_counts_time_outs_and_leaves_out_what_never_ended(tmp_path):
    ledger = [
        attempt(0, answered_after_ms=2, sent_after_ms=3),
        attempt(1, Outcome.UNKNOWN, answered_after_ms=5000),
        attempt(2, Outcome.UNKNOWN, answered_after_ms=None),
        attempt(3, answered_after_ms=70, kind=RequestKind.RESULTS),
    ]
    trial = make_trial(tmp_path / "trial", ledger)
    planned = latency([trial], RequestKind.VOTE, "planned_ns")
    assert (planned.p50, planned.max) == (5, 5000)
    assert latency([trial], RequestKind.VOTE, "sent_ns").p50 == 2
    assert latency([trial], RequestKind.RESULTS, "planned_ns").max == 70
    assert latency([trial, trial], RequestKind.VOTE, "planned_ns") == planned


def test_lag_is_split_between_the_target_and_the_generator(tmp_path):
    early = attempt(0, taken_after_ms=-4, sent_after_ms=1)  # free before it was due
    late = attempt(1, taken_after_ms=30, sent_after_ms=32)
    found = lag([make_trial(tmp_path / "trial", [early, late])])
    assert found.no_free_user_ms == (0, 30, 30)
    assert found.wake_lag_ms == (1, 2, 2)


def test_a_queued_vote_is_counted_when_its_drain_has_committed(tmp_path):
    ledger = [attempt(n, planned_ms=0, answered_after_ms=10) for n in range(3)]
    drain = {"pid": 9, "operation": 4}
    journal = [
        command(Get, KeyKind.SLOT, begin=100, vote=vote_id(0), **drain),
        command(Get, KeyKind.SLOT, begin=101, vote=vote_id(1), **drain),
        command(InsertBallots, begin=102, end=510, number=2, **drain),
        command(Get, KeyKind.SLOT, begin=600, vote=vote_id(0), pid=9, operation=5),
        command(InsertBallots, begin=601, end=900, number=1, pid=9, operation=5),
        command(Get, KeyKind.SLOT, begin=950, vote=vote_id(2), pid=9, operation=6),
        command(InsertBallots, begin=951, status=Status.LOST, pid=9, operation=6),
    ]
    found = counted_after([make_trial(tmp_path / "trial", ledger, journal=journal)])
    assert (found.p50, found.p99) == (0.5, 0.5)


def test_a_vote_committed_before_its_answer_is_counted_after_no_time(tmp_path):
    journal = [command(InsertBallots, begin=0, end=4, vote=vote_id(0), number=1)]
    ledger = [attempt(0, planned_ms=0, answered_after_ms=10)]
    assert counted_after([make_trial(tmp_path / "trial", ledger, journal=journal)]).p99 == 0
    assert counted_after([make_trial(tmp_path / "none", ledger)]).p99 is None


def test_a_vote_that_several_drains_read_is_counted_by_the_first_that_commits(tmp_path):
    def drain(at: float, pid: int, status: Status, daemons: int = 1) -> list[dict[str, object]]:
        reads = [
            command(Get, KeyKind.SLOT, begin=at, vote=vote_id(0), slot=1, daemon=daemon, pid=pid)
            for daemon in range(daemons)
        ]
        return [*reads, command(InsertBallots, begin=at + 1, end=at + 2, status=status, pid=pid)]

    journal = [
        *drain(100, 7, Status.EXISTS),  # overtaken: nothing was written
        *drain(200, 8, Status.OK, daemons=2),
        *drain(300, 9, Status.OK),  # the copy on the other daemon, in a later drain
    ]
    ledger = [attempt(0, planned_ms=0, answered_after_ms=2)]
    found = counted_after([make_trial(tmp_path / "trial", ledger, journal=journal)])
    assert (found.p50, found.p99) == (0.2, 0.2)


def test_rates_are_over_the_planned_duration(tmp_path):
    ledger = [attempt(n, planned_ms=1900 + n * 10, answered_after_ms=1) for n in range(20)]
    ledger.append(attempt(20, Outcome.UNKNOWN, planned_ms=100))
    trial = make_trial(tmp_path / "trial", ledger, duration_s=4.0, planned={GENERATOR: 40})
    found = rates([trial], settle(trial, trial.read_facts()))
    assert (found.offered, found.sent, found.acknowledged) == (10, 5.25, 5)
    assert found.acknowledged_peak == 10


def test_what_was_sent_or_acknowledged_after_the_load_makes_no_rate_higher(tmp_path):
    ledger = [
        attempt(0, planned_ms=100),
        attempt(1, planned_ms=200, answered_after_ms=1500),  # sent in time, answered too late
        attempt(2, planned_ms=300, sent_after_ms=900),  # both too late
        attempt(3, Outcome.UNKNOWN, planned_ms=400),
        attempt(3, planned_ms=400, sent_after_ms=300, number=2),
        attempt(4, planned_ms=500, kind=RequestKind.RESULTS),
    ]
    trial = make_trial(tmp_path / "trial", ledger, planned={GENERATOR: 4})
    found = rates([trial], settle(trial, trial.read_facts()))
    assert (found.offered, found.sent, found.acknowledged) == (4, 3, 2)
    twice = rates([trial, trial], settle(trial, trial.read_facts()))
    assert (twice.sent, twice.acknowledged_peak) == (3, 2)


def judged(path, ledger, **changes):
    ballots = [ballot(n) for n in range(len(ledger))]
    trial = make_trial(path / "trial", ledger, ballots, **changes)
    facts = trial.read_facts()
    return judge_measurement(trial, facts, settle(trial, facts), lag([trial]))


def steady(votes: int = 1000, answered_after_ms: float = 2.0, **times):
    """One vote per millisecond of one second."""
    return [attempt(n, answered_after_ms=answered_after_ms, **times) for n in range(votes)]


def test_a_sane_trial_is_sound(tmp_path):
    found = judged(
        tmp_path,
        steady(),
        ceiling_per_s=20_000.0,
        in_flight_sampled=2.1,
        site_in_flight=1.7,
    )
    assert found.reasons == ()
    assert found.generator.in_flight_expected == pytest.approx(2.0, rel=0.01)


def test_a_starved_generator_is_invalid(tmp_path):
    (reason,) = judged(tmp_path, steady(taken_after_ms=-5, sent_after_ms=80)).reasons
    assert "starved" in reason


def test_clocks_of_other_machines_that_are_hardly_known_make_a_trial_invalid(tmp_path):
    found = judged(tmp_path / "well", steady(), clock_within_ms=1.5)
    assert (found.reasons, found.generator.clock_within_ms) == ((), 1.5)
    (reason,) = judged(tmp_path / "hardly", steady(), clock_within_ms=120.0).reasons
    assert "to within 120 ms only" in reason


def test_a_saturated_site_is_not_invalid(tmp_path):
    ledger = [
        attempt(n, taken_after_ms=n * 2, sent_after_ms=n * 2 + 1, answered_after_ms=900)
        for n in range(800)
    ]
    found = judged(tmp_path, ledger, planned={GENERATOR: 1000})
    assert found.reasons == ()  # 200 votes unsent, and 1.6 s late: all of it waiting for users


def test_unsent_votes_although_users_were_free_are_invalid(tmp_path):
    (reason,) = judged(tmp_path, steady(), planned={GENERATOR: 1100}).reasons
    assert "never sent 100 of 1100" in reason
    assert judged(tmp_path / "few", steady(), planned={GENERATOR: 1005}).reasons == ()


def test_a_wait_for_users_that_the_generator_could_not_have_is_invalid(tmp_path):
    waited = [attempt(n, taken_after_ms=n, sent_after_ms=n + 1) for n in range(800)]
    (reason,) = judged(tmp_path / "waited", waited, short_of_users=True).reasons
    assert "fewer users" in reason
    assert "799 ms" in reason
    (reason,) = judged(
        tmp_path / "unsent", steady(), planned={GENERATOR: 1100}, short_of_users=True
    ).reasons
    assert "fewer users" in reason
    assert judged(tmp_path / "enough", steady(), short_of_users=True).reasons == ()


def test_a_generator_that_was_frozen_is_invalid_even_if_few_votes_were_late(tmp_path):
    (reason,) = judged(tmp_path / "frozen", steady(), longest_block_ms=1000.0).reasons
    assert "frozen: for 1000 ms" in reason
    assert judged(tmp_path / "busy", steady(), longest_block_ms=100.0).reasons == ()


def test_nothing_sent_at_all_is_invalid(tmp_path):
    (reason,) = judged(tmp_path, [], planned={GENERATOR: 10}).reasons
    assert "never sent 10 of 10" in reason


@pytest.mark.parametrize(
    ("sampled", "sound"), [(20.0, True), (24.0, True), (30.0, False), (12.0, False)]
)
def test_littles_law_must_hold(tmp_path, sampled, sound):
    found = judged(tmp_path, steady(answered_after_ms=20), in_flight_sampled=sampled)
    assert (found.reasons == ()) is sound


def test_a_site_that_sees_more_than_the_ledger_is_invalid_and_less_is_not(tmp_path):
    ledger = steady(answered_after_ms=20)
    (reason,) = judged(tmp_path / "more", ledger, site_in_flight=40.0).reasons
    assert "somebody else" in reason
    assert judged(tmp_path / "less", ledger, site_in_flight=3.0).reasons == ()


def test_requests_that_voters_left_behind_at_the_site_are_no_strangers(tmp_path):
    gave_up = [
        attempt(n, Outcome.UNKNOWN, answered_after_ms=20) | {"error": Trouble.TIMED_OUT}
        for n in range(1000)
    ]
    found = judged(tmp_path / "left", gave_up, in_flight_sampled=20.0, site_in_flight=400.0)
    assert found.reasons == ()
    assert found.generator.in_flight_expected == pytest.approx(20.0, rel=0.05)
    (reason,) = judged(tmp_path / "more", gave_up, site_in_flight=1000.0).reasons
    assert "somebody else" in reason


def test_an_offered_peak_above_the_ceiling_is_invalid(tmp_path):
    (reason,) = judged(tmp_path, steady(), ceiling_per_s=900.0).reasons
    assert "ceiling of 900" in reason


def test_a_missing_ledger_and_an_early_end_are_invalid(tmp_path):
    found = judged(
        tmp_path, steady(), missing_generators=(2,), partial=True, notes=("the site died",)
    )
    assert len(found.reasons) == 2
    assert "generator 2" in found.reasons[0]
    assert "the site died" in found.reasons[1]


def test_in_flight_counts_only_what_lies_in_the_planned_duration(tmp_path):
    ledger = [
        attempt(0, planned_ms=500, answered_after_ms=1500),  # half of it lies behind the end
        attempt(1, Outcome.UNKNOWN, planned_ms=900, answered_after_ms=None),
    ]
    trial = make_trial(tmp_path / "trial", ledger)
    assert in_flight(trial, trial.read_facts()) == pytest.approx(0.6)
