"""One trial over time, from histories written by hand."""

from pathlib import Path

import numpy as np
import pytest

from harness.audit.locks import lock_figures
from harness.errors import HistoryError
from harness.protocol.commands import Get, Incr, InsertBallots, KeyKind, Set, Status
from harness.report.timeline import (
    LockEvents,
    bin_width_s,
    counted_after_percentiles_s,
    latency_percentiles_ms,
    read_timeline,
)
from harness.vote import Outcome
from tests.histories import attempt, command, make_run, make_trial, vote_id


def insert(sequence: int, begin: float) -> dict[str, object]:
    return command(InsertBallots, begin=begin, operation=sequence + 1, vote=vote_id(sequence))


def resets() -> list[dict[str, object]]:
    """What operations 1 and 2 write after they found no lock."""
    return [
        command(Set, KeyKind.POINTER, begin=begin, operation=number, cas=number)
        for number, begin in ((1, -1799), (2, 61))
    ]


def test_rates_are_counted_in_the_bin_where_they_happened(tmp_path: Path) -> None:
    rows = [
        attempt(0, planned_ms=10, answered_after_ms=30),
        attempt(1, planned_ms=20, sent_after_ms=60),
        attempt(2, Outcome.REFUSED, planned_ms=120),
    ]
    line = read_timeline(make_trial(tmp_path / "t", rows))
    assert line.width_s == 0.05
    assert line.offered_per_s[:3].tolist() == [40, 0, 20]
    assert line.sent_per_s[:3].tolist() == [20, 20, 20]
    assert line.acknowledged_per_s[:3].tolist() == [20, 20, 0]


def test_latency_counts_from_the_planned_time_and_lag_is_split(tmp_path: Path) -> None:
    rows = [attempt(0, planned_ms=0, taken_after_ms=300, sent_after_ms=310, answered_after_ms=40)]
    line = read_timeline(make_trial(tmp_path / "t", rows))
    assert line.latency_p50_ms[0] == line.latency_max_ms[0] == pytest.approx(350)
    assert line.no_free_user_max_ms[0] == pytest.approx(300)
    assert line.wake_lag_max_ms[0] == pytest.approx(10)
    assert np.isnan(line.latency_p99_ms[1])


def test_a_second_attempt_is_sent_but_not_offered_again(tmp_path: Path) -> None:
    rows = [
        attempt(0, Outcome.UNKNOWN, planned_ms=0),
        attempt(0, planned_ms=0, sent_after_ms=5, number=2),
    ]
    line = read_timeline(make_trial(tmp_path / "t", rows))
    assert line.offered_per_s.sum() * line.width_s == pytest.approx(1)
    assert line.sent_per_s.sum() * line.width_s == pytest.approx(2)


def test_the_backlog_keeps_what_was_never_counted(tmp_path: Path) -> None:
    ledger = [attempt(n, planned_ms=10 * n) for n in range(3)]
    journal = [
        command(Get, KeyKind.SLOT, begin=300, operation=9, slot=1, vote=vote_id(0)),
        command(Get, KeyKind.SLOT, begin=301, operation=9, slot=2, vote=vote_id(1)),
        command(InsertBallots, begin=310, operation=9, number=2),
    ]
    trial = make_trial(tmp_path / "t", ledger, (), journal)
    line = read_timeline(trial)
    assert line.backlog_votes is not None
    assert line.backlog_votes[[0, 5, -1]].tolist() == [3, 3, 1]
    after_s = counted_after_percentiles_s(trial, (1 / 3, 2 / 3, 1.0))
    assert after_s[:2] == pytest.approx([0.2991, 0.3091], abs=1e-4)
    assert np.isinf(after_s[2])


def test_a_vote_that_goes_straight_in_never_waits(tmp_path: Path) -> None:
    trial = make_trial(tmp_path / "t", [attempt(0, answered_after_ms=5)], (), [insert(0, 1)])
    backlog = read_timeline(trial).backlog_votes
    assert backlog is not None
    assert not backlog.any()
    assert counted_after_percentiles_s(trial, (1.0,)).tolist() == [0]


def test_without_commits_the_backlog_is_not_guessed(tmp_path: Path) -> None:
    trial = make_trial(tmp_path / "t", [attempt(0)])
    assert read_timeline(trial).backlog_votes is None
    assert not len(counted_after_percentiles_s(trial, (0.5,)))
    trial.journal.unlink()
    assert read_timeline(trial).lock is None


def test_grants_and_waits_fall_into_the_bin_of_the_grant(tmp_path: Path) -> None:
    journal = [
        command(Incr, KeyKind.LOCK, begin=10, number=2, cas=1),
        command(Incr, KeyKind.LOCK, begin=110, number=1, cas=2),
        command(Set, KeyKind.LOCK, begin=111, cas=3),
    ]
    lock = read_timeline(make_trial(tmp_path / "t", [attempt(0)], (), journal)).lock
    assert lock is not None
    assert lock.clean[:4].tolist() == [0, 0, 1, 0]
    assert lock.wait_max_ms[2] == pytest.approx(100.1)
    assert not lock.takeovers.any()


def test_grants_before_the_load_are_in_the_whole_and_told_apart(tmp_path: Path) -> None:
    journal = [
        command(Incr, KeyKind.LOCK, begin=begin, operation=number, status=Status.MISSING)
        for number, begin in ((1, -1800), (2, 60))
    ]
    trial = make_trial(tmp_path / "t", [attempt(0)], (), [*journal, *resets()])
    lock = read_timeline(trial).lock
    assert lock is not None
    assert lock.cold.sum() == 1
    assert lock.whole == LockEvents(cold=2, takeovers=0, overlaps=0)
    assert lock.before_load == LockEvents(cold=1, takeovers=0, overlaps=0)
    assert lock.whole.cold == lock_figures(trial).cold_grants


def test_an_imitated_run_shows_its_takeovers_and_cold_grants(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", modes=("classic",), duration_s=6.0)
    lock = read_timeline(folder.trial("classic")).lock
    assert lock is not None
    assert lock.cold.sum() >= 1
    assert lock.takeovers.sum() >= 1
    assert lock.overlaps.sum() >= 2


def test_percentiles_pool_all_repetitions(tmp_path: Path) -> None:
    quick = make_trial(tmp_path / "a", [attempt(0, answered_after_ms=1)])
    slow = make_trial(tmp_path / "b", [attempt(0, answered_after_ms=9)])
    assert latency_percentiles_ms([quick, slow], (0.5, 1.0)).tolist() == [1, 9]
    assert not len(latency_percentiles_ms([], (0.5,)))


def test_an_empty_trial_has_a_timeline_of_zeros(tmp_path: Path) -> None:
    line = read_timeline(make_trial(tmp_path / "t"))
    assert not line.sent_per_s.any()
    assert np.isnan(line.latency_p50_ms).all()


@pytest.mark.parametrize("name", ["ledger", "journal"])
def test_an_unreadable_history_is_one_error_that_names_it(tmp_path: Path, name: str) -> None:
    trial = make_trial(tmp_path / "t", [attempt(0)])
    (trial.path / f"{name}.parquet").write_bytes(b"PAR1 nothing of the kind PAR1")
    with pytest.raises(HistoryError, match=name):
        read_timeline(trial)


def test_a_history_that_breaks_off_in_its_data_is_one_error(tmp_path: Path) -> None:
    trial = make_trial(tmp_path / "t", [attempt(n) for n in range(500)])
    content = bytearray(trial.ledger.read_bytes())
    footer_bytes = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-footer_bytes] = bytes(len(content) - footer_bytes - 4)
    trial.ledger.write_bytes(content)
    with pytest.raises(HistoryError, match="cannot read"):
        read_timeline(trial)
    with pytest.raises(HistoryError, match="cannot read"):
        latency_percentiles_ms([trial], (0.5,))


def test_bins_grow_with_the_run_but_stay_few() -> None:
    assert bin_width_s(20) == 0.25
    assert bin_width_s(12) == 0.25
    assert bin_width_s(3600) == 60
    assert bin_width_s(10**9) == 900
