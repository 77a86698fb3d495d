"""The simulated memcached answers as the real one: random commands, and not one reply differs.

`POLLSTORM_CONFORMANCE_COMMANDS` says how many; `make conformance` asks for 100,000 of them. See
docs/conformance.md.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, reject, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from harness.protocol.commands import (
    Add,
    Delete,
    Get,
    Incr,
    Key,
    MemcachedCommand,
    Reply,
    Set,
    Status,
)
from harness.services.processes import Supervisor
from harness.simulation.memcached import EXISTS, Item, SimulatedMemcached
from tests.stores import RealStore, SimulatedStore, Store, key

COMMANDS = int(os.environ.get("POLLSTORM_CONFORMANCE_COMMANDS", "3000"))
STEPS = 250  # each example begins with a restart, which takes as long as a hundred commands
RESTARTED_AFTER = 200
WIPED_AFTER = 30
SECONDS = 4  # in an example in which time passes
LEAST_IN_A_SECOND = 15
EXAMPLES = 4  # in a round; the first one is as simple as can be
EXAMPLES_IN_TIME = 2
WAITING_IS_DEAR = 100  # so many times fewer commands where each second is waited for
KEYS = [key(f"k{number}") for number in range(12)]
ANY = st.sampled_from(KEYS)
ONE_OF_FEW = st.sampled_from(KEYS[:4])


class Value(NamedTuple):
    """A value that prints short."""

    text: bytes
    times: int = 1

    def __bytes__(self) -> bytes:
        return self.text * self.times


NUMBERS = [b"0", b"8", b"9", b"99", b"007", b" 5", b"12 x", b"18446744073709551614"]
NUMBERS += [b"18446744073709551615", b"18446744073709551616", b"x", b""]
LARGEST_BYTES = 1024 * 1024 - 59  # with the header, and a key to come
SIZES_BYTES = [60, 30_000, 100_000, 200_000, 524_226, 524_227, 600_000]
SIZES_BYTES += [LARGEST_BYTES - 3, LARGEST_BYTES - 2, LARGEST_BYTES - 1, 2_000_000]
FILLING = st.sampled_from([Value(b"v", 100_000), Value(b"v", 200_000)])  # a page has 10, or 5
VALUES = st.sampled_from([Value(number) for number in NUMBERS]) | st.sampled_from(
    [Value(b"v", size) for size in SIZES_BYTES]
)


class Daemon(NamedTuple):
    """Under what the two are compared."""

    memory_mib: int = 64
    evict: bool = True


DAEMONS = {"roomy": Daemon(), "evicting": Daemon(2), "refusing": Daemon(3, evict=False)}
Simulate = type[SimulatedMemcached]


class Comparison(RuleBasedStateMachine):
    """Both are told the same; whatever they answer is the same."""

    simulated: Store
    real: Store
    issued = 0

    @initialize()
    def begin(self) -> None:
        self.real.restart()
        self.simulated.restart()
        self.seen_cas = [1]
        self.since_restart = self.since_wipe = 0

    def both(self, command: MemcachedCommand) -> None:
        type(self).issued += 1
        self.since_restart += 1
        self.since_wipe += 1
        simulated, real = self.simulated.execute(command), self.real.execute(command)
        assert simulated == real, f"{short(simulated)} is simulated, {short(real)} is real"
        if real.cas:
            self.seen_cas.append(real.cas)

    @rule(key=ANY)
    def get(self, key: Key) -> None:
        self.both(Get(key))

    @rule(key=ANY, value=VALUES)
    def set(self, key: Key, value: Value) -> None:
        self.both(Set(key, bytes(value)))

    @rule(key=ANY, value=VALUES, lifetime_s=st.sampled_from([0, 1000]))
    def add(self, key: Key, value: Value, lifetime_s: int) -> None:
        self.both(Add(key, bytes(value), lifetime_s))

    @rule(key=ANY)
    def incr(self, key: Key) -> None:
        self.both(Incr(key))

    @rule(key=ANY, age=st.integers(0, 5))
    def delete(self, key: Key, age: int) -> None:
        """Any item, or the one of the CAS seen so long ago."""
        cas = self.seen_cas[-min(age, len(self.seen_cas))] if age else 0
        self.both(Delete(key, cas))

    @rule(first=st.integers(0, len(KEYS) - 1), count=st.integers(1, 6), value=FILLING)
    def fill(self, first: int, count: int, value: Value) -> None:
        """Several keys in a row, which takes most of the room that their class has."""
        for name in range(first, first + count):
            self.both(Set(KEYS[name % len(KEYS)], bytes(value)))

    @precondition(lambda self: self.since_wipe >= WIPED_AFTER)
    @rule()
    def wipe(self) -> None:
        self.since_wipe = 0
        self.simulated.wipe()
        self.real.wipe()

    @precondition(lambda self: self.since_restart >= RESTARTED_AFTER)
    @rule()
    def restart(self) -> None:
        self.begin()

    def teardown(self) -> None:
        """Which keys have survived, and every value."""
        for each in KEYS:
            self.both(Get(each))


ADDS = st.builds(Add, ONE_OF_FEW, st.just(b"9"), st.sampled_from([1, 2, 3, 0]))
OTHERS = st.builds(Set, ONE_OF_FEW, st.just(b"99")) | st.one_of(
    st.builds(kind, ONE_OF_FEW) for kind in (Get, Incr, Delete)
)


class ComparisonInTime(RuleBasedStateMachine):
    """The simulated clock follows the real one; what happens while it ticks is not compared."""

    simulated: SimulatedStore
    real: RealStore
    issued = 0

    @initialize()
    def begin(self) -> None:
        self.real.restart()
        self.simulated.restart()

    @rule(commands=st.lists(ADDS | OTHERS, min_size=LEAST_IN_A_SECOND))
    def second(self, commands: list[MemcachedCommand]) -> None:
        self.simulated.now_s = self.real.now_s
        for command in commands:
            type(self).issued += 1
            simulated, real = self.simulated.execute(command), self.real.execute(command)
            if self.real.now_s != self.simulated.now_s:
                reject()  # nobody knows at which of the two times it was carried out
            assert simulated == real, f"{short(simulated)} is simulated, {short(real)} is real"
        self.real.await_tick()


def short(reply: Reply) -> Reply:
    return reply._replace(value=reply.value[:40])


Begin = Callable[[Daemon], RealStore]


@pytest.fixture
def begin(supervisor: Supervisor, logs: Path) -> Iterator[Begin]:
    """Starts a real memcached."""
    with ExitStack() as stack:

        def start(daemon: Daemon) -> RealStore:
            log = logs / "memcached.log"
            store = RealStore(supervisor, log, daemon.memory_mib, evict=daemon.evict)
            stack.callback(store.close)
            return store

        yield start


def compare(
    machine: type[Comparison] | type[ComparisonInTime],
    simulate: Simulate,
    daemon: Daemon,
    real: Store,
    commands: int,
    *,
    steps: int = STEPS,
    shrink: bool = False,
) -> int:
    """Issue at least so many commands to both, in random order; raises AssertionError.

    Examples follow from the seeds 0, 1, 2 and so on. Returns how many commands it were.
    """
    issued = 0
    for number in range(commands):  # each round issues one command at least
        if issued >= commands:
            break
        simulated = SimulatedStore(simulate(daemon.memory_mib, evict=daemon.evict))
        members = {"simulated": simulated, "real": real, "issued": 0}
        comparison = seed(number)(type(machine.__name__, (machine,), members))
        run_state_machine_as_test(
            comparison,
            settings=settings(
                max_examples=EXAMPLES if machine is Comparison else EXAMPLES_IN_TIME,
                stateful_step_count=steps if machine is Comparison else SECONDS,
                phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
                suppress_health_check=list(HealthCheck),
                deadline=None,
                database=None,
            ),
        )
        issued += comparison.issued
    return issued


@pytest.mark.services
@pytest.mark.parametrize("kind", DAEMONS)
def test_no_reply_differs(begin: Begin, kind: str):
    daemon, commands = DAEMONS[kind], COMMANDS // len(DAEMONS)
    assert compare(Comparison, SimulatedMemcached, daemon, begin(daemon), commands) >= commands


@pytest.mark.services
def test_no_reply_differs_while_lifetimes_end(begin: Begin):
    daemon = DAEMONS["roomy"]
    commands = max(LEAST_IN_A_SECOND, COMMANDS // WAITING_IS_DEAR)
    issued = compare(ComparisonInTime, SimulatedMemcached, daemon, begin(daemon), commands)
    assert issued >= commands


class NeverWraps(SimulatedMemcached):
    def _incr(self, command: Incr, now_s: int) -> Reply:
        reply = super()._incr(command, now_s)
        wrapped = reply.status is Status.OK and reply.number == 0
        return reply._replace(number=2**64, value=b"%d" % 2**64) if wrapped else reply


class AddOverwrites(SimulatedMemcached):
    def _add(self, command: Add, now_s: int) -> Reply:
        return self._set(Set(command.key, command.value), now_s)


class FailedAddTakesCas(SimulatedMemcached):
    def _add(self, command: Add, now_s: int) -> Reply:
        reply = super()._add(command, now_s)
        self._cas += reply.status is Status.EXISTS
        return reply


class FailedAddNeedsNoRoom(SimulatedMemcached):
    def _add(self, command: Add, now_s: int) -> Reply:
        found = self._find(command.key.name, now_s)
        return EXISTS if found else super()._add(command, now_s)


class RefusalKeepsTheOldValue(SimulatedMemcached):
    def _forget(self, name: str, now_s: int) -> None:
        pass


class DeleteTakesCas(SimulatedMemcached):
    def _delete(self, command: Delete, now_s: int) -> Reply:
        reply = super()._delete(command, now_s)
        self._cas += reply.status is Status.OK
        return reply


class DeleteMindsNoCas(SimulatedMemcached):
    def _delete(self, command: Delete, now_s: int) -> Reply:
        return super()._delete(command._replace(cas=0), now_s)


class WipeTakesNoCas(SimulatedMemcached):
    def wipe(self) -> None:
        super().wipe()
        self._cas -= 1


class YoungestIsEvicted(SimulatedMemcached):
    def _store(self, name: str, *details: Any) -> int:
        cas = super()._store(name, *details)
        self._by_age[self._items[name].chunks[0]].move_to_end(name, last=False)
        return cas


class EveryReadRenews(SimulatedMemcached):
    def _renew(self, item: Item, now_s: int) -> None:
        item.renewed_s = 0
        super()._renew(item, now_s)


class LivesTwoSecondsLonger(SimulatedMemcached):
    def _add(self, command: Add, now_s: int) -> Reply:
        lifetime_s = command.lifetime_s
        return super()._add(command._replace(lifetime_s=lifetime_s and lifetime_s + 2), now_s)


class DiesASecondEarly(SimulatedMemcached):
    def _find(self, name: str, now_s: int) -> Item | None:
        return super()._find(name, now_s + 1)


BROKEN = {
    NeverWraps: "roomy",
    AddOverwrites: "roomy",
    FailedAddTakesCas: "roomy",
    DeleteTakesCas: "roomy",
    DeleteMindsNoCas: "roomy",
    WipeTakesNoCas: "roomy",
    RefusalKeepsTheOldValue: "refusing",
    FailedAddNeedsNoRoom: "evicting",
    YoungestIsEvicted: "evicting",
    EveryReadRenews: "evicting",
}


@pytest.mark.services
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_command_is_caught(begin: Begin, broken: Simulate):
    daemon = DAEMONS[BROKEN[broken]]
    with pytest.raises(AssertionError, match="is simulated"):
        compare(Comparison, broken, daemon, begin(daemon), 5000)


@pytest.mark.services
@pytest.mark.parametrize("broken", [LivesTwoSecondsLonger, DiesASecondEarly])
def test_a_wrong_lifetime_is_caught(begin: Begin, broken: Simulate):
    daemon = DAEMONS["roomy"]
    with pytest.raises(AssertionError, match="is simulated"):
        compare(ComparisonInTime, broken, daemon, begin(daemon), 200)


def test_what_is_caught_is_reduced_to_the_commands_that_it_takes():
    daemon = DAEMONS["roomy"]
    sound = SimulatedStore(SimulatedMemcached())
    with pytest.raises(AssertionError, match="is simulated") as caught:
        compare(Comparison, FailedAddTakesCas, daemon, sound, 5000, steps=30, shrink=True)
    first, *steps, last = [note for note in caught.value.__notes__ if note.startswith("state.")]
    assert (first, last) == ("state.begin()", "state.teardown()")
    assert len(steps) <= 5  # of thirty; it takes three: to store, to fail, to see the next number
