"""The post's queue, command by command: each sentence that is easily misread."""

from harness.protocol.classic import drain, enqueue
from harness.protocol.commands import (
    Get,
    Incr,
    InsertBallots,
    Patience,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.protocol.queue import NAP_NS, Drained, DrainEnd, Queue, Receipt
from tests.scripted import LOST, MISSING, OK, OVER, UNREACHABLE, number, play

QUEUE = Queue.named("poll-queue")
WRITES_NOWHERE = [LOST, UNREACHABLE]


def test_keys_are_those_of_the_post():
    assert QUEUE.lock.name == "poll-queue-lock"
    assert QUEUE.pointer.name == "poll-queue-curr"
    assert QUEUE.slot(7).name == "poll-queue-key-7"


def test_a_vote_on_a_warm_queue_takes_four_commands():
    asked, receipt = play(enqueue(QUEUE, [b"m"]), [number(1), number(5), OK, OK])
    assert asked == [
        Incr(QUEUE.lock),
        Incr(QUEUE.pointer),
        Set(QUEUE.slot(5), b"m"),
        Set(QUEUE.lock, b"0"),
    ]
    assert receipt is Receipt.QUEUED


def test_several_votes_share_one_hold():
    replies = [number(1), number(1), OK, number(2), OK, OK]
    asked, _ = play(enqueue(QUEUE, [b"a", b"b"]), replies)
    assert [c for c in asked if c == Incr(QUEUE.lock)] == [Incr(QUEUE.lock)]
    assert Set(QUEUE.slot(2), b"b") in asked


def test_a_missing_lock_is_set_to_one_and_the_pointer_to_zero():
    asked, _ = play(enqueue(QUEUE, [b"m"]), [MISSING, OK, OK, number(1), OK, OK])
    assert asked[1:3] == [Set(QUEUE.lock, b"1"), Set(QUEUE.pointer, b"0")]


def test_patience_counts_naps_and_when_it_ends_the_waiter_goes_on_as_the_holder():
    replies = [number(2), number(NAP_NS), OK, number(3), number(1_500_000), OVER]
    asked, receipt = play(enqueue(QUEUE, [b"m"]), [*replies, number(9), OK, OK])
    assert asked[:6] == [
        Incr(QUEUE.lock),
        Sleep(NAP_NS),
        Patience(1_000_000),
        Incr(QUEUE.lock),
        Sleep(NAP_NS),
        Patience(2_500_000),
    ]
    assert asked[6:] == [Incr(QUEUE.pointer), Set(QUEUE.slot(9), b"m"), Set(QUEUE.lock, b"0")]
    assert receipt is Receipt.QUEUED


def test_a_waiter_that_may_not_take_over_writes_nothing():
    replies = [number(2), number(NAP_NS), OVER]
    asked, receipt = play(enqueue(QUEUE, [b"m"], take_over=False), replies)
    assert receipt is Receipt.OUT_OF_PATIENCE
    assert not [c for c in asked if isinstance(c, Set)]


def test_a_missing_pointer_sends_the_vote_to_slot_zero():
    asked, receipt = play(enqueue(QUEUE, [b"m"]), [number(1), MISSING, OK, OK, OK])
    assert asked[2:4] == [Set(QUEUE.pointer, b"1"), Set(QUEUE.slot(0), b"m")]
    assert receipt is Receipt.QUEUED


def test_nobody_looks_whether_a_set_was_refused():
    refused = Reply(Status.REFUSED)
    _, receipt = play(enqueue(QUEUE, [b"m"]), [number(1), number(1), refused, refused])
    assert receipt is Receipt.QUEUED


def test_a_vote_that_is_written_nowhere_may_go_to_the_database():
    for reply in WRITES_NOWHERE:
        _, receipt = play(enqueue(QUEUE, [b"m"]), [reply])
        assert receipt is Receipt.NO_MEMCACHED
        _, receipt = play(enqueue(QUEUE, [b"m"]), [number(1), reply])
        assert receipt is Receipt.NO_MEMCACHED


def test_a_vote_whose_store_was_not_answered_may_be_anywhere():
    _, receipt = play(enqueue(QUEUE, [b"m"]), [number(1), number(1), LOST])
    assert receipt is Receipt.UNKNOWN
    _, receipt = play(enqueue(QUEUE, [b"a", b"b"]), [number(1), number(1), OK, LOST])
    assert receipt is Receipt.UNKNOWN


def test_the_drain_reads_from_one_resets_leaves_and_only_then_inserts():
    one, three = (Reply(Status.OK, value=v) for v in (b"one", b"three"))
    asked, drained = play(drain(QUEUE), [number(1), number(3), one, MISSING, three, OK, OK, OK])
    assert asked == [
        Incr(QUEUE.lock),
        Get(QUEUE.pointer),
        Get(QUEUE.slot(1)),
        Get(QUEUE.slot(2)),
        Get(QUEUE.slot(3)),
        Set(QUEUE.pointer, b"0"),
        Set(QUEUE.lock, b"0"),
        InsertBallots([b"one", b"three"]),
    ]
    assert drained == Drained(DrainEnd.COMMITTED, [b"one", b"three"])


def test_a_drain_that_was_not_committed_says_so():
    vote = Reply(Status.OK, value=b"one")
    _, drained = play(drain(QUEUE), [number(1), number(1), vote, OK, OK, LOST])
    assert drained.end is DrainEnd.NOT_COMMITTED


def test_a_drain_without_memcached_is_not_an_empty_queue():
    _, drained = play(drain(QUEUE), [UNREACHABLE])
    assert drained.end is DrainEnd.NO_MEMCACHED
    for pointer, reset in ((LOST, OK), (UNREACHABLE, UNREACHABLE), (number(0), LOST)):
        _, drained = play(drain(QUEUE), [number(1), pointer, reset, OK])
        assert drained.end is DrainEnd.NO_MEMCACHED
    _, drained = play(drain(QUEUE), [number(1), number(0), OK, OK])
    assert drained.end is DrainEnd.EMPTY
