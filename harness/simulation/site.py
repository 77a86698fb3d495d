"""The simulated vote server: processes, each with an interpreter, and sessions lent to requests.

A session is a performer here: it is what computes. That a request is read, refused and answered by
a thread of its own costs what `Front` costs.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from harness.history.ledger import RequestKind
from harness.plan import Site
from harness.protocol.commands import Add, Get, Key, KeyKind, Machine, Set, Status
from harness.protocol.queue import Queue, Receipt, VotingProtocol
from harness.simulation.cores import Cores, Thread
from harness.simulation.daemons import COUNT
from harness.simulation.events import Act, Events
from harness.simulation.performer import Performer
from harness.simulation.process import Process
from harness.simulation.service_times import Draw
from harness.vote import Vote

STATUS_OF: Final = {
    Receipt.STORED: 201,
    Receipt.QUEUED: 202,
    Receipt.CONFLICT: 409,
    Receipt.ALREADY_VOTED: 409,
    Receipt.REFUSED: 503,
    Receipt.OUT_OF_PATIENCE: 503,
    Receipt.NO_MEMCACHED: 503,
    Receipt.UNKNOWN: 504,
}
"""HTTP status; as `modes.voting` and `site.votes` have it."""
PAGE: Final = 200
NO_PAGE: Final = 503  # the database does not say
OVERLOADED: Final = 503
TOTALS: Final = b"totals"  # their size makes no difference here
NS_PER_S: Final = 1_000_000_000
Told: TypeAlias = Callable[[int], None]


class Request(NamedTuple):
    """What a voter asks of the site; `told` gets the status of the answer."""

    kind: RequestKind
    vote: Vote | None
    told: Told
    broken: Act
    """Called instead when the process dies before it has answered."""


Refuse: TypeAlias = Callable[[Request], None]


class Front(Thread):
    """What a process does for each request outside its interpreter."""

    __slots__ = ("_each_ns", "_pass_on", "_requests")

    def __init__(self, cores: Cores, each_ns: Draw, pass_on: Callable[[Request], None]) -> None:
        super().__init__(cores)
        self._each_ns = each_ns
        self._pass_on = pass_on
        self._requests: deque[Request] = deque()

    def ask(self, request: Request) -> None:
        self._requests.append(request)
        if len(self._requests) == 1:
            self.wake()

    def granted(self, start_ns: int) -> int:  # noqa: ARG002
        return self._each_ns()

    def computed(self) -> int | None:
        self._pass_on(self._requests.popleft())
        return self._each_ns() if self._requests else None


class Work(NamedTuple):
    """What the threads of a site do."""

    protocol: VotingProtocol
    queues: list[Queue]
    totals_key: Key
    totals_life_s: int | None  # None: totals are counted for each page

    def vote(self, vote: Vote) -> tuple[Machine[Receipt], int]:
        """The machine for a vote, and the number of its queue."""
        number = vote.vote_id % len(self.queues)
        return self.protocol.vote(self.queues[number], vote.to_message()), number

    def page(self) -> Machine[int]:
        """A results page, as `modes.totals` makes it."""
        if self.totals_life_s is not None:
            found = yield Get(self.totals_key)
            if found.status is Status.OK:
                return PAGE
        counted = yield COUNT  # type: ignore[misc]  # not a protocol's command
        if counted.status is not Status.OK:
            return NO_PAGE
        if self.totals_life_s is not None:
            yield Add(self.totals_key, TOTALS, self.totals_life_s)
        return PAGE


def kept_totals(key: Key) -> Machine[None]:
    """The flusher's refreshing of the totals."""
    yield COUNT  # type: ignore[misc]  # not a protocol's command
    yield Set(key, TOTALS)


def totals_key(prefix: str, poll: str) -> Key:
    return Key(f"{prefix}-totals-{poll}", KeyKind.NONE)


class Waiting:
    """Requests that wait for a session in one process: first come, first served, none for ever."""

    def __init__(
        self, events: Events, most: int, limit_ns: int, process: Process, refuse: Refuse
    ) -> None:
        self._events = events
        self._most = most
        self._limit_ns = limit_ns
        self._process = process
        self._refuse = refuse
        self._requests: deque[tuple[int, Request]] = deque()  # with when each gives up
        self._watched = False  # whether `_expire` is due

    def add(self, request: Request) -> None:
        """At the end of the queue, or refused at once when it is full."""
        if len(self._requests) >= self._most:
            self._refuse(request)
            return
        gives_up_ns = self._events.now_ns + self._limit_ns
        self._requests.append((gives_up_ns, request))
        self._watch()

    def next(self) -> Request | None:
        return self._requests.popleft()[1] if self._requests else None

    def _watch(self) -> None:
        if self._requests and not self._watched:
            self._watched = True
            self._events.at(self._requests[0][0], self._expire)

    def _expire(self) -> None:
        """Refuse those who have waited too long, and look again when the next one will have."""
        if self._process.stopped:
            self._process.hold(self._expire)
            return
        if self._process.dead:
            return
        self._watched = False
        now_ns = self._events.now_ns
        while self._requests and self._requests[0][0] <= now_ns:
            self._refuse(self._requests.popleft()[1])
        self._watch()


class Worker:
    """One process of the site, and after its death the one that takes its place."""

    def __init__(
        self,
        events: Events,
        plan: Site,
        start: Callable[[], Process],
        work: Work,
        front: Callable[[Callable[[Request], None]], Front],
        threads: Callable[[Process], list[Performer]],
        python_ns: Draw,
        finished: Act,
    ) -> None:
        """`start`: a new process; `finished`: called whenever a request is through."""
        self._events = events
        self._plan = plan
        self._start = start
        self._work = work
        self._make_front = front
        self._make_threads = threads
        self._python_ns = python_ns
        self._finished = finished
        self._inside: dict[Request, None] = {}
        self.restart()

    @property
    def inside(self) -> int:
        """Requests that have arrived and are not answered."""
        return len(self._inside)

    def restart(self) -> None:
        """Begin anew in another process."""
        self.process = process = self._start()
        self.threads = tuple(self._make_threads(process))
        self._front = self._make_front(lambda request: self._take_in(process, request))
        self._idle = list(self.threads)
        self._waiting = Waiting(
            self._events,
            self._plan.waiting,
            round(self._plan.wait_s * NS_PER_S),
            process,
            self._refuse,
        )

    def die(self) -> None:
        """With it go all requests that are inside: their voters see a broken connection."""
        self.process.die()
        broken, self._inside = self._inside, {}
        for request in broken:
            request.broken()
        self._finished()

    def ask(self, request: Request) -> None:
        """A request arrives at the process."""
        if self.process.dead:
            request.broken()
            return
        self._inside[request] = None
        front = self._front
        if self.process.stopped:
            self.process.hold(lambda: front.ask(request))
        else:
            front.ask(request)

    def _take_in(self, process: Process, request: Request) -> None:
        if process.dead:
            return
        if self._idle:
            self._serve(self._idle.pop(), request)
        else:
            self._waiting.add(request)

    def _refuse(self, request: Request) -> None:
        del self._inside[request]
        request.told(OVERLOADED)
        self._finished()

    def _serve(self, thread: Performer, request: Request) -> None:
        if request.vote is None:
            machine, number = self._work.page(), 0
        else:
            machine, number = self._work.vote(request.vote)  # type: ignore[assignment]

        def done(result: Receipt | int) -> None:
            del self._inside[request]
            request.told(STATUS_OF[result] if isinstance(result, Receipt) else result)
            following = self._waiting.next()
            if following:
                self._serve(thread, following)
            else:
                self._idle.append(thread)
            self._finished()

        before_ns = self._python_ns()
        thread.perform(machine, done, queue=number, prologue_ns=before_ns)
