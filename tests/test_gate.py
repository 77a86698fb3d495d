"""The gate: what fails a check, and what leaves it open."""

import math

import numpy as np
import pytest

from harness.gate.check import Findings
from harness.gate.duet import Slices, paired, pooled, sliced
from harness.gate.outcome import Votes
from harness.gate.outputs import rows
from harness.history.ledger import LEDGER_DTYPE
from tests.findings import counts, duet, judged, of_candidate


def test_the_same_version_passes() -> None:
    found = judged(Findings(counts(), duet()))
    assert (found.verdict, found.reasons) == ("passed", ())


def test_a_single_command_more_per_vote_fails_unless_it_is_put_up_with() -> None:
    found = judged(Findings(counts(memcached_commands=4), duet()))
    assert found.verdict == "failed"
    assert found.reasons == ("Memcached commands per vote: 4, 3 before.",)
    allowed = judged(Findings(counts(memcached_commands=4), duet()), memcached_commands=1)
    assert allowed.verdict == "passed"


def test_a_command_less_is_no_failure() -> None:
    assert judged(Findings(counts(memcached_commands=2), duet())).verdict == "passed"


def test_ten_per_cent_slower_fails_and_says_by_how_much() -> None:
    found = judged(Findings(counts(), duet(0.10)))
    assert found.verdict == "failed"
    assert any(reason.startswith("The median latency is +") for reason in found.reasons)
    assert found.timed["p50"].change == pytest.approx(0.10, abs=0.02)


def test_a_p99_that_grew_is_advice_only() -> None:
    each = duet()
    starts = [
        start | {"candidate": start["candidate"]._replace(p99_ms=[9.0] * 5)}
        for start in each.starts
    ]
    found = judged(Findings(counts(), each._replace(starts=tuple(starts))))
    assert (found.verdict, found.timed["p99"].judgement) == ("passed", "worse")
    assert not found.timed["p99"].decides


def test_noise_beyond_the_margin_is_inconclusive() -> None:
    found = judged(Findings(counts(), duet(noise=0.3)))
    assert found.verdict == "inconclusive"
    assert "too uncertain" in found.reasons[0]


def test_a_starved_generator_is_inconclusive_but_exact_counts_still_fail() -> None:
    for slower in (0.0, 0.2):  # whatever it measured
        starved = duet(slower, doubts=("The load generator was starved.",))
        found = judged(Findings(counts(), starved))
        assert (found.verdict, found.timed) == ("inconclusive", {})
    assert judged(Findings(counts(sql_statements=1), starved)).verdict == "failed"


def test_a_lost_vote_fails_a_mode_that_promises_and_is_told_of_one_that_does_not() -> None:
    lossy = of_candidate(Votes(sent=9, acknowledged=9, lost=2, doubled=0))
    assert judged(Findings(counts(), lossy)).reasons == ("2 acknowledged votes were lost.",)
    assert judged(Findings(counts(), lossy), mode="classic").verdict == "passed"


@pytest.mark.parametrize("mode", ["ticket", "classic"])
def test_a_version_that_refuses_what_the_other_takes_is_worse_however_quick_it_is(
    mode: str,
) -> None:
    refusing = of_candidate(Votes(sent=8000, acknowledged=7900, lost=0, doubled=0))
    found = judged(Findings(counts(), refusing), mode=mode)
    assert found.reasons == ("100 of 8,251 votes were not taken; before, 0 of 8,251.",)
    none = Votes(sent=251, acknowledged=0, lost=0, doubled=0)
    assert (
        judged(Findings(counts(votes=none, sql_statements=0), None), mode=mode).verdict == "failed"
    )


def test_counts_alone_can_be_compared_with_stored_ones() -> None:
    found = judged(Findings(counts(), None))
    assert (found.verdict, found.timed) == ("passed", {})
    assert found.votes["candidate"] == Votes(sent=251, acknowledged=251, lost=0, doubled=0)


@pytest.mark.parametrize("starts", [0, 3])
def test_too_few_starts_are_told_and_judged_by_nothing_but_counts(starts: int) -> None:
    few = duet(starts=starts, doubts=("In a start only 0 of 5 slices could be measured.",))
    found = judged(Findings(counts(), few))
    assert (found.verdict, found.timed) == ("inconclusive", {})
    assert found.reasons[0] == few.doubts[0]
    assert found.reasons[1].startswith(f"Only {starts} starts could be measured")


def test_a_slice_in_which_a_thread_took_its_time_away_is_left_out() -> None:
    whole = Slices([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, -0.5, 3.0])
    other = Slices([1.0, 1.0, math.nan], [2.0, 2.0, math.nan], [3.0, 3.0, math.nan])
    kept = paired({"baseline": whole, "candidate": other})
    assert kept["baseline"].cpu_ms == kept["candidate"].cpu_ms == [3.0]


def test_votes_lost_while_they_were_counted_and_in_the_duet_are_told_together() -> None:
    lossy = of_candidate(Votes(sent=9, acknowledged=9, lost=2, doubled=1))
    one_lost = counts(votes=Votes(sent=251, acknowledged=251, lost=1, doubled=0))
    found = judged(Findings(one_lost, lossy))
    assert found.votes["candidate"] == Votes(sent=260, acknowledged=260, lost=3, doubled=1)
    told = {row[0]: row[1:] for row in rows(found)}
    assert told["lost votes"] == ("0", "3", "+3", "0", "worse")
    unpromised = judged(Findings(one_lost, lossy), mode="classic")
    assert {row[0]: row[-1] for row in rows(unpromised)}["doubled votes"] == "promises nothing"


def test_slices_are_cut_by_when_votes_were_sent() -> None:
    ledger = np.zeros(4, LEDGER_DTYPE)
    ledger["sent_ns"] = np.array([0, 1, 2, 12]) * 10**6 + 10**9
    ledger["answered_ns"] = ledger["sent_ns"] + np.array([1, 2, 9, 5]) * 10**6
    moments = [
        (10**9 + at * 10**6, used * 10**6) for at, used in ((0, 0), (10, 6), (20, 10), (30, 10))
    ]
    slices = sliced(ledger, moments)
    assert slices.p50_ms[:2] == [2.0, 5.0]
    assert slices.cpu_ms[:2] == [2.0, 4.0]
    assert np.isnan(slices.p50_ms[2])
    kept = paired({"baseline": slices, "candidate": slices})
    assert kept["candidate"].p50_ms == [2.0, 5.0]


def test_starts_are_pooled() -> None:
    both = pooled([duet(starts=4), duet(starts=4, doubts=("x",))])
    assert len(both.starts) == 8
    assert (both.votes["candidate"].acknowledged, both.doubts) == (16_000, ("x",))
