"""Where the keys of a queue lie that has several daemons, and where they go when one is dead."""

from collections import Counter
from collections.abc import Callable

import pytest

from harness.cache.ring import Ring, hash_of
from harness.cache.spread import SpreadExecutor
from harness.protocol.commands import Add, Command, Get, Incr, Now, Pipeline, Reply, Status
from harness.protocol.queue import Queue

QUEUE = Queue.named("poll-queue")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Hands:
    """Answers for the daemons, and remembers what was sent where."""

    def __init__(self, answers: Callable[[int], Status]) -> None:
        self.sent: list[tuple[int, str]] = []
        self.answers = answers

    def execute(self, command: Command) -> Reply:
        if isinstance(command, Pipeline):
            return Reply(Status.OK, parts=tuple(map(self.execute, command.commands)))
        if isinstance(command, Now):
            return Reply(Status.OK, 7)
        assert isinstance(command, Get | Add | Incr)
        self.sent.append((command.key.daemon, command.key.name))
        return Reply(self.answers(command.key.daemon), number=len(self.sent))

    def stop_recording(self) -> None:
        pass


def test_keys_lie_where_the_posts_library_puts_them():
    """As version 1.30 of Cache::Memcached answered when it was asked."""
    assert [hash_of(f"poll-queue-{name}") for name in ("lock", "curr", "key-1", "key-2")] == [
        15768,
        17400,
        26222,
        32615,
    ]
    ring = Ring(3, None)
    assert [ring.home_of(f"poll-queue-{name}") for name in ("lock", "curr", "key-1")] == [0, 0, 2]


@pytest.mark.parametrize(("key", "hashes"), [("x", (3292, 26166, 55469, 82969))])
def test_a_key_moves_along_the_path_of_the_posts_library(key: str, hashes: tuple[int, ...]):
    """Its hashes of each further try, as it gave them; 16 daemons so that all differ."""
    homes = [each % 16 for each in hashes]
    assert len(set(homes)) == len(homes)
    ring = Ring(16, 60.0)
    for home in homes:
        assert ring.daemon_of(key) == home
        assert ring.mark_dead(home)


def test_slots_are_spread_evenly():
    ring = Ring(3, None)
    found = Counter(ring.home_of(QUEUE.slot(number).name) for number in range(30_000))
    assert min(found.values()) > 9_000


def test_without_rehashing_nothing_ever_moves():
    ring = Ring(3, None)
    home = ring.daemon_of("a")
    assert not ring.mark_dead(home)
    assert ring.daemon_of("a") == home


def test_with_rehashing_a_key_comes_back_when_its_daemon_has_been_dead_long_enough():
    clock = Clock()
    ring = Ring(3, 5.0, clock)
    home = ring.daemon_of("a")
    assert ring.mark_dead(home)
    assert ring.daemon_of("a") != home
    clock.now_ns = 4_999_999_999
    assert ring.daemon_of("a") != home
    clock.now_ns = 5_000_000_000
    assert ring.daemon_of("a") == home


def test_with_all_daemons_dead_a_key_is_looked_for_at_home():
    ring = Ring(2, 5.0, Clock())
    home = ring.home_of("a")
    assert ring.mark_dead(home)
    assert not ring.mark_dead(1 - home)
    assert ring.daemon_of("a") == home


def test_an_unreachable_daemons_command_goes_to_the_next_and_both_tries_are_sent():
    home = Ring(2, None).home_of(QUEUE.pointer.name)
    hands = Hands(lambda daemon: Status.UNREACHABLE if daemon == home else Status.OK)
    spread = SpreadExecutor(hands, Ring(2, 5.0, Clock()))  # type: ignore[arg-type]
    assert spread.execute(Incr(QUEUE.pointer)).status is Status.OK
    assert [daemon for daemon, _ in hands.sent] == [home, 1 - home]
    spread.execute(Incr(QUEUE.pointer))
    assert hands.sent[-1][0] == 1 - home


def test_what_may_have_been_applied_is_not_sent_again():
    hands = Hands(lambda _: Status.LOST)
    spread = SpreadExecutor(hands, Ring(2, 5.0, Clock()))  # type: ignore[arg-type]
    assert spread.execute(Incr(QUEUE.pointer)).status is Status.LOST
    assert len(hands.sent) == 1
    spread.execute(Incr(QUEUE.pointer))
    assert hands.sent[0][0] != hands.sent[1][0]  # but the next one goes elsewhere


def test_without_rehashing_a_dead_daemons_command_is_unreachable():
    hands = Hands(lambda _: Status.UNREACHABLE)
    spread = SpreadExecutor(hands, Ring(2, None))  # type: ignore[arg-type]
    assert spread.execute(Incr(QUEUE.pointer)).status is Status.UNREACHABLE
    assert len(hands.sent) == 1


def test_a_pipeline_is_split_by_daemon_and_its_replies_are_in_its_own_order():
    hands = Hands(lambda _: Status.OK)
    ring = Ring(3, None)
    spread = SpreadExecutor(hands, ring)  # type: ignore[arg-type]
    keys = [QUEUE.slot(number) for number in range(1, 30)]
    parts = spread.execute(Pipeline([Get(key) for key in keys])).parts
    assert {daemon for daemon, _ in hands.sent} == {0, 1, 2}
    assert all(daemon == ring.home_of(name) for daemon, name in hands.sent)
    assert [hands.sent[part.number - 1][1] for part in parts] == [key.name for key in keys]


def test_a_pipelines_first_command_is_done_before_any_on_another_daemon():
    """`ticket` reads the pointer behind its vote, and must not read it before."""
    ring = Ring(3, None)
    slot = next(
        QUEUE.slot(number)
        for number in range(1, 99)
        if ring.home_of(QUEUE.slot(number).name) != ring.home_of(QUEUE.pointer.name)
    )
    dead = ring.home_of(slot.name)
    hands = Hands(lambda daemon: Status.UNREACHABLE if daemon == dead else Status.OK)
    spread = SpreadExecutor(hands, Ring(3, 5.0, Clock()))  # type: ignore[arg-type]
    stored, pointer = spread.execute(Pipeline((Add(slot, b"v"), Get(QUEUE.pointer)))).parts
    assert stored.status is pointer.status is Status.OK
    assert [name for _, name in hands.sent] == [slot.name, slot.name, QUEUE.pointer.name]


def test_what_is_not_memcacheds_is_passed_on():
    spread = SpreadExecutor(Hands(lambda _: Status.OK), Ring(2, None))  # type: ignore[arg-type]
    assert spread.execute(Now()) == Reply(Status.OK, 7)
