"""The queue without a lock, command by command: each rule that keeps a vote."""

import pytest

from harness.history.journal import ROOM
from harness.protocol import mirrored
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    Delete,
    Get,
    Incr,
    InsertBallot,
    InsertBallots,
    IssueEpoch,
    Move,
    Now,
    Pipeline,
    ReadHeads,
    Sleep,
)
from harness.protocol.queue import DrainEnd, Queue, Receipt, Terms
from harness.protocol.ticket import MAX_TICKETS, TOMBSTONE, drain, first_of, vote
from tests.scripted import (
    EXISTS,
    LOST,
    MISSING,
    OK,
    REFUSED,
    UNREACHABLE,
    number,
    parts,
    play,
    value,
)

QUEUE = Queue.named("poll-queue")
TERMS = Terms(writers=2, grace_ns=5, tombstone_life_s=60)
HEAD = first_of(3)
FIRST, SECOND, THIRD = HEAD + 1, HEAD + 2, HEAD + 3
NEXT_EPOCH = first_of(4)
NOW = number(0)
CLOSED = value(TOMBSTONE)


def filled(slot, pointer):
    """The replies to the `add` of a slot and the look at the pointer behind it."""
    return parts(slot, pointer)


def cast(replies):
    return play(vote(QUEUE, b"m", terms=TERMS), replies)


def drained(replies):
    return play(drain(QUEUE, terms=TERMS), replies)


def test_a_vote_draws_a_ticket_fills_its_slot_and_looks_at_the_pointer_again():
    asked, receipt = cast([NOW, number(SECOND), filled(OK, number(THIRD)), NOW])
    assert [c for c in asked if c != Now()] == [
        Incr(QUEUE.pointer),
        Pipeline((Add(QUEUE.slot(SECOND), b"m"), Get(QUEUE.pointer))),
    ]
    assert receipt is Receipt.QUEUED


@pytest.mark.parametrize("pointer", [MISSING, LOST, UNREACHABLE, number(NEXT_EPOCH + 1)])
def test_a_vote_is_in_doubt_when_the_pointer_is_no_longer_of_its_epoch(pointer):
    asked, receipt = cast([NOW, number(FIRST), filled(OK, pointer), NOW])
    assert receipt is Receipt.UNKNOWN
    assert InsertBallot(b"m") not in asked


def test_a_vote_is_in_doubt_when_its_tombstone_may_have_come_and_gone():
    just_in_time, too_late = number(58 * 10**9 - 1), number(58 * 10**9)
    _, receipt = cast([NOW, number(FIRST), filled(OK, number(FIRST)), just_in_time])
    assert receipt is Receipt.QUEUED
    _, receipt = cast([NOW, number(FIRST), filled(OK, number(FIRST)), too_late])
    assert receipt is Receipt.UNKNOWN


def test_whose_slot_was_closed_draws_another_ticket():
    replies = [NOW, number(FIRST), filled(EXISTS, number(FIRST)), NOW, number(THIRD)]
    replies += [filled(OK, number(THIRD)), NOW]
    asked, receipt = cast(replies)
    assert Pipeline((Add(QUEUE.slot(THIRD), b"m"), Get(QUEUE.pointer))) in asked
    assert receipt is Receipt.QUEUED


def test_tickets_are_not_drawn_without_end():
    asked, receipt = cast([NOW, number(FIRST), filled(EXISTS, OK)] * MAX_TICKETS + [OK])
    assert asked[-1] == InsertBallot(b"m")
    assert receipt is Receipt.STORED


def test_a_missing_pointer_is_added_in_an_epoch_that_the_database_issues():
    opening = [NOW, MISSING, NOW, number(4), NOW, OK]
    asked, receipt = cast(
        [*opening, NOW, number(NEXT_EPOCH + 1), filled(OK, number(NEXT_EPOCH + 1)), NOW]
    )
    assert [c for c in asked[: len(opening)] if c != Now()] == [
        Incr(QUEUE.pointer),
        IssueEpoch("poll-queue"),
        Add(QUEUE.pointer, b"%d" % NEXT_EPOCH),
    ]
    assert receipt is Receipt.QUEUED


def test_an_epoch_that_took_long_to_get_is_not_opened():
    asked, receipt = cast([NOW, MISSING, NOW, number(4), number(31 * 10**9), OK])
    assert not [c for c in asked if isinstance(c, Add)]
    assert receipt is Receipt.STORED


@pytest.mark.parametrize(
    "replies",
    [
        [NOW, LOST],
        [NOW, UNREACHABLE],
        [NOW, REFUSED],
        [NOW, number(FIRST), filled(UNREACHABLE, UNREACHABLE)],
        [NOW, number(FIRST), filled(REFUSED, number(FIRST))],
        [NOW, MISSING, NOW, LOST],
        [NOW, MISSING, NOW, number(4), NOW, LOST],
    ],
)
def test_what_is_certainly_in_no_slot_goes_to_the_database(replies):
    asked, receipt = cast([*replies, OK])
    assert asked[-1] == InsertBallot(b"m")
    assert receipt is Receipt.STORED


def test_a_store_that_was_not_answered_may_be_drained_and_is_not_cast_again():
    asked, receipt = cast([NOW, number(FIRST), filled(LOST, LOST)])
    assert receipt is Receipt.UNKNOWN
    assert InsertBallot(b"m") not in asked


def test_the_drain_counts_and_moves_the_head_in_one_step_then_frees_the_slots():
    asked, result = drained(
        [number(SECOND), parts(number(HEAD)), parts(value(b"a"), value(b"b")), OK, OK]
    )
    assert asked == [
        Get(QUEUE.pointer),
        ReadHeads("poll-queue", 3),
        Pipeline([Get(QUEUE.slot(FIRST)), Get(QUEUE.slot(SECOND))]),
        InsertBallots([b"a", b"b"], (Move("poll-queue", HEAD, SECOND),)),
        Pipeline([Delete(QUEUE.slot(FIRST)), Delete(QUEUE.slot(SECOND))]),
    ]
    assert result.end is DrainEnd.COMMITTED


def test_an_empty_slot_is_closed_after_a_grace_and_its_tombstone_stays():
    asked, result = drained(
        [number(SECOND), parts(number(HEAD)), parts(MISSING, value(b"b")), OK, parts(OK), OK, OK]
    )
    assert asked[3:] == [
        Sleep(5),
        Pipeline([Add(QUEUE.slot(FIRST), TOMBSTONE, 60)]),
        InsertBallots([b"b"], (Move("poll-queue", HEAD, SECOND),)),
        Pipeline([Delete(QUEUE.slot(SECOND))]),
    ]
    assert result.messages == [b"b"]


def test_a_vote_that_comes_before_its_tombstone_is_read():
    late = [parts(MISSING, value(b"b")), OK, parts(EXISTS), parts(value(b"a"))]
    _, result = drained([number(SECOND), parts(number(HEAD)), *late, OK, OK])
    assert result.messages == [b"a", b"b"]


def test_the_head_never_passes_a_slot_that_is_neither_filled_nor_closed():
    for reply in (LOST, UNREACHABLE, REFUSED):
        read = [parts(value(b"a"), MISSING, value(b"c")), OK, parts(reply)]
        asked, _ = drained([number(THIRD), parts(number(HEAD)), *read, OK, OK])
        assert InsertBallots([b"a"], (Move("poll-queue", HEAD, FIRST),)) in asked


@pytest.mark.parametrize("unheard", [LOST, UNREACHABLE])
def test_a_queue_of_which_a_slot_is_not_answered_for_is_not_called_empty(unheard):
    """One of several daemons is dead, and the pointer lies on another."""
    current = [number(SECOND), parts(number(HEAD)), parts(unheard, value(b"b"))]
    asked, result = drained(current)
    assert result.end is DrainEnd.NO_MEMCACHED
    assert not [c for c in asked if isinstance(c, InsertBallots)]
    old = [number(NEXT_EPOCH), parts(number(HEAD), number(NEXT_EPOCH)), parts(MISSING, unheard)]
    asked, result = drained([*old, OK, parts(OK), OK])
    assert result.end is DrainEnd.COMMITTED  # the first slot was closed and can be passed
    assert drained([number(NEXT_EPOCH), old[1], parts(unheard, MISSING)])[1].end is (
        DrainEnd.NO_MEMCACHED
    )


def test_of_two_queues_one_that_is_answered_for_is_enough_to_call_both_empty():
    stuck = [number(FIRST), parts(number(HEAD)), parts(UNREACHABLE)]
    empty = [number(HEAD), parts(number(HEAD))]
    for replies, end in (
        ([*stuck, *empty], DrainEnd.EMPTY),
        ([*empty, *stuck], DrainEnd.EMPTY),
        ([*stuck, *stuck], DrainEnd.NO_MEMCACHED),
    ):
        assert play(mirrored.drain(QUEUE, terms=TERMS), replies)[1].end is end


def test_a_head_that_has_moved_meanwhile_means_that_others_counted_and_nothing_is_freed():
    asked, result = drained([number(FIRST), parts(number(HEAD)), parts(value(b"a")), EXISTS])
    assert result.end is DrainEnd.OVERTAKEN
    assert not [c for c in asked if isinstance(c, Pipeline) and isinstance(c.commands[0], Delete)]


def test_a_commit_in_doubt_frees_nothing():
    _, result = drained([number(FIRST), parts(number(HEAD)), parts(value(b"a")), LOST])
    assert result.end is DrainEnd.NOT_COMMITTED


def test_an_old_epoch_is_searched_until_as_many_are_empty_as_can_be_on_their_way():
    asked, result = drained(
        [
            number(NEXT_EPOCH),
            parts(number(HEAD), number(NEXT_EPOCH)),
            parts(MISSING, value(b"b")),
            parts(MISSING, MISSING),
            OK,
            parts(OK),
            OK,
            OK,
        ]
    )
    assert Pipeline([Add(QUEUE.slot(FIRST), TOMBSTONE, 60)]) in asked
    assert InsertBallots([b"b"], (Move("poll-queue", HEAD, SECOND),)) in asked
    assert result.end is DrainEnd.COMMITTED


def test_a_lost_pointer_does_not_hide_what_is_queued():
    replies = [MISSING, parts(number(HEAD)), parts(value(b"a"), MISSING), parts(MISSING, MISSING)]
    asked, result = drained([*replies, OK, OK])
    assert asked[1] == ReadHeads("poll-queue", 0)
    assert result.messages == [b"a"]


def test_nothing_drawn_is_an_empty_queue_and_no_memcached_or_database_is_not():
    assert drained([number(HEAD), parts(number(HEAD))])[1].end is DrainEnd.EMPTY
    assert drained([UNREACHABLE])[1].end is DrainEnd.NO_MEMCACHED
    assert drained([number(HEAD), LOST])[1].end is DrainEnd.NOT_COMMITTED


def test_a_mirrored_vote_is_acknowledged_when_both_daemons_have_it():
    once = [NOW, number(FIRST), filled(OK, number(FIRST)), NOW]
    asked, receipt = play(mirrored.vote(QUEUE, b"m", terms=TERMS), [*once, *once])
    assert [c.commands[0].key.daemon for c in asked if isinstance(c, Pipeline)] == [0, 1]
    assert receipt is Receipt.QUEUED


@pytest.mark.parametrize("lost", [[NOW, UNREACHABLE], [NOW, number(FIRST), filled(LOST, LOST)]])
def test_a_vote_that_one_daemon_may_not_have_is_counted_at_once_as_a_copy(lost):
    once = [NOW, number(FIRST), filled(OK, number(FIRST)), NOW]
    for replies in (lost, [*once, *lost]):
        asked, receipt = play(mirrored.vote(QUEUE, b"m", terms=TERMS), [*replies, OK])
        assert asked[-1] == InsertBallot(b"m", copy=True)
        assert receipt is Receipt.STORED


@pytest.mark.parametrize(
    ("failed", "receipt"),
    [
        ([NOW, UNREACHABLE], Receipt.REFUSED),
        ([NOW, number(FIRST), filled(LOST, LOST)], Receipt.UNKNOWN),
    ],
)
def test_what_the_database_refuses_is_refused_only_if_it_lies_in_no_queue(failed, receipt):
    """503 says that the vote is written nowhere; a drain of the first daemon would count it."""
    once = [NOW, number(FIRST), filled(OK, number(FIRST)), NOW]
    alone = play(mirrored.vote(QUEUE, b"m", terms=TERMS), [*failed, REFUSED])
    second = play(mirrored.vote(QUEUE, b"m", terms=TERMS), [*once, *failed, REFUSED])
    assert alone[1] is receipt
    assert second[1] is Receipt.UNKNOWN


def test_both_queues_are_counted_in_one_transaction_each_vote_once():
    other = QUEUE.on(1)
    replies = [number(FIRST), parts(number(HEAD)), parts(value(b"a"))]
    asked, result = play(mirrored.drain(QUEUE, terms=TERMS), [*replies, *replies, OK, OK, OK])
    moves = (Move("poll-queue", HEAD, FIRST), Move("poll-queue@1", HEAD, FIRST))
    assert InsertBallots([b"a"], moves, copies=True) in asked
    assert asked[-1] == Pipeline([Delete(other.slot(FIRST))])
    assert result.end is DrainEnd.COMMITTED


def test_one_dead_daemon_does_not_stop_the_drain_of_the_other():
    replies = [UNREACHABLE, number(FIRST), parts(number(HEAD)), parts(value(b"a")), OK, OK]
    _, result = play(mirrored.drain(QUEUE, terms=TERMS), replies)
    assert result.messages == [b"a"]
    _, result = play(mirrored.drain(QUEUE, terms=TERMS), [UNREACHABLE, UNREACHABLE])
    assert result.end is DrainEnd.NO_MEMCACHED


def test_the_longest_vote_has_room_in_the_journal_before_its_first_command():
    """A disk that fills up meanwhile would have it refused although it lies in a queue."""
    opening = [NOW, MISSING, NOW, number(4), NOW, EXISTS]
    drawn = [NOW, number(FIRST), filled(OK, number(FIRST)), NOW]
    replies = [*(MAX_TICKETS - 1) * opening, *drawn, *MAX_TICKETS * opening, OK]
    asked, receipt = play(mirrored.vote(QUEUE, b"m", terms=TERMS), replies)
    assert receipt is Receipt.STORED
    assert len([command for command in asked if type(command) in COMMAND_CODES]) <= ROOM
