"""Death certificates, from journals written by hand: one history for each cause."""

from collections.abc import Callable
from typing import Any

import pytest

from harness.audit.certificate import Certificate
from harness.audit.certificates import certify, read_certificates, write_certificates
from harness.audit.overlaps import intrusions
from harness.history.journal import Role
from harness.protocol.commands import Add, Get, Incr, InsertBallots, KeyKind, Patience, Set, Status
from tests.histories import attempt, ballot, command, make_trial, vote_id

LOCK, POINTER, SLOT = KeyKind.LOCK, KeyKind.POINTER, KeyKind.SLOT
V = vote_id(0)
Row = dict[str, Any]


def vote(
    at: float,
    slot: int,
    cas: int,
    vote: int = V,
    *,
    store_at: float | None = None,
    store_cas: int | None = None,
    status: Status = Status.OK,
    **who: Any,
) -> list[Row]:
    """A clean vote of `classic`: grant, draw, store, release, with CAS numbers from `cas`."""
    late = at + 0.4 if store_at is None else store_at
    stored = cas + 2 if store_cas is None else store_cas
    return [
        command(Incr, LOCK, begin=at, number=1, cas=cas, **who),
        command(Incr, POINTER, begin=at + 0.2, number=slot, cas=cas + 1, **who),
        command(Set, SLOT, begin=late, slot=slot, vote=vote, cas=stored, status=status, **who),
        command(Set, LOCK, begin=late + 0.2, cas=stored + 1, **who),
    ]  # fmt: skip


def drain(
    at: float,
    cas: int,
    pointer: tuple[int, int],
    slots: dict[int, tuple[int, int] | None],
    insert: Status | None = Status.OK,
    operation: int = 1,
    **who: Any,
) -> list[Row]:
    """A drain: `pointer` is number and CAS as read, `slots` say by number what lay there."""
    who = {"pid": 900, "operation": operation, "role": Role.FLUSHER} | who
    number, seen = pointer
    rows = [
        command(Incr, LOCK, begin=at, number=1, cas=cas, **who),
        command(Get, POINTER, begin=at + 0.2, number=number, cas=seen, **who),
    ]
    for slot, lay in slots.items():
        status = Status.MISSING if lay is None else Status.OK
        held, stored = lay or (0, 0)
        begin = at + 0.2 + 0.2 * slot
        rows.append(
            command(Get, SLOT, begin=begin, slot=slot, vote=held, cas=stored, status=status, **who)
        )
    end = at + 0.4 + 0.2 * len(slots)
    rows.append(command(Set, POINTER, begin=end, cas=cas + 1, **who))
    rows.append(command(Set, LOCK, begin=end + 0.2, cas=cas + 2, **who))
    if insert is not None:
        rows.append(
            command(InsertBallots, begin=end + 0.4, number=len(slots), status=insert, **who)
        )
    return rows  # fmt: skip


def cold(at: float, cas: int, *, set_at: float | None = None, **who: Any) -> list[Row]:
    """A cold grant."""
    then = at + 0.2 if set_at is None else set_at
    return [
        command(Incr, LOCK, begin=at, status=Status.MISSING, **who),
        command(Set, LOCK, begin=then, cas=cas, **who),
        command(Set, POINTER, begin=then + 0.2, cas=cas + 1, **who),
    ]


OTHER = {"pid": 200}
THIRD = {"pid": 300}
FIRST = [*cold(-10, 1, pid=50), command(Set, LOCK, begin=-9, cas=3, pid=50)]


def overwritten() -> list[Row]:
    stale = vote(0, 1, 10, 7, store_at=9, store_cas=40, **OTHER)  # drew slot 1 an era ago
    return [*FIRST, *stale, *drain(2, 20, (1, 11), {1: None}), *vote(5, 1, 30),
            *drain(20, 50, (1, 31), {1: (7, 40)}, operation=2)]  # fmt: skip


def skipped() -> list[Row]:
    return [*FIRST, *vote(5, 1, 20, **OTHER), *drain(4.9, 18, (0, 2), {}, None)[:2],
            command(Set, POINTER, begin=8, cas=40, pid=900, role=Role.FLUSHER)]  # fmt: skip


def stored_late() -> list[Row]:
    return [*FIRST, *vote(0, 1, 10, store_at=9, store_cas=40), *drain(2, 20, (1, 11), {1: None})]


def stored_late_and_read_unheard() -> list[Row]:
    read = drain(2, 20, (1, 11), {1: None})
    read[2] |= {"status": Status.LOST}
    return [*FIRST, *vote(0, 1, 10, store_at=9, store_cas=40), *read]


def cold_reset() -> list[Row]:
    slow = cold(-10, 20, set_at=5, pid=60)  # saw no lock at the very beginning
    return [*FIRST, *vote(0, 1, 10), *slow, *drain(20, 50, (0, 21), {})]


def nil_pointer() -> list[Row]:
    rows = vote(0, 0, 10)
    rows[1] = command(Incr, POINTER, begin=0.2, status=Status.MISSING)
    return [*FIRST, *rows, command(Set, POINTER, begin=0.3, cas=11)]


def wiped() -> list[Row]:
    return [*FIRST, *vote(0, 1, 10), *cold(5, 20, **OTHER), *drain(20, 50, (0, 21), {})]


def restarted() -> list[Row]:
    return [*FIRST, *vote(0, 1, 10), *cold(5, 1, **OTHER), *drain(20, 5, (0, 2), {})]


def evicted() -> list[Row]:
    both = vote(0, 1, 10) + vote(2, 2, 20, 7, **OTHER)
    return [*FIRST, *both, *drain(20, 50, (2, 21), {1: None, 2: (7, 22)})]


def silently_refused() -> list[Row]:
    return [*FIRST, *vote(0, 1, 10, status=Status.REFUSED), *drain(20, 50, (1, 11), {1: None})]


def not_committed() -> list[Row]:
    return [*FIRST, *vote(0, 1, 10), *drain(20, 50, (1, 11), {1: (V, 12)}, None)]


def rolled_back() -> list[Row]:
    return [*FIRST, *vote(0, 1, 10), *drain(20, 50, (1, 11), {1: (V, 12)}, Status.REFUSED)]


def reset_from_outside() -> list[Row]:
    return [*FIRST, *vote(0, 1, 10), *vote(5, 1, 30, 7, **OTHER),
            *drain(20, 50, (1, 31), {1: (7, 32)})]  # fmt: skip


def moved() -> list[Row]:
    elsewhere = drain(20, 50, (0, 0), {}, daemon=1)
    return [*FIRST, *vote(0, 1, 10), *elsewhere]


def moved_by_rehashing() -> list[Row]:
    """Its slot was dealt to daemon 1; when it was drained, slots were looked for on daemon 0."""
    stored = vote(0, 1, 10)
    stored[2] = command(Set, SLOT, begin=0.4, slot=1, vote=V, cas=5, daemon=1)
    return [*FIRST, *stored, *drain(20, 50, (1, 11), {1: None})]


def spread_and_overwritten() -> list[Row]:
    """The slot is on another daemon than lock and pointer."""
    stale = vote(0, 1, 10, 7, store_at=9, **OTHER)
    stale[2] = command(Set, SLOT, begin=9, slot=1, vote=7, cas=6, daemon=1, **OTHER)
    stored = vote(5, 1, 30)
    stored[2] = command(Set, SLOT, begin=5.4, slot=1, vote=V, cas=5, daemon=1)
    stored[3] = command(Set, LOCK, begin=5.6, cas=33)
    stale[3] = command(Set, LOCK, begin=9.2, cas=34, **OTHER)
    read = drain(20, 50, (1, 31), {1: (7, 6)}, operation=2)
    read[2] |= {"daemon": 1}
    return [*FIRST, *stale, *drain(2, 20, (1, 11), {}), *stored, *read]


def spread_and_restarted() -> list[Row]:
    """The slot's daemon was started again, the pointer's was not."""
    stored = vote(0, 1, 10)
    stored[2] = command(Set, SLOT, begin=0.4, slot=1, vote=V, cas=5, daemon=1)
    begun = command(Set, SLOT, begin=4, slot=2, vote=7, cas=1, daemon=1, **OTHER)
    read = drain(20, 50, (1, 11), {1: None})
    read[2] |= {"daemon": 1}
    return [*FIRST, *stored, begun, *read]


def ticket(fill: list[Row]) -> list[Row]:
    """A vote of `ticket` in epoch 1, and what came after."""
    first = 1 << 40
    return [
        command(Add, POINTER, begin=-5, cas=1),
        command(Incr, POINTER, begin=0, number=first + 1, cas=2),
        command(Add, SLOT, begin=0.2, slot=first + 1, vote=V, cas=3),
        command(Get, POINTER, begin=0.4, number=first + 1, cas=2),
        *fill,
    ]


def look(at: float, number: int, status: Status = Status.OK) -> Row:
    return command(Get, POINTER, begin=at, number=number, status=status, role=Role.FLUSHER,
                   pid=900, cas=2 if number else 0)  # fmt: skip


def find_missing(at: float) -> Row:
    return command(Get, SLOT, begin=at, slot=(1 << 40) + 1, status=Status.MISSING,
                   role=Role.FLUSHER, pid=900)  # fmt: skip


def ticket_evicted() -> list[Row]:
    number = (1 << 40) + 1
    return ticket([look(5, number), find_missing(6), look(9, number)])


def ticket_wiped() -> list[Row]:
    return ticket([look(5, 0, Status.MISSING), find_missing(6), look(9, 0, Status.MISSING)])


HISTORIES: dict[str, list[Callable[[], list[Row]]]] = {
    "overwritten": [overwritten, spread_and_overwritten],
    "skipped": [skipped],
    "stored-late": [stored_late, stored_late_and_read_unheard],
    "cold-reset": [cold_reset],
    "foreign-reset": [reset_from_outside],
    "nil-pointer": [nil_pointer],
    "wiped": [wiped, restarted, ticket_wiped, spread_and_restarted],
    "evicted": [evicted, ticket_evicted],
    "silent-refusal": [silently_refused],
    "read-not-committed": [not_committed],
    "batch-rolled-back": [rolled_back],
    "moved": [moved, moved_by_rehashing],
}


def certified(path, journal: list[Row], ballots: list[Row] | None = None) -> list[Certificate]:
    answered = [attempt(0, planned_ms=0, answered_after_ms=100)]
    trial = make_trial(path, answered, ballots or [], journal)
    write_certificates(trial, certify(trial, trial.read_facts()))
    return read_certificates(trial)


@pytest.mark.parametrize(
    ("cause", "history"),
    [(cause, history) for cause, found in HISTORIES.items() for history in found],
)
def test_each_way_to_lose_a_vote_is_named(tmp_path, cause, history):
    (found,) = certified(tmp_path / "trial", history())
    assert (found.cause, found.certain, found.fate) == (cause, True, "lost"), found.why
    assert found.vote == V


def test_the_killer_is_named_with_its_process_and_cas(tmp_path):
    (found,) = certified(tmp_path / "trial", overwritten())
    assert (found.killer, found.killer_by, found.killer_pid) == ("set slot", "site", 200)
    assert (found.killer_cas, found.killer_vote, found.killer_grant) == (40, 7, "clean")
    assert (found.stored_cas, found.drawn_cas, found.slot) == (32, 31, 1)


def test_a_vote_of_which_the_journal_knows_nothing_is_unexplained(tmp_path):
    (found,) = certified(tmp_path / "trial", [])
    assert (found.cause, found.certain) == ("unknown", False)


def test_a_loss_that_no_rule_explains_is_not_blamed_on_anybody(tmp_path):
    (found,) = certified(tmp_path / "trial", FIRST + vote(0, 1, 10))
    assert found.cause == "unknown"


def test_two_drains_of_one_era_double_and_so_does_a_slot_that_is_counted_again(tmp_path):
    stored = FIRST + vote(0, 1, 10)
    first = drain(5, 20, (1, 11), {1: (V, 12)})
    same = drain(5.1, 30, (1, 11), {1: (V, 12)}, pid=901)[1:]  # it took the lock over
    doubled = [ballot(0, deliveries=2)]
    (found,) = certified(tmp_path / "same", stored + first + same, doubled)
    assert (found.fate, found.cause, found.certain) == ("doubled", "double-drain", True)
    drawn = command(Incr, POINTER, begin=10, number=1, cas=40, **THIRD)
    again = drain(20, 50, (1, 40), {1: (V, 12)}, operation=2)
    (found,) = certified(tmp_path / "stale", [*stored, *first, drawn, *again], doubled)
    assert (found.cause, found.killer_pid, found.killer_cas) == ("stale-slot", 300, 40)


def test_a_slot_on_another_daemon_than_the_pointer_is_judged_by_the_pointers_resets(tmp_path):
    stored = vote(0, 1, 10)
    stored[2] = command(Set, SLOT, begin=0.4, slot=1, vote=V, cas=5, daemon=1)

    def spread(at: float, cas: int, pointer: tuple[int, int], **who: int) -> list[Row]:
        rows = drain(at, cas, pointer, {1: (V, 5)}, **who)
        return [row | {"daemon": 1} if row["key"] == KeyKind.SLOT else row for row in rows]

    drawn = command(Incr, POINTER, begin=10, number=1, cas=40, **THIRD)
    rows = [*FIRST, *stored, *spread(5, 20, (1, 11)), drawn, *spread(20, 50, (1, 40), operation=2)]
    (found,) = certified(tmp_path / "trial", rows, [ballot(0, deliveries=2)])
    assert (found.cause, found.killer_pid, found.killer_cas) == ("stale-slot", 300, 40)


@pytest.mark.parametrize("refused", [False, True])
def test_a_lock_that_memcached_dropped_when_it_refused_a_store_was_not_wiped(tmp_path, refused):
    other = vote(2, 2, 14, 8, **THIRD)
    if refused:
        other[3] = command(Set, LOCK, begin=2.6, status=Status.REFUSED, **THIRD)
    again = [*cold(5, 30, **OTHER), command(Set, LOCK, begin=6, cas=33, **OTHER)]
    read = drain(20, 50, (0, 31), {})
    (found,) = certified(tmp_path / "trial", [*FIRST, *vote(0, 1, 10), *other, *again, *read])
    assert found.cause == ("cold-reset" if refused else "wiped")
    assert ("refused a store" in found.why) is refused


def test_a_vote_that_came_in_twice_for_one_attempt_is_the_clients_retry(tmp_path):
    twice = vote(0, 1, 10) + vote(2, 2, 20, operation=2)
    read = drain(20, 50, (2, 21), {1: (V, 12), 2: (V, 22)})
    (found,) = certified(tmp_path / "trial", FIRST + twice + read, [ballot(0, deliveries=2)])
    assert found.cause == "client-retry"


def test_a_takeover_and_whose_hold_it_overlapped_are_on_the_certificate(tmp_path):
    taken = [
        command(Incr, LOCK, begin=1, number=2, cas=12, **OTHER),
        command(Patience, LOCK, begin=2, end=2, status=Status.OVER, **OTHER),
        command(Incr, POINTER, begin=3, number=2, cas=14, **OTHER),
        command(Set, SLOT, begin=4, slot=1, vote=7, cas=15, **OTHER),
        command(Set, LOCK, begin=5, cas=16, **OTHER),
    ]
    holder = vote(0, 1, 10)
    holder[3] = command(Set, LOCK, begin=9, cas=30)
    read = drain(20, 50, (2, 14), {1: (7, 15), 2: None})
    (found,) = certified(tmp_path / "trial", FIRST + holder + taken + read)
    assert (found.cause, found.killer_grant) == ("overwritten", "takeover")
    assert found.killer_overlapped == "100/0/1"


def test_a_write_after_the_first_of_a_later_hold_is_stale(tmp_path):
    taken = [
        command(Incr, LOCK, begin=1, number=2, cas=12, **OTHER),
        command(Patience, LOCK, begin=2, end=2, status=Status.OVER, **OTHER),
        command(Incr, POINTER, begin=3, number=2, cas=14, **OTHER),
        command(Set, SLOT, begin=4, slot=2, vote=7, cas=15, **OTHER),
        command(Set, LOCK, begin=5, cas=16, **OTHER),
    ]
    stalled = vote(0, 1, 10, store_at=9, store_cas=40)
    trial = make_trial(tmp_path / "trial", journal=stalled + taken)
    frame = intrusions(trial).set_index("pid")
    assert list(frame["kind"]) == ["clean", "takeover"]
    assert [len(at_ns) for at_ns in frame["stale_at_ns"]] == [1, 0]
    assert frame.loc[100, "hold_ms"] == pytest.approx(9.2)
