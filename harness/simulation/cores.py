"""Processor cores, the threads that compete for them, and the lock of a Python interpreter.

Theory of operation
    A thread computes in *bursts*: from when it is woken until it waits for something again. If its
    last core is idle, or else any, the burst starts once that core is awake; otherwise the thread
    stands in the queue of its last core. It stays there, even if another core becomes idle: the
    kernel fetches nobody to a core that has been idle for less than half a millisecond, and here
    hardly any is for longer. Who is woken does not push anybody off a core, but a burst longer than
    a slice is interrupted when others wait. What a burst brings about happens at its end.

    Somebody who is asked by a thread that then waits for the answer goes to the front of the queue:
    the kernel takes it for the next one on the asker's core (a *sync* wake-up, as all of those by
    local sockets are). Answers put nobody in front, because who answers has more to do.

    Threads of one Python process share a lock (GIL): who has it computes, the others queue up for
    it. It is let go with the end of the burst, because a burst ends in a system call that waits.

What it leaves out
    Caches, the kernel's balancing of queues every few milliseconds, priorities and shares,
    interrupts' own time, and the interpreter's switch interval: 5 ms, longer than any burst of ours
    that has rivals.
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

    __slots__ = ("_gil", "core", "cores", "ended", "left_ns")

    def __init__(self, cores: "Cores", gil: Gil | None = None) -> None:
        self.cores = cores
        self.core = cores.deal()
        """The one that it computed on last."""
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
        cores.release(self.core)


class Cores:
    """So many cores, each with the queue of those who want it."""

    __slots__ = ("_at", "_dealt", "_idle", "_queues", "_switch_ns", "_wake_ns", "busy_ns", "events")

    def __init__(
        self, events: Events, number: int, wake_ns: Callable[[], int], switch_ns: int
    ) -> None:
        """`wake_ns` draws how long an idle core takes to begin, a busy one takes `switch_ns`."""
        self.events = events
        self.busy_ns = 0  # of all bursts that began, without awakenings and switches
        self._at = events.at
        self._idle = dict.fromkeys(range(number))  # an ordered set
        self._wake_ns = wake_ns
        self._switch_ns = switch_ns
        self._queues: list[deque[Thread]] = [deque() for _ in range(number)]
        self._dealt = 0

    def deal(self) -> int:
        """A core for a new thread: all in turn."""
        self._dealt += 1
        return self._dealt % len(self._queues)

    def wake(self, thread: Thread) -> None:
        """Give it a core when there is one."""
        idle = self._idle
        if idle:
            if thread.core in idle:
                del idle[thread.core]
            else:
                thread.core, _ = idle.popitem()
            self._grant(thread, self.events.now_ns + self._wake_ns())
        else:
            self._queues[thread.core].append(thread)

    def wake_next(self, thread: Thread) -> None:
        """The same, before all who wait: it was asked by one who now waits himself."""
        if self._idle:
            self.wake(thread)
        else:
            self._queues[thread.core].appendleft(thread)

    def go_on(self, thread: Thread, burst_ns: int) -> None:
        """The thread, which has a core, computes on it for so long."""
        thread.left_ns = burst_ns
        self._grant(thread, self.events.now_ns)

    def release(self, core: int) -> None:
        """The core is free."""
        queue = self._queues[core]
        if queue:
            self._grant(queue.popleft(), self.events.now_ns + self._switch_ns)
        else:
            self._idle[core] = None

    def interrupt(self, thread: Thread) -> None:
        """Its slice is over: the others first, if there are any."""
        queue = self._queues[thread.core]
        if queue:
            queue.append(thread)
            self.release(thread.core)
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
