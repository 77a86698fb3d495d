"""The explorer: what it must find, what it must not, and that its shortcuts change no answer."""

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.exploration import search
from harness.exploration.automaton import QUEUE, same_command
from harness.exploration.bounds import ALL, PLAIN, Bounds, Reductions
from harness.exploration.report import describe
from harness.exploration.schedule import steps_of
from harness.exploration.search import Finding
from harness.exploration.space import Space
from harness.exploration.store import MEMCACHED, apply, message_of
from harness.exploration.undisturbed import Judge
from harness.protocol import classic, ticket
from harness.protocol.commands import (
    Command,
    Delete,
    Get,
    InsertBallots,
    Patience,
    Pipeline,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.protocol.queue import Drained, DrainEnd, Receipt, Terms, VotingProtocol
from tests.mutants import PROTOCOLS, with_passage

ProtocolOf = Callable[[Terms], VotingProtocol]


def explore(
    protocol: ProtocolOf | str, reductions: Reductions = ALL, **bounds: int | bool | str
) -> tuple[Space, Finding]:
    protocol_of = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    return search.explore(protocol_of, Bounds(**bounds), reductions)


def verdict(protocol: ProtocolOf | str, **bounds: int | bool | str) -> str:
    return explore(protocol, **bounds)[1].verdict


def shortest(protocol: ProtocolOf | str, **bounds: int | bool | str) -> int:
    _, finding = explore(protocol, **bounds)
    assert finding.verdict == "loses"
    return finding.commands


@pytest.mark.parametrize("writers", [2, 3])
def test_classic_is_safe_on_a_warm_cache_while_nobody_takes_over(writers):
    assert verdict("classic", writers=writers, readers=1, takeovers=0) == "safe"


def test_classic_loses_on_a_cold_cache_without_any_fault():
    assert shortest("classic", writers=2, readers=0, takeovers=0, cold=True) == 12


def test_classic_loses_in_eight_commands_once_somebody_takes_over():
    space, finding = explore("classic", writers=1, readers=1, takeovers=1)
    assert finding.commands == 8
    assert describe("classic", space, finding).lost == ["vote A"]


def test_classic_loses_what_a_dead_reader_held():
    assert verdict("classic", writers=1, takeovers=0, crash="reader") == "loses"


def test_owned_is_safe_on_a_cold_cache():
    assert verdict("owned", writers=2, readers=1, takeovers=0, cold=True) == "safe"


def test_owned_loses_once_a_lock_expires_under_its_holder():
    assert shortest("owned", writers=1, readers=1, takeovers=1) == 8


def test_owned_counts_a_vote_twice_when_a_writer_dies_inside():
    space, finding = explore("owned", writers=2, readers=1, takeovers=0, crash="writer")
    assert describe("owned", space, finding).doubled == ["vote A"]


def test_ticket_is_safe_with_two_writers_and_two_readers():
    assert verdict("ticket", writers=2, readers=2) == "safe"


@pytest.mark.parametrize(
    "trouble",
    [
        {"cold": True},
        {"evict_pointer": True},
        {"expire_tombstones": True},
        {"lost_reply": True},
        {"crash": "writer"},
        {"crash": "reader"},
    ],
    ids=lambda trouble: next(iter(trouble)),
)
def test_ticket_survives(trouble):
    _, finding = explore("ticket", writers=2, readers=1, **trouble)
    assert finding.verdict == "safe"
    assert finding.taken == ()


def test_what_a_wipe_takes_from_ticket_is_named_and_no_loss():
    _, finding = explore("ticket", writers=2, readers=1, wipe=True)
    assert finding.verdict == "safe"
    assert finding.taken == (0, 1)


def test_a_wipe_of_one_daemon_takes_nothing_from_mirrored():
    _, finding = explore("mirrored", writers=1, readers=1, wipe=True)
    assert finding.verdict == "safe"
    assert finding.taken == ()


# What the steps of ticket are for: without each of them it loses.


def test_ticket_loses_if_its_drain_deletes_tombstones():
    passage = "            messages.append(slot.value)\n            taken.append(number)\n"
    instead = "            messages.append(slot.value)\n        taken.append(number)\n"
    mutant = with_passage(ticket, passage, instead)
    assert shortest(mutant.protocol, writers=1, readers=1) == 7


def test_ticket_loses_if_it_does_not_care_what_the_pointer_is_now():
    passage = " and still_there and epoch_of(pointer.number) == epoch_of(ticket.number)"
    mutant = with_passage(ticket, passage, "")
    assert shortest(mutant.protocol, writers=1, readers=1, wipe=True) == 3


def test_ticket_loses_if_any_epoch_will_do():
    passage = " and epoch_of(pointer.number) == epoch_of(ticket.number)"
    mutant = with_passage(ticket, passage, "")
    assert shortest(mutant.protocol, writers=2, readers=1, wipe=True) == 8


def test_ticket_loses_if_it_does_not_look_at_the_clock():
    mutant = with_passage(ticket, "if in_time and still_there", "if still_there")
    assert shortest(mutant.protocol, writers=1, readers=1, expire_tombstones=True) == 6


def vote_into_one_slot(queue, message):
    yield Set(queue.slot(1), message)
    return Receipt.QUEUED


def drain_that_deletes_before_it_commits(queue):
    slot = yield Get(queue.slot(1))
    if slot.status is not Status.OK:
        return Drained(DrainEnd.EMPTY)
    yield Delete(queue.slot(1))
    yield InsertBallots([slot.value])
    return Drained(DrainEnd.COMMITTED)


def test_a_reader_can_die_just_before_its_commit():
    def protocol_of(_terms: Terms) -> VotingProtocol:
        return VotingProtocol(vote_into_one_slot, drain_that_deletes_before_it_commits)

    assert verdict(protocol_of, writers=1) == "safe"
    assert shortest(protocol_of, writers=1, crash="reader") == 3


def test_one_line_of_classic_changes_the_verdict():
    mutant = with_passage(classic, "        if lock.number == 1:", "        if lock.number <= 2:")
    assert verdict(mutant.protocol, writers=2, readers=1, takeovers=0) == "loses"


# The shortcuts, against searches that do without.

SMALL = [
    ("classic", {"writers": 1, "readers": 1}),
    ("classic", {"writers": 2, "readers": 0, "takeovers": 0, "cold": True}),
    ("classic", {"writers": 2, "readers": 2}),
    ("classic", {"writers": 3, "readers": 1, "takeovers": 0}),
    ("classic", {"writers": 2, "readers": 1, "takeovers": 0, "crash": "reader"}),
    ("owned", {"writers": 2, "readers": 2}),
    ("owned", {"writers": 2, "readers": 1, "takeovers": 0, "crash": "writer"}),
    ("owned", {"writers": 2, "readers": 1, "takeovers": 0, "cold": True, "lost_reply": True}),
    ("ticket", {"writers": 2, "readers": 1, "drains": 2}),
    ("mirrored", {"writers": 1, "readers": 1, "wipe": True}),
]


def essence(space: Space, finding: Finding) -> tuple[object, ...]:
    """What no reduction may change come first; which votes are lost, it may."""
    found = describe("", space, finding)
    return finding.verdict, found.commands, len(found.lost), len(found.doubled), found.overlap


@pytest.mark.parametrize(("protocol", "bounds"), SMALL)
def test_each_reduction_finds_the_same_shortest_loss_in_fewer_states(protocol, bounds):
    space, plain = explore(protocol, PLAIN, **bounds)
    expected = essence(space, plain)
    for reductions in (*(PLAIN._replace(**{name: True}) for name in ALL._fields), ALL):
        space, reduced = explore(protocol, reductions, **bounds)
        assert essence(space, reduced)[:2] == expected[:2]
        assert reduced.states <= plain.states


TROUBLES = st.fixed_dictionaries(
    {
        "writers": st.integers(1, 2),
        "readers": st.integers(0, 2),
        "takeovers": st.integers(0, 1),
        "cold": st.booleans(),
        "crash": st.sampled_from(["", "writer", "reader"]),
        "wipe": st.booleans(),
        "lost_reply": st.booleans(),
    }
)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["classic", "owned"]), TROUBLES)
def test_reductions_agree_with_the_plain_search_on_any_bounds(protocol, bounds):
    space, plain = explore(protocol, PLAIN, **bounds)
    reduced_space, reduced = explore(protocol, **bounds)
    assert essence(reduced_space, reduced)[:2] == essence(space, plain)[:2]


def some_schedule_loses(protocol_of: ProtocolOf, bounds: Bounds, most_commands: int) -> bool:
    """Whether any schedule so short does, without tables, merged states or cut loops.

    Every schedule is a list of choices, carried out from the start by real machines.
    """
    space = Space(protocol_of, bounds, PLAIN)
    first, judge = space.stores[space.first], Judge(space.protocol)
    waiting: deque[tuple[tuple[int, bool], ...]] = deque([()])
    while waiting:
        choices = waiting.pop()
        run = Run(space.protocol, bounds, first)
        for process, over in choices:
            run.take(process, over)
        if run.commands > most_commands:
            continue
        if run.is_quiet() and judge.judge(run.finished_store()).is_bad:
            return True
        for process in range(bounds.writers + bounds.readers):
            waiting.extend((*choices, (process, over)) for over in run.ways(process))
    return False


class Run:
    """Real machines over one store: the oracle, as short as it can be."""

    def __init__(self, protocol, bounds, store):
        self.store, self.commands, self.takeovers = store, 0, bounds.takeovers
        self.machines = [protocol.vote(QUEUE, message_of(w)) for w in range(bounds.writers)]
        self.machines += [protocol.drain(QUEUE) for _ in range(bounds.readers)]
        self.asks = [next(machine) for machine in self.machines]
        self.begun = [False] * len(self.machines)
        self.results = [None] * len(self.machines)

    def ways(self, process: int) -> list[bool]:
        """Whether patience ends, for each way in which this process may go on."""
        if self.results[process] is not None:
            return []
        is_patience = isinstance(self.asks[process], Patience)
        return [False, True] if is_patience and self.takeovers else [False]

    def take(self, process: int, over: bool) -> None:
        """One step of the process."""
        command = self.asks[process]
        assert not isinstance(command, Pipeline)
        self.begun[process] = True
        if isinstance(command, Patience):
            self.takeovers -= over
            reply = Reply(Status.OVER if over else Status.OK)
        elif isinstance(command, Sleep):
            reply = Reply(Status.OK)
        else:
            self.commands += isinstance(command, MEMCACHED)
            self.store, reply = apply(self.store, command, process + 1)
        try:
            self.asks[process] = self.machines[process].send(reply)
        except StopIteration as finished:
            self.results[process] = finished.value

    def is_quiet(self) -> bool:
        pairs = zip(self.begun, self.results, strict=True)
        return all(result is not None or not begun for begun, result in pairs)

    def finished_store(self):
        kept = {w for w, r in enumerate(self.results) if r in (Receipt.QUEUED, Receipt.STORED)}
        return self.store._replace(acknowledged=frozenset(kept))


def test_a_search_of_all_schedules_with_real_machines_finds_the_same_shortest_loss():
    bounds = Bounds(writers=1, readers=1, takeovers=1)
    assert not some_schedule_loses(classic.protocol, bounds, most_commands=7)
    assert some_schedule_loses(classic.protocol, bounds, most_commands=8)


@pytest.mark.parametrize(("protocol", "bounds"), SMALL)
def test_real_machines_that_follow_the_schedule_ask_for_just_these_commands(protocol, bounds):
    space, finding = explore(protocol, **bounds)
    machines: dict[str, object] = {}
    for step in steps_of(space, finding):
        if step.actor is None or step.command is None or step.reply is None:
            continue
        name = step.actor.name
        if name not in machines:
            protocol_of = space.protocol
            started = (
                protocol_of.vote(QUEUE, message_of(step.actor.place))
                if step.actor.role == "writer"
                else protocol_of.drain(QUEUE)
            )
            machines[name] = [started, next(started)]
        machine, asked = machines[name]
        assert_same(asked, step.command)
        try:
            machines[name][1] = machine.send(step.reply)
        except StopIteration:
            machines[name][1] = None


def assert_same(asked: Command, told: Command) -> None:
    if hasattr(asked, "messages"):
        asked = asked._replace(messages=tuple(asked.messages))
    assert same_command(asked, told)
