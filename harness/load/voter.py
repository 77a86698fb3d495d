"""The voter: a Locust user that takes the next arrival, waits for its time, sends, writes it down.

Locust's own HTTP clients cost some 100 µs a request, three quarters of them in sessions and
in the task loop. A voter has neither: the request is ready bytes, the socket a bare one, and one
task call takes arrivals until there are none. Locust's engine, statistics and web page remain.

Importing this module imports Locust, which patches the standard library for gevent.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from time import monotonic_ns
from typing import ClassVar, Final, NamedTuple

import gevent
import locust
from gevent.event import Event
from gevent.hub import Waiter
from locust.exception import ResponseError, StopUser

from harness.errors import RecordingError
from harness.history.ledger import Ledger, RequestKind, Trouble
from harness.load.answer import Nonsense
from harness.load.arrivals import NS_PER_S, Schedule
from harness.load.conduct import REVOTE, Conduct, conduct_at
from harness.load.connections import Connections, NotSent
from harness.load.request import Requests
from harness.plan import Voters
from harness.vote import Outcome, VoteId, recast, times_recast

CHUNK: Final = 4096  # arrivals turned from arrays to Python objects at a time: 1 MB, a millisecond
# Retries without a Retry-After wait as long as an impatient finger; with one, at most so long
# that a site which asks for an hour does not outlast the run.
RETRY_AFTER_S: Final = 0.1
MAX_RETRY_AFTER_S: Final = 5.0


class Arrival(NamedTuple):
    """One row of the schedule; `planned_ns` is absolute."""

    planned_ns: int
    kind: RequestKind
    vote: VoteId
    choice: int


class Ending(NamedTuple):
    """How an attempt ended."""

    outcome: Outcome
    status: int = 0
    trouble: Trouble = Trouble.NONE
    length: int = 0
    retry_after_s: float | None = None

    @property
    def may_retry(self) -> bool:
        return self.outcome is Outcome.UNKNOWN or self.status == 503


GIVEN_UP: Final = (Trouble.TIMED_OUT, Trouble.NOT_CONNECTED)
"""What a hasty voter's attempt ends in; the time may be over before there is a connection."""
STOPPED: Final = Ending(Outcome.UNKNOWN, trouble=Trouble.STOPPED)
REQUEST_KINDS: Final = {int(kind): kind for kind in RequestKind}


class Turnout:
    """A shard of the arrivals while it is being played by the users of this process."""

    def __init__(
        self,
        planned: Schedule,
        requests: Requests,
        connections: Connections,
        ledger: Ledger | None,
        voters: Voters,
        conducts: Sequence[Conduct] = (),
    ) -> None:
        self.requests = requests
        self.connections = connections
        self.voters = voters
        self.over = Event()
        """All arrivals have been answered, or nothing more is to be sent."""
        self.failure: RecordingError | None = None
        self.in_flight = 0  # attempts of either kind: sent, not answered yet
        self.sent = 0  # votes of the schedule of which at least one attempt left
        self.attempts = 0
        self.ended = 0  # attempts that are not under way any more
        self.met: Counter[int] = Counter()
        """By number of a fault: how many voters behaved as it says."""
        self._conducts = conducts
        self._planned = planned
        self._ledger = ledger
        self.unanswered = len(planned)
        self._arrivals: Iterator[Arrival] = iter(())
        self._next: Arrival | None = None
        self._free: dict[Waiter, None] = {}  # an ordered set: users who wait for an arrival
        self._loop = gevent.get_hub().loop
        self._timer = self._loop.timer(0.0)
        self.start_ns = 0

    def start(self, start_ns: int) -> None:
        """Second 0 of the plan is at `start_ns` of CLOCK_MONOTONIC, now or soon."""
        self.start_ns = start_ns
        self._arrivals = self._from(start_ns)
        self._next = next(self._arrivals, None)
        self._wake_when_due()
        if not self.unanswered:
            self.over.set()

    def take(self) -> tuple[Arrival, int]:
        """The arrival for a user who is free now, once it is due; since when (ns) it was free."""
        free_ns = monotonic_ns()
        if self._next and self._next.planned_ns <= free_ns:
            return self._draw(), free_ns
        place = Waiter()
        self._free[place] = None
        if not self._timer.active:
            self._wake_when_due()
        try:
            arrival: Arrival = place.get()
        except BaseException:
            self._free.pop(place, None)
            raise
        return arrival, free_ns

    def stop(self) -> None:
        """No more arrivals are sent."""
        self._next = None
        self.over.set()

    def fail(self, failure: RecordingError) -> None:
        """Nothing may be sent that cannot be recorded: no more arrivals."""
        self.failure = self.failure or failure
        self.stop()

    def answered(self) -> None:
        """One more arrival is through, whatever came of it."""
        self.unanswered -= 1
        if not self.unanswered:
            self.over.set()

    def _draw(self) -> Arrival:
        arrival = self._next
        assert arrival is not None
        self._next = next(self._arrivals, None)
        return arrival

    def _wake_when_due(self) -> None:
        if self._free and self._next:
            wait_ns = self._next.planned_ns - monotonic_ns()
            self._timer.close()
            self._timer = self._loop.timer(max(0, wait_ns) / NS_PER_S)
            self._timer.start(self._hand_out)

    def _hand_out(self) -> None:
        """Give all arrivals that are due to free users, the one last freed first: its memory is
        still in the cache. Runs in the hub."""
        while self._free and self._next and self._next.planned_ns <= monotonic_ns():
            place, _ = self._free.popitem()
            place.switch(self._draw())
        self._wake_when_due()

    def _from(self, start_ns: int) -> Iterator[Arrival]:
        planned = self._planned
        for first in range(0, len(planned), CHUNK):
            rows = slice(first, first + CHUNK)
            yield from map(
                Arrival,
                (planned.planned_ns[rows] + start_ns).tolist(),
                map(REQUEST_KINDS.__getitem__, planned.kind[rows].tolist()),
                planned.vote[rows].tolist(),
                planned.choice[rows].tolist(),
            )

    def conduct_of(self, arrival: Arrival) -> Conduct | None:
        """How its voter behaves, if otherwise than usual."""
        return conduct_at(self._conducts, arrival.planned_ns - self.start_ns)

    def attempt(
        self, arrival: Arrival, number: int, taken_ns: int, conduct: Conduct | None = None
    ) -> tuple[Ending, int]:
        """Send it once; how that ended, and when (ns). Whatever happens, the row is closed.

        Raises RecordingError, before anything is sent, when no row can be had.
        """
        planned_ns, kind, vote, choice = arrival
        is_vote = kind is RequestKind.VOTE
        requests = self.requests
        request = requests.vote(vote, choice) if is_vote else requests.results
        record = self._ledger and self._ledger.open(
            kind,
            vote,
            choice,
            number,
            planned_ns=planned_ns,
            taken_ns=taken_ns,
            sent_ns=monotonic_ns(),
        )
        self.attempts += 1
        self.sent += is_vote and number == 1 and not times_recast(vote)
        self.in_flight += 1
        ending = STOPPED
        try:
            ending = self._exchange(request, conduct)
        finally:
            answered_ns = monotonic_ns()
            self.in_flight -= 1
            self.ended += 1
            if record:
                record.close(answered_ns, ending.outcome, ending.status, ending.trouble)
        return ending, answered_ns

    def _exchange(self, request: bytes, conduct: Conduct | None) -> Ending:
        timeout_s, pause_s = self.voters.timeout_s, 0.0
        if conduct and conduct.is_hasty:
            timeout_s = min(timeout_s, conduct.delay_s)
        elif conduct:
            pause_s = conduct.delay_s
        timeout = gevent.Timeout(timeout_s)
        timeout.start()
        try:
            answer = self.connections.exchange(request, pause_s)
        except NotSent:
            return Ending(Outcome.REFUSED, trouble=Trouble.NOT_CONNECTED)
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise
            return Ending(Outcome.UNKNOWN, trouble=Trouble.TIMED_OUT)
        except Nonsense:
            return Ending(Outcome.UNKNOWN, trouble=Trouble.NONSENSE)
        except OSError:
            return Ending(Outcome.UNKNOWN, trouble=Trouble.BROKEN)
        finally:
            timeout.close()
        status = answer.status
        return Ending(
            self.requests.outcome_of(status),
            status,
            Trouble.NONE,
            answer.length,
            answer.retry_after_s,
        )


class Voter(locust.User):
    """Plays arrivals of the current turnout, one after the other, until it is stopped."""

    abstract = True
    turnout: ClassVar[Turnout | None] = None

    @locust.task
    def take_arrivals(self) -> None:
        turnout = self.turnout
        if not turnout:
            raise StopUser  # a user too late for the load
        try:
            while not turnout.failure:
                arrival, free_ns = turnout.take()
                self._play(turnout, arrival, free_ns)
        except RecordingError as failure:
            turnout.fail(failure)
        raise StopUser

    def _play(self, turnout: Turnout, arrival: Arrival, taken_ns: int) -> None:
        """Send it, and send it again as often as the plan has retries.

        A hasty voter gives up her first attempt early, and then has one more beside the retries.
        """
        conduct = turnout.conduct_of(arrival)
        if conduct and conduct.is_hasty and arrival.kind is not RequestKind.VOTE:
            conduct = None
        if conduct and not conduct.is_hasty:
            turnout.met[conduct.number] += 1
        number, retries = 1, turnout.voters.retries
        while True:  # each time round takes a retry, or the one haste
            ending, answered_ns = turnout.attempt(arrival, number, taken_ns, conduct)
            self._tell_locust(turnout, arrival, ending, answered_ns)
            hasty = conduct is not None and conduct.is_hasty
            wait_s = min(ending.retry_after_s or RETRY_AFTER_S, MAX_RETRY_AFTER_S)
            if conduct and hasty and ending.trouble in GIVEN_UP:
                turnout.met[conduct.number] += 1
                if conduct.kind == REVOTE:
                    arrival, number = arrival._replace(vote=recast(arrival.vote)), 0
            elif arrival.kind is RequestKind.VOTE and ending.may_retry and retries:
                retries -= 1
            else:
                break
            conduct = None if hasty else conduct
            number += 1
            taken_ns = answered_ns + int(wait_s * NS_PER_S)
            gevent.sleep(wait_s)
        turnout.answered()

    def _tell_locust(
        self, turnout: Turnout, arrival: Arrival, ending: Ending, answered_ns: int
    ) -> None:
        """Locust's own statistics: response times count from the planned time."""
        is_vote = arrival.kind is RequestKind.VOTE
        requests = turnout.requests
        failed = ending.outcome is not Outcome.ACKNOWLEDGED
        self.environment.events.request.fire(
            request_type="POST" if is_vote else "GET",
            name=requests.votes_path if is_vote else requests.results_path,
            response_time=(answered_ns - arrival.planned_ns) / 1e6,
            response_length=ending.length,
            exception=ResponseError(_description(ending)) if failed else None,
            context={},
        )


def _description(ending: Ending) -> str:
    what = f"HTTP {ending.status}" if ending.status else ending.trouble.name.lower()
    return f"{ending.outcome.name.lower()}: {what}".replace("_", " ")
