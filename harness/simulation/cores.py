"""Processor cores, the threads that compete for them, and the lock of a Python interpreter.

Theory of operation
    A thread computes in *bursts*: from when it is woken until it waits for something again. With an
    idle core the burst starts once that core is awake; otherwise the thread stands in one queue
    for all cores. Who is woken does not push anybody off a core, but a burst longer than a slice is
    interrupted when others wait. What a burst brings about happens at its end.

    Threads of one Python process share a lock (GIL): who has it computes, the others queue up for
    it. It is let go with the end of the burst, because a burst ends in a system call that waits.

What it leaves out
    Caches, one run queue per core with its balancing, priorities, interrupts' own time, and the
    interpreter's switch interval: 5 ms, longer than any burst of ours that has rivals.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from harness.simulation.events import Events

SLICE_NS: Final = 3_000_000  # Linux: some 3 ms on small machines


class Gil:
    """The lock of one Python process; first come, first served."""

    __slots__ = ("_holder", "_waiting")

    def __init__(self) -> None:
        self._holder: Thread | None = None
        self._waiting: deque[Thread] = deque()

    def take(self, thread: "Thread") -> bool:
        """Whether the thread has it now; otherwise it is woken when its turn comes."""
        if self._holder is None:
            self._holder = thread
            return True
        self._waiting.append(thread)
        return False

    def let_go(self) -> None:
        """By its holder."""
        self._holder = waiting = self._waiting.popleft() if self._waiting else None
        if waiting is not None:
            waiting.cores.wake(waiting)


class Thread:
    """What computes. Subclasses say for how long, and what comes of it."""

    __slots__ = ("_gil", "cores", "ended", "left_ns")

    def __init__(self, cores: "Cores", gil: Gil | None = None) -> None:
        self.cores = cores
        self.left_ns = 0
        """Of a burst that was interrupted; 0: none was."""
        self._gil = gil
        self.ended = self._end  # bound once: this is the hot path of every burst

    def granted(self, start_ns: int) -> int:
        """It begins to compute on a core then; the length of its burst, in ns."""
        raise NotImplementedError

    def computed(self) -> int | None:
        """The burst is over; the length of the next one, or None: it waits for something."""
        raise NotImplementedError

    def wake(self) -> None:
        """There is something to compute."""
        gil = self._gil
        if gil is None or gil.take(self):
            self.cores.wake(self)

    def _end(self) -> None:
        cores = self.cores
        if self.left_ns:
            cores.interrupt(self)
            return
        burst_ns = self.computed()
        if burst_ns is not None:
            cores.go_on(self, burst_ns)
            return
        if self._gil is not None:
            self._gil.let_go()
        cores.release()


class Cores:
    """So many cores, and the queue of those who want one."""

    __slots__ = ("_at", "_idle", "_queue", "_switch_ns", "_wake_ns", "busy_ns", "events")

    def __init__(
        self, events: Events, number: int, wake_ns: Callable[[], int], switch_ns: int
    ) -> None:
        """`wake_ns` draws how long an idle core takes to begin, a busy one takes `switch_ns`."""
        self.events = events
        self.busy_ns = 0  # of all bursts that began, without awakenings and switches
        self._at = events.at
        self._idle = number
        self._wake_ns = wake_ns
        self._switch_ns = switch_ns
        self._queue: deque[Thread] = deque()

    def wake(self, thread: Thread) -> None:
        """Give it a core when there is one."""
        if self._idle:
            self._idle -= 1
            self._grant(thread, self.events.now_ns + self._wake_ns())
        else:
            self._queue.append(thread)

    def go_on(self, thread: Thread, burst_ns: int) -> None:
        """The thread, which has a core, computes on it for so long."""
        thread.left_ns = burst_ns
        self._grant(thread, self.events.now_ns)

    def release(self) -> None:
        """A core is free."""
        if self._queue:
            self._grant(self._queue.popleft(), self.events.now_ns + self._switch_ns)
        else:
            self._idle += 1

    def interrupt(self, thread: Thread) -> None:
        """Its slice is over: the others first, if there are any."""
        if self._queue:
            self._queue.append(thread)
            self.release()
        else:
            self._grant(thread, self.events.now_ns)

    def _grant(self, thread: Thread, start_ns: int) -> None:
        """It computes what is left of an interrupted burst, or a new one."""
        burst_ns = thread.left_ns
        if burst_ns:
            thread.left_ns = 0
        else:
            burst_ns = thread.granted(start_ns)
        if burst_ns > SLICE_NS:
            thread.left_ns = burst_ns - SLICE_NS
            burst_ns = SLICE_NS
        self.busy_ns += burst_ns
        self._at(start_ns + burst_ns, thread.ended)
