"""The queue whose lock has an owner: what it does where the post's queue does something else."""

from functools import partial

from harness.protocol import owned
from harness.protocol.commands import (
    Add,
    Delete,
    Get,
    Incr,
    InsertBallot,
    InsertBallots,
    Patience,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.protocol.owned import OWNED, drain, vote
from harness.protocol.queue import (
    NAP_NS,
    AfterPatience,
    Drained,
    DrainEnd,
    Queue,
    Receipt,
    Terms,
)
from tests.scripted import (
    EXISTS,
    LOST,
    MISSING,
    OK,
    OVER,
    REFUSED,
    UNREACHABLE,
    number,
    play,
    value,
)

QUEUE = Queue.named("poll-queue")
WON = Reply(Status.OK, cas=77)
cast = partial(vote, QUEUE, b"m", life_s=3, after=AfterPatience.TAKEOVER)


def test_the_lock_is_won_by_add_and_left_by_deleting_that_very_item():
    asked, receipt = play(cast(), [WON, number(5), OK, OK])
    assert asked == [
        Add(QUEUE.lock, OWNED, 3),
        Incr(QUEUE.pointer),
        Set(QUEUE.slot(5), b"m"),
        Delete(QUEUE.lock, 77),
    ]
    assert receipt is Receipt.QUEUED


def test_a_missing_pointer_is_made_with_the_number_of_its_maker():
    asked, receipt = play(cast(), [WON, MISSING, OK, OK, OK])
    assert asked[2:4] == [Set(QUEUE.pointer, b"1"), Set(QUEUE.slot(1), b"m")]
    assert receipt is Receipt.QUEUED


def test_nobody_takes_over():
    replies = [EXISTS, number(NAP_NS), OK, EXISTS, number(NAP_NS), OVER]
    asked, receipt = play(cast(), [*replies, OK])
    assert asked[2:] == [
        Patience(NAP_NS),
        Add(QUEUE.lock, OWNED, 3),
        Sleep(NAP_NS),
        Patience(2 * NAP_NS),
        InsertBallot(b"m"),
    ]
    assert receipt is Receipt.STORED


def test_a_plan_may_have_the_impatient_refused():
    impatient = vote(QUEUE, b"m", life_s=3, after=AfterPatience.REFUSE)
    asked, receipt = play(impatient, [EXISTS, number(NAP_NS), OVER])
    assert receipt is Receipt.REFUSED
    assert not [c for c in asked if isinstance(c, InsertBallot)]


def test_a_refused_store_is_seen_and_the_vote_goes_to_the_database():
    asked, receipt = play(cast(), [WON, number(5), REFUSED, OK, OK])
    assert asked[3:] == [Delete(QUEUE.lock, 77), InsertBallot(b"m")]
    assert receipt is Receipt.STORED


def test_a_store_that_was_not_answered_is_unknown_and_the_lock_is_left():
    asked, receipt = play(cast(), [WON, number(5), LOST, OK])
    assert asked[-1] == Delete(QUEUE.lock, 77)
    assert receipt is Receipt.UNKNOWN


def test_without_memcached_votes_go_to_the_database():
    for replies in ([UNREACHABLE], [LOST], [WON, UNREACHABLE, UNREACHABLE], [WON, LOST, OK]):
        asked, receipt = play(cast(), [*replies, OK])
        assert asked[-1] == InsertBallot(b"m")
        assert receipt is Receipt.STORED


def test_the_drain_does_what_the_post_does_inside():
    asked, drained = play(
        drain(QUEUE, life_s=3), [WON, number(2), value(b"one"), MISSING, OK, OK, OK]
    )
    assert asked == [
        Add(QUEUE.lock, OWNED, 3),
        Get(QUEUE.pointer),
        Get(QUEUE.slot(1)),
        Get(QUEUE.slot(2)),
        Set(QUEUE.pointer, b"0"),
        Delete(QUEUE.lock, 77),
        InsertBallots([b"one"]),
    ]
    assert drained == Drained(DrainEnd.COMMITTED, [b"one"])


def test_a_drain_that_is_not_let_in_reads_nothing():
    asked, drained = play(drain(QUEUE, life_s=3), [EXISTS, number(NAP_NS), OVER])
    assert drained.end is DrainEnd.LOCKED
    assert not [c for c in asked if isinstance(c, Get)]


def test_the_lock_outlives_everybodys_patience():
    machine = owned.protocol(Terms(patience_s=1.5)).vote(QUEUE, b"m")
    assert next(machine) == Add(QUEUE.lock, OWNED, 4)
