"""The voters: they come as planned, wait for their answers, and come again as the plan has it.

What `load.voter` does on real sockets, in virtual time. Voters have cores of their own and take no
time for themselves, except that they wake up late.
"""

from collections import Counter, deque
from collections.abc import Sequence
from random import Random
from typing import Final

from harness.history.ledger import RequestKind, Trouble
from harness.load.answer import outcome_of
from harness.load.arrivals import NS_PER_S, Schedule, users_needed
from harness.load.conduct import REVOTE, Conduct, conduct_at
from harness.plan import PollPlan, Voters
from harness.simulation.events import Act, Events
from harness.simulation.records import Records
from harness.simulation.service_times import Draw
from harness.simulation.site import Request, Worker
from harness.vote import Outcome, Vote, VoteId, recast, voter_of

RETRY_AFTER_S: Final = {503: 1.0}  # what the site says
IMPATIENT_S: Final = 0.1  # where it says nothing
GIVEN_UP: Final = (Trouble.TIMED_OUT, Trouble.NOT_CONNECTED)
KINDS: Final = {int(kind): kind for kind in RequestKind}


class Attempt:
    """One request under way."""

    __slots__ = (
        "answered",
        "conduct",
        "crowd",
        "number",
        "planned_ns",
        "retries",
        "row",
        "sent_ns",
        "taken_ns",
        "vote",
        "worker",
    )

    def __init__(
        self, crowd: "Crowd", row: int, number: int, planned_ns: int, taken_ns: int
    ) -> None:
        self.crowd = crowd
        self.row = row
        self.number = number
        self.planned_ns = planned_ns
        self.taken_ns = taken_ns
        self.vote = 0
        self.retries = 0
        """How often it may be sent again."""
        self.conduct: Conduct | None = None
        self.sent_ns = 0
        self.worker = 0
        self.answered = False

    def told(self, status: int) -> None:
        """The answer has arrived; maybe too late."""
        if not self.answered:
            self.crowd.end(self, outcome_of(status), status, Trouble.NONE)

    def broken(self) -> None:
        """The connection ended before the answer came."""
        if not self.answered:
            self.crowd.end(self, Outcome.UNKNOWN, 0, Trouble.BROKEN)

    def give_up(self) -> None:
        """Its voter will not wait any longer."""
        if not self.answered:
            self.crowd.end(self, Outcome.UNKNOWN, 0, Trouble.TIMED_OUT)

    def again(self, wait_ns: int) -> "Attempt":
        """The next one of the same voter with the same vote."""
        now_ns = self.crowd.now_ns
        attempt = Attempt(self.crowd, self.row, self.number + 1, self.planned_ns, now_ns + wait_ns)
        attempt.vote, attempt.retries = self.vote, self.retries
        return attempt

    def send(self) -> None:
        self.crowd.send(self)


class Crowd:
    """The voters of one generator."""

    def __init__(
        self,
        events: Events,
        planned: Schedule,
        generator: int,
        poll: PollPlan,
        voters: Voters,
        workers: list[Worker],
        records: Records,
        wake_lag_ns: Draw,
        way_ns: Draw,
        random: Random,
        over: Act,
        conducts: Sequence[Conduct] = (),
    ) -> None:
        """`conducts`: when voters behave otherwise; of slow readers nothing is simulated."""
        self.in_flight = 0
        self.met: Counter[int] = Counter()
        """By number of a fault: how many voters behaved as it says."""
        self._conducts = [conduct for conduct in conducts if conduct.is_hasty]
        self._events = events
        self._planned = planned
        self._generator = generator
        self._poll, self._once = poll.name, poll.once
        self._voters = voters
        self._workers = workers
        self._records = records
        self._wake_lag_ns = wake_lag_ns
        self._way_ns = way_ns
        self._random = random
        self._over = over
        self._timeout_ns = round(voters.timeout_s * NS_PER_S)
        self._free_ns: list[int] = []
        self._kept_alive: list[int] = []  # workers of connections that are idle
        self._under_way: deque[Attempt] = deque()  # by their time-out
        self._watched = False
        self._next = 0
        self._unanswered = len(planned)
        self._start_ns = 0
        self._times: list[int] = []
        self._kinds: list[int] = []
        self._votes: list[int] = []
        self._choices: list[int] = []
        self._waiting = False  # the next arrival waits for a free voter

    @property
    def now_ns(self) -> int:
        return self._events.now_ns

    @property
    def planned_votes(self) -> int:
        return self._planned.votes

    def start(self, start_ns: int) -> None:
        """Second 0 of the plan is then."""
        self._start_ns = start_ns
        self._free_ns = [self._events.now_ns] * users_needed(self._planned, self._voters)
        self._times = self._planned.planned_ns.tolist()
        self._kinds = self._planned.kind.tolist()
        self._votes = self._planned.vote.tolist()
        self._choices = self._planned.choice.tolist()
        if self._unanswered:
            self._await_next()
        else:
            self._over()

    def _await_next(self) -> None:
        due_ns = self._start_ns + self._times[self._next]
        self._events.at(max(due_ns, self._events.now_ns), self._due)

    def _due(self) -> None:
        """The next arrival has come; the voter last freed takes it."""
        if not self._free_ns:
            self._waiting = True
            return
        row, self._next = self._next, self._next + 1
        planned_ns = self._start_ns + self._times[row]
        attempt = Attempt(self, row, 1, planned_ns, self._free_ns.pop())
        attempt.vote, attempt.retries = self._votes[row], self._voters.retries
        if self._conducts and self._kinds[row] == RequestKind.VOTE:
            attempt.conduct = conduct_at(self._conducts, self._times[row])
        self._events.at(self._events.now_ns + self._wake_lag_ns(), attempt.send)
        if self._next < len(self._times):
            self._await_next()

    def _name_of(self, vote_id: VoteId) -> str:
        return voter_of(vote_id, self._voters.votes_each, self._voters.generators)

    def send(self, attempt: Attempt) -> None:
        now_ns = attempt.sent_ns = self._events.now_ns
        self.in_flight += 1
        self._under_way.append(attempt)
        if not self._watched:
            self._watch(now_ns + self._timeout_ns)
        if attempt.conduct:
            self._events.at(now_ns + round(attempt.conduct.delay_s * NS_PER_S), attempt.give_up)
        row = attempt.row
        vote = None
        if self._kinds[row] == RequestKind.VOTE:
            vote_id = VoteId(attempt.vote)
            vote = Vote(vote_id, self._poll, self._choices[row], self._name_of(vote_id), self._once)
        if not self._choose(attempt):
            self.end(attempt, Outcome.REFUSED, 0, Trouble.NOT_CONNECTED)
            return
        request = Request(KINDS[self._kinds[row]], vote, attempt.told, attempt.broken)
        worker = self._workers[attempt.worker]
        self._events.at(now_ns + self._way_ns(), lambda: worker.ask(request))

    def _choose(self, attempt: Attempt) -> bool:
        """A process of the site that takes the connection; all listen on one port."""
        workers = self._workers
        if self._voters.keep_alive and self._kept_alive:
            attempt.worker = self._kept_alive.pop()
        else:
            attempt.worker = self._random.randrange(len(workers))
        if workers[attempt.worker].process.dead:
            alive = [n for n, worker in enumerate(workers) if not worker.process.dead]
            if not alive:
                return False
            attempt.worker = self._random.choice(alive)
        return True

    def end(self, attempt: Attempt, outcome: Outcome, status: int, trouble: Trouble) -> None:
        """The attempt is over: write it down, come again, or be free."""
        attempt.answered = True
        now_ns = self._events.now_ns
        self.in_flight -= 1
        row = attempt.row
        kind = KINDS[self._kinds[row]]
        self._records.attempt(
            attempt.vote, attempt.planned_ns, attempt.taken_ns, attempt.sent_ns, now_ns,
            outcome, kind, self._choices[row], status, attempt.number, self._generator, trouble,
        )  # fmt: skip
        if trouble is Trouble.NONE:
            self._kept_alive.append(attempt.worker)
        wait_ns = round(RETRY_AFTER_S.get(status, IMPATIENT_S) * NS_PER_S)
        again = self._next_of(attempt, outcome, status, trouble, wait_ns)
        if again is not None:
            self._events.at(now_ns + wait_ns + self._wake_lag_ns(), again.send)
            return
        self._free_ns.append(now_ns)
        self._unanswered -= 1
        if self._waiting:
            self._waiting = False
            self._due()
        if not self._unanswered:
            self._over()

    def _next_of(
        self, attempt: Attempt, outcome: Outcome, status: int, trouble: Trouble, wait_ns: int
    ) -> Attempt | None:
        """What the voter sends next, if she does: as `load.voter` has it."""
        conduct = attempt.conduct
        if conduct and trouble in GIVEN_UP:
            self.met[conduct.number] += 1
            again = attempt.again(wait_ns)
            if conduct.kind == REVOTE:
                again.vote, again.number = recast(VoteId(attempt.vote)), 1
            return again
        is_vote = self._kinds[attempt.row] == RequestKind.VOTE
        if is_vote and attempt.retries and (outcome is Outcome.UNKNOWN or status == 503):
            again = attempt.again(wait_ns)
            again.retries -= 1
            return again
        return None

    def _watch(self, until_ns: int) -> None:
        self._watched = True
        self._events.at(until_ns, self._time_out)

    def _time_out(self) -> None:
        """End what has lasted too long; time-outs strike in the order in which was sent."""
        self._watched = False
        under_way, now_ns = self._under_way, self._events.now_ns
        while under_way and (
            under_way[0].answered or under_way[0].sent_ns + self._timeout_ns <= now_ns
        ):
            attempt = under_way.popleft()
            if not attempt.answered:
                self.end(attempt, Outcome.UNKNOWN, 0, Trouble.TIMED_OUT)
        if under_way and not self._watched:
            self._watch(under_way[0].sent_ns + self._timeout_ns)
