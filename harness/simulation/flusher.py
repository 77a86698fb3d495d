"""The simulated flusher: the loop of `harness.flusher`, with an act where that one waits."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

from harness.flusher import FULL_LOAD, MOST_IN_A_ROW, RETRY_S
from harness.protocol.commands import Key, Machine
from harness.protocol.queue import Drained, DrainEnd, Queue
from harness.simulation.events import Act, Events
from harness.simulation.performer import Performer
from harness.simulation.process import Process
from harness.simulation.site import kept_totals

NS_PER_S: Final = 1_000_000_000


class SimulatedFlusher:
    """One process's drains."""

    def __init__(
        self,
        events: Events,
        performer: Performer,
        drain: Callable[[Queue], Machine[Drained]],
        queues: Sequence[Queue],
        totals_key: Key,
        *,
        interval_ns: int,
        limit_ns: int,
        ended: Act,
    ) -> None:
        """`limit_ns`: how long it may take to find the queues empty once told to finish."""
        self.empty = False
        """Whether the last drains found nothing."""
        self._events = events
        self._performer = performer
        self._drain = drain
        self._queues = queues
        self._totals_key = totals_key
        self._interval_ns = interval_ns
        self._limit_ns = limit_ns
        self._ended = ended
        self._due_ns = 0
        self._number = 0
        self._in_a_row = 0
        self._ends: set[DrainEnd] = set()
        self._finishing = self._idle = False
        self._give_up_ns = 0
        self._waits = count(1)
        self._awaited = 0

    @property
    def process(self) -> Process:
        return self._performer.process

    def leave_open(self) -> None:
        """Its process has died: what was under way stays open in the journal."""
        self._performer.leave_open()

    def has_sent(self, command: object) -> bool:
        """Whether this very command is under way to a server, for all that is known here."""
        lines = self._performer.lines
        return any(line.exchange is not None and line.exchange.command is command for line in lines)

    def start(self, turn: float) -> None:
        """The first drain after this share of the interval."""
        self._due_ns = self._events.now_ns + round(self._interval_ns * turn)
        self._wait(self._due_ns)

    def finish(self) -> None:
        """Drain until nothing is left, then call `ended`."""
        self._finishing = True
        self._give_up_ns = self._events.now_ns + self._limit_ns
        if self._idle:
            self._begin()

    def _wait(self, until_ns: int) -> None:
        """Begin a round then, unless something else has begun one before."""
        self._idle = True
        self._awaited = awaited = next(self._waits)

        def over() -> None:
            if self._idle and self._awaited == awaited:
                self._begin()

        self._events.at(max(until_ns, self._events.now_ns), over)

    def _begin(self) -> None:
        self._idle = False
        self._ends = set()
        self._number = self._in_a_row = 0
        self._drain_one()

    def _drain_one(self) -> None:
        queue = self._queues[self._number]
        self._performer.perform(self._drain(queue), self._drained, queue=self._number)

    def _drained(self, drained: Drained) -> None:
        self._ends.add(drained.end)
        self._in_a_row += 1
        full = drained.end is DrainEnd.COMMITTED and len(drained.messages) >= FULL_LOAD
        if not full or self._in_a_row == MOST_IN_A_ROW:
            self._number, self._in_a_row = self._number + 1, 0
        if self._number < len(self._queues):
            self._drain_one()
        elif DrainEnd.COMMITTED in self._ends or (self._finishing and self._found_nothing):
            self._performer.perform(kept_totals(self._totals_key), self._refreshed)
        else:
            self._refreshed(None)

    @property
    def _found_nothing(self) -> bool:
        return self._ends == {DrainEnd.EMPTY}

    def _refreshed(self, _nothing: None) -> None:
        """A round is over."""
        now_ns = self._events.now_ns
        if not self._finishing:
            self._due_ns = max(self._due_ns + self._interval_ns, now_ns)
            self._wait(self._due_ns)
        elif self._found_nothing or now_ns >= self._give_up_ns:
            self.empty = self._found_nothing
            self._ended()
        elif self._ends == {DrainEnd.COMMITTED}:
            self._begin()
        else:
            self._wait(now_ns + round(RETRY_S * NS_PER_S))
