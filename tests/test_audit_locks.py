"""The lock's story, from journals written by hand in the order of the protocol's commands."""

from itertools import count
from typing import Any

import duckdb
import pytest

from harness.audit.locks import holds, lock_figures
from harness.errors import HistoryError
from harness.history.journal import Role
from harness.history.store import write_parquet
from harness.protocol.commands import (
    Add,
    Delete,
    Get,
    Incr,
    InsertBallots,
    KeyKind,
    Patience,
    Set,
    Status,
)
from tests.histories import command, make_trial

LOCK, POINTER, SLOT = KeyKind.LOCK, KeyKind.POINTER, KeyKind.SLOT


def waiting(at: float, tries: int, cas: int, **who: Any) -> list[dict[str, Any]]:
    """Failed tries of the lock, 1 ms apart, and the end of patience behind them."""
    rows = [
        command(Incr, LOCK, begin=at + n, number=2 + n, cas=cas + n, **who) for n in range(tries)
    ]
    return [
        *rows,
        command(Patience, LOCK, begin=at + tries, end=at + tries, status=Status.OVER, **who),
    ]


def clean(
    at: float, cas: tuple[int, int, int, int], lasts: float = 3, **who: Any
) -> list[dict[str, Any]]:
    """A clean vote: the four commands of the post with these CAS numbers."""
    grant, pointer, slot, release = cas
    return [
        command(Incr, LOCK, begin=at, number=1, cas=grant, **who),
        command(Incr, POINTER, begin=at + 1, number=1, cas=pointer, **who),
        command(Set, SLOT, begin=at + lasts - 1, cas=slot, slot=1, vote=7, **who),
        command(Set, LOCK, begin=at + lasts, cas=release, **who),
    ]


def figures(tmp_path, journal):
    return lock_figures(make_trial(tmp_path / "trial", journal=journal))


def test_no_journal_rows_no_lock(tmp_path):
    lock = figures(tmp_path, [])
    assert (lock.grants, lock.overlaps, lock.attempts_per_grant) == (0, 0, None)
    assert lock.wait_ms.max is None


def test_a_missing_or_broken_journal_is_an_unreadable_history(tmp_path):
    trial = make_trial(tmp_path / "trial")
    trial.journal.write_bytes(b"nonsense")
    with pytest.raises(HistoryError, match=r"journal\.parquet"):
        lock_figures(trial)


def test_a_clean_grant_has_its_wait_its_tries_and_its_hold(tmp_path):
    tries = [command(Incr, LOCK, begin=n, number=2 + n, cas=1 + n) for n in range(3)]
    lock = figures(tmp_path, tries + clean(3, (10, 11, 12, 13)))
    assert (lock.grants, lock.clean_grants, lock.attempts_per_grant) == (1, 1, 4)
    assert lock.wait_ms.max == pytest.approx(3.1)  # from its first try to the answer of the last
    assert lock.hold_ms.max == pytest.approx(3.0)  # to the answer of the release
    assert lock.overlaps == 0


def test_a_cold_grant_ends_its_wait_with_the_pointer_reset(tmp_path):
    journal = [
        command(Incr, LOCK, begin=0, status=Status.MISSING),
        command(Set, LOCK, begin=1, cas=1),
        command(Set, POINTER, begin=2, cas=2),
        command(Incr, POINTER, begin=3, number=1, cas=3),
        command(Set, SLOT, begin=4, cas=4, slot=1),
        command(Set, LOCK, begin=5, cas=5),
    ]
    lock = figures(tmp_path, journal)
    assert (lock.grants, lock.cold_grants) == (1, 1)
    assert lock.wait_ms.max == pytest.approx(2.1)
    assert lock.hold_ms.max == pytest.approx(3.0)


def test_patience_that_ends_in_going_on_is_a_takeover(tmp_path):
    inside = [
        command(Incr, POINTER, begin=6, number=1, cas=6),
        command(Set, SLOT, begin=7, cas=7, slot=1),
        command(Set, LOCK, begin=8, cas=8),
    ]
    lock = figures(tmp_path, waiting(0, 5, 1) + inside)
    assert (lock.grants, lock.takeovers, lock.gave_up) == (1, 1, 0)
    assert lock.wait_ms.max == pytest.approx(5.0)


@pytest.mark.parametrize("fallback", [[], [command(InsertBallots, begin=9, vote=7)]])
def test_patience_that_ends_elsewhere_is_no_grant(tmp_path, fallback):
    lock = figures(tmp_path, waiting(0, 5, 1) + fallback)
    assert (lock.grants, lock.takeovers, lock.gave_up) == (0, 0, 1)


def test_a_voter_who_gives_up_and_gives_back_her_key_was_not_let_in(tmp_path):
    guard = command(Add, KeyKind.VOTER, begin=0, cas=1, vote=7)
    given_back = command(Delete, KeyKind.VOTER, begin=10)
    lock = figures(tmp_path, [guard, *waiting(1, 5, 2), given_back])
    assert (lock.grants, lock.takeovers, lock.gave_up) == (0, 0, 1)


def test_the_voters_key_is_made_before_the_hold(tmp_path):
    journal = [
        *clean(0, (2, 4, 5, 6), pid=1),
        command(Add, KeyKind.VOTER, begin=0.5, cas=3, vote=8, pid=2),
        *clean(4, (7, 8, 9, 10), pid=2),
    ]
    assert figures(tmp_path, journal).overlaps == 0


def test_a_try_without_an_answer_is_no_grant(tmp_path):
    assert figures(tmp_path, [command(Incr, LOCK, begin=0, status=Status.LOST)]).grants == 0


def test_holds_one_after_the_other_do_not_overlap(tmp_path):
    journal = clean(0, (1, 2, 3, 4), pid=1) + clean(2, (5, 6, 7, 8), pid=2)
    assert figures(tmp_path, journal).overlaps == 0  # although by the clock they might


def test_a_takeover_inside_a_stalled_hold_overlaps_it(tmp_path):
    stalled = clean(0, (1, 2, 30, 31), lasts=50, pid=1)
    taken = [
        *waiting(1, 5, 3, pid=2),
        command(Incr, POINTER, begin=10, number=2, cas=10, pid=2),
        command(Set, LOCK, begin=11, cas=11, pid=2),
    ]
    after = clean(60, (40, 41, 42, 43), pid=3)
    trial = make_trial(tmp_path / "trial", journal=stalled + taken + after)
    frame = holds(trial)
    assert list(frame["pid"]) == [1, 2, 3]
    assert list(frame["kind"]) == ["clean", "takeover", "clean"]
    assert list(frame["overlapped"]) == [True, True, False]
    assert lock_figures(trial).overlaps == 2


def test_threads_of_one_process_overlap_as_processes_do(tmp_path):
    journal = clean(0, (1, 2, 7, 8), thread=1) + clean(0.5, (3, 4, 5, 6), thread=2)
    assert figures(tmp_path, journal).overlaps == 2


def test_a_takeover_is_certainly_inside_only_from_its_first_own_mutation(tmp_path):
    holder = clean(0, (1, 2, 20, 21), lasts=20, pid=1)
    late = [
        *waiting(1, 5, 3, pid=2),
        command(Incr, POINTER, begin=30, number=2, cas=30, pid=2),
        command(Set, LOCK, begin=31, cas=31, pid=2),
    ]
    assert figures(tmp_path, holder + late).overlaps == 0


def test_a_lost_reply_shrinks_what_is_certain(tmp_path):
    def journal(release: Status) -> list[dict[str, Any]]:
        holder = clean(0, (1, 2, 3, 20), pid=1)
        holder[3] = command(
            Set, LOCK, begin=9, cas=20 if release is Status.OK else 0, pid=1, status=release
        )
        return holder + clean(5, (10, 11, 12, 13), pid=2)

    assert figures(tmp_path / "known", journal(Status.OK)).overlaps == 2
    lost = figures(tmp_path / "lost", journal(Status.LOST))
    assert lost.overlaps == 0
    assert lost.grants == 2
    assert lost.hold_ms.max == pytest.approx(3.0)  # of the hold whose release was seen


def test_each_queue_has_a_lock_of_its_own(tmp_path):
    journal = clean(0, (1, 3, 5, 7), pid=1, queue=0) + clean(0, (2, 4, 6, 8), pid=2, queue=1)
    assert figures(tmp_path, journal).overlaps == 0


def test_holds_of_two_memcached_lives_are_not_compared(tmp_path):
    before = clean(0, (101, 102, 103, 110), pid=1)
    restarted = clean(1000, (1, 2, 3, 105), pid=2)
    again = clean(2000, (1, 50, 60, 104), pid=3)
    assert figures(tmp_path, before + restarted + again).overlaps == 0


def test_overlaps_are_found_in_a_second_life_too(tmp_path):
    before = clean(0, (101, 102, 103, 110), pid=1)
    restarted = clean(1000, (1, 2, 3, 9), pid=2) + clean(1000.2, (4, 5, 6, 7), pid=3)
    assert figures(tmp_path, before + restarted).overlaps == 2


def test_cas_numbers_without_any_order_are_refused(tmp_path):
    numbers = count(5000, -1)
    journal = [command(Set, SLOT, begin=n, cas=next(numbers), operation=n + 1) for n in range(1500)]
    with pytest.raises(HistoryError, match="go back more than"):
        figures(tmp_path, journal)


def test_a_drain_is_a_hold_of_the_flusher(tmp_path):
    journal = [
        command(Incr, LOCK, begin=0, number=1, cas=1, role=Role.FLUSHER),
        command(Get, POINTER, begin=1, number=1, cas=1, role=Role.FLUSHER),
        command(Get, SLOT, begin=2, slot=1, vote=7, cas=1, role=Role.FLUSHER),
        command(Set, POINTER, begin=3, cas=2, role=Role.FLUSHER),
        command(Set, LOCK, begin=4, cas=3, role=Role.FLUSHER),
        command(InsertBallots, begin=5, number=1, role=Role.FLUSHER),
    ]
    frame = holds(make_trial(tmp_path / "trial", journal=journal))
    assert list(frame["role"]) == [Role.FLUSHER]
    assert list(frame["end_ns"] - frame["start_ns"]) == [4_000_000]


def test_a_command_without_an_answer_has_no_place_in_the_order(tmp_path):
    before = clean(0, (5, 6, 7, 8), pid=1)
    after = clean(10, (10, 11, 12, 13), pid=2)
    after[2] = command(Set, SLOT, begin=12, slot=1, pid=2, status=Status.LOST)
    assert figures(tmp_path, before + after).overlaps == 0


def test_setting_the_lock_to_one_in_a_cold_start_is_no_release(tmp_path):
    journal = [
        command(Incr, LOCK, begin=0, status=Status.MISSING),
        command(Set, LOCK, begin=1, cas=1),
        command(Set, POINTER, begin=2, cas=2),
        command(Incr, POINTER, begin=3, status=Status.LOST),  # and here the process was killed
    ]
    lock = figures(tmp_path, journal)
    assert (lock.cold_grants, lock.hold_ms.max) == (1, None)


def owned(
    at: float, cas: tuple[int, int, int], lasts: float = 3, **who: Any
) -> list[dict[str, Any]]:
    """A vote under a lock with an owner: won by `add`, left by deleting it."""
    grant, pointer, slot = cas
    return [
        command(Add, LOCK, begin=at, cas=grant, **who),
        command(Incr, POINTER, begin=at + 1, number=1, cas=pointer, **who),
        command(Set, SLOT, begin=at + lasts - 1, cas=slot, slot=1, vote=7, **who),
        command(Delete, LOCK, begin=at + lasts, **who),
    ]


def test_a_lock_that_was_added_is_a_clean_grant_and_ends_with_its_deletion(tmp_path):
    tries = [command(Add, LOCK, begin=n, status=Status.EXISTS) for n in range(3)]
    lock = figures(tmp_path, tries + owned(3, (10, 11, 12)))
    assert (lock.grants, lock.clean_grants, lock.attempts_per_grant) == (1, 1, 4)
    assert lock.wait_ms.max == pytest.approx(3.1)
    assert lock.hold_ms.max == pytest.approx(3.0)


def test_who_is_not_let_in_by_an_owned_lock_gives_up(tmp_path):
    waited = [
        command(Add, LOCK, begin=0, status=Status.EXISTS),
        command(Patience, LOCK, begin=2, end=2, status=Status.OVER),
        command(InsertBallots, begin=3, vote=7),
    ]
    lock = figures(tmp_path, waited)
    assert (lock.grants, lock.gave_up) == (0, 1)


def test_an_owner_who_outlives_his_lock_overlaps_the_next(tmp_path):
    journal = owned(0, (1, 2, 30), lasts=50, pid=1) + owned(10, (3, 4, 5), pid=2)
    assert figures(tmp_path, journal).overlaps == 2


def test_the_numbers_of_two_daemons_are_not_mixed(tmp_path):
    first = [command(Incr, POINTER, begin=2 * n, cas=9000 + n, operation=n) for n in range(100)]
    second = [
        command(Incr, POINTER, begin=2 * n + 1, cas=1 + n, operation=n, daemon=1)
        for n in range(100)
    ]
    held = clean(300, (9200, 9201, 9210, 9211), pid=1) + clean(301, (9203, 9204, 9205, 9206), pid=2)
    assert figures(tmp_path, first + second + held).overlaps == 2


def test_a_daemon_that_lives_on_does_not_join_the_lives_of_another(tmp_path):
    elsewhere = [command(Incr, POINTER, begin=5, cas=1, operation=9, daemon=1)]
    before = clean(0, (101, 102, 103, 110), pid=1)
    restarted = clean(1000, (1, 2, 3, 105), pid=2)
    assert figures(tmp_path, elsewhere + before + restarted).overlaps == 0


def test_a_queue_without_a_lock_has_no_grants(tmp_path):
    ticket = [
        command(Incr, POINTER, begin=0, number=1, cas=1),
        command(Add, SLOT, begin=1, cas=2, slot=1, vote=7),
        command(Get, POINTER, begin=2, number=1, cas=1),
    ]
    lock = figures(tmp_path, ticket)
    assert (lock.grants, lock.gave_up, lock.overlaps) == (0, 0, 0)


def test_a_journal_without_daemons_is_read_as_that_of_one(tmp_path):
    trial = make_trial(tmp_path / "trial", journal=clean(0, (1, 2, 3, 4)))
    write_parquet(duckdb.sql(f"SELECT * EXCLUDE daemon FROM '{trial.journal}'").df(), trial.journal)
    assert lock_figures(trial).grants == 1
