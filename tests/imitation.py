"""A small world in virtual time in which the real protocol generators run.

It imitates one site (a pool of threads), one flusher, one memcached and one database well
enough that its ledger, journal and ballots look like those of a real run. It measures nothing.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from harness.history.journal import Role
from harness.history.ledger import RequestKind, Trouble
from harness.plan import Plan
from harness.protocol.classic import drain, enqueue
from harness.protocol.commands import (
    COMMAND_CODES,
    Command,
    Get,
    Incr,
    InsertBallots,
    Key,
    KeyKind,
    Patience,
    Reply,
    Set,
    Sleep,
    Status,
)
from harness.protocol.queue import AfterPatience, Queue, Receipt
from harness.result import FaultRecord
from harness.vote import Outcome, Vote, mint

THREADS = 32
THREADS_PER_PROCESS = 16
ROUND_TRIP_NS = 60_000
COMMIT_NS = 900_000
PAUSE_NS = 1_200_000_000
QUEUE = Queue.named("poll-queue")


class Arrival(NamedTuple):
    planned_ns: int  # after the load's start
    kind: RequestKind


class Worker(NamedTuple):
    """One thread of a process, as the journal names it."""

    pid: int
    thread: int
    role: Role


def spike_arrivals(plan: Plan, seed: int) -> list[Arrival]:
    """Poisson arrivals under the plan's spike, by thinning; results pages among them."""
    rng = random.Random(seed)
    curve = plan.arrivals

    def rate_per_s(at_s: float) -> float:
        if at_s < curve.starts_s:
            return curve.trickle_per_s
        if at_s < curve.peak_at_s:
            share = 2.718281828 ** ((at_s - curve.peak_at_s) / curve.rise_s)
        else:
            share = 2.718281828 ** ((curve.peak_at_s - at_s) / curve.decay_s)
        return curve.trickle_per_s + (curve.peak_per_s - curve.trickle_per_s) * share

    at_s, arrivals = 0.0, [Arrival(0, RequestKind.VOTE)] * 12  # at once, on a cold cache
    while (at_s := at_s + rng.expovariate(curve.peak_per_s)) < plan.duration_s:
        if rng.random() * curve.peak_per_s < rate_per_s(at_s):
            kind = (
                RequestKind.RESULTS if rng.random() < curve.results_per_vote else RequestKind.VOTE
            )
            arrivals.append(Arrival(round(at_s * 1e9), kind))
    return arrivals


class Imitation:
    """`run` it once; then read `ledger`, `journal`, `ballots` and `faults`."""

    def __init__(
        self,
        mode: str,
        plan: Plan,
        arrivals: list[Arrival],
        seed: int,
        *,
        start_ns: int,
        generator: int,
    ) -> None:
        self.mode, self.plan, self.arrivals = mode, plan, arrivals
        self.rng = random.Random(seed)
        self.start_ns, self.generator = start_ns, generator
        self.ledger: list[dict[str, Any]] = []
        self.journal: list[dict[str, Any]] = []
        self.ballots: dict[int, dict[str, Any]] = {}
        self.faults: list[FaultRecord] = []
        self.votes = 0
        self._store: dict[str, tuple[bytes, int]] = {}  # key → value, cas
        self._cas = itertools.count(1)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._ties = itertools.count()
        self._operations: dict[Worker, int] = {}
        self._free = deque(
            Worker(4001 + n // THREADS_PER_PROCESS, n % THREADS_PER_PROCESS, Role.SITE)
            for n in range(THREADS)
        )
        self._draining = False
        self._waiting: deque[Callable[[Worker], None]] = deque()
        self._now = start_ns
        self._pauses = [
            start_ns + round(f.at_s * 1e9) for f in plan.faults if f.kind == "pause" and self.queued
        ]

    @property
    def queued(self) -> bool:
        return self.mode == "classic"

    def run(self) -> None:
        for number, arrival in enumerate(self.arrivals):
            self._at(self.start_ns + arrival.planned_ns, lambda n=number: self._arrive(n))
        if self.queued:
            interval_ns = round(self.plan.flusher.interval_s * 1e9)
            for round_number in range(1, int(self.plan.duration_s * 1e9) // interval_ns + 12):
                self._at(self.start_ns + round_number * interval_ns, self._flush)
        while self._events:
            self._now, _, action = heapq.heappop(self._events)
            action()
        self.ledger.sort(key=lambda row: row["planned_ns"])

    def _at(self, when_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_ns, next(self._ties), action))

    # The voter.

    def _arrive(self, number: int) -> None:
        arrival = self.arrivals[number]
        row = self._ledger_row(arrival)
        if arrival.kind is RequestKind.RESULTS:
            row["vote"] = number
            spent_ns = round(self.rng.gammavariate(3, 300_000))
            self._at(row["sent_ns"] + spent_ns, lambda: self._answer(row, 200))
            return
        vote = Vote(
            mint(self.generator, self.votes), self.plan.poll.name, row["choice"], f"v{self.votes}"
        )
        self.votes += 1
        row["vote"] = vote.vote_id

        def serve(worker: Worker) -> None:
            def leave(receipt: Receipt) -> None:
                self._free.append(worker)
                if self._waiting:
                    self._waiting.popleft()(self._free.popleft())
                status = 202 if receipt is Receipt.QUEUED and self.queued else 201
                self._answer(row, status)

            self._start(worker, self._machine(vote), leave)

        def enter() -> None:
            if self._free:
                serve(self._free.popleft())
            else:
                self._waiting.append(serve)

        self._at(row["sent_ns"] + 150_000, enter)

    def _machine(self, vote: Vote) -> Generator[Command, Reply, Receipt]:
        if self.queued:
            take_over = AfterPatience(self.plan.queue.after_patience) is AfterPatience.TAKEOVER
            return enqueue(QUEUE, [vote.to_message()], take_over=take_over)
        return self._insert(vote)

    def _insert(self, vote: Vote) -> Generator[Command, Reply, Receipt]:
        yield InsertBallots([vote.to_message()])
        return Receipt.QUEUED

    def _ledger_row(self, arrival: Arrival) -> dict[str, Any]:
        planned_ns = self.start_ns + arrival.planned_ns
        woke_ns = planned_ns + round(self.rng.expovariate(1 / 400_000))
        return {
            "planned_ns": planned_ns,
            "taken_ns": planned_ns - 1_000_000,
            "sent_ns": woke_ns,
            "answered_ns": 0,
            "outcome": Outcome.UNKNOWN,
            "kind": arrival.kind,
            "choice": self.rng.choices((1, 2, 3), (5, 4, 2))[0],
            "status": 0,
            "attempt": 1,
            "generator": self.generator,
            "error": Trouble.NONE,
        }

    def _answer(self, row: dict[str, Any], status: int) -> None:
        timeout_ns = round(self.plan.voters.timeout_s * 1e9)
        late = self._now - row["sent_ns"] > timeout_ns
        row["answered_ns"] = row["sent_ns"] + timeout_ns if late else self._now + 150_000
        row["outcome"] = Outcome.UNKNOWN if late else Outcome.ACKNOWLEDGED
        row["status"] = 0 if late else status
        row["error"] = Trouble.TIMED_OUT if late else Trouble.NONE
        self.ledger.append(row)

    # The flusher.

    def _flush(self) -> None:
        if self._draining:
            return
        self._draining = True

        def finish(_drained: object) -> None:
            self._draining = False

        self._start(Worker(4100, 0, Role.FLUSHER), drain(QUEUE), finish)

    # Machines and their commands.

    def _start(self, worker: Worker, machine: Any, done: Callable[[Any], None]) -> None:
        operation = self._operations[worker] = self._operations.get(worker, 0) + 1

        def proceed(reply: Reply | None) -> None:
            try:
                command = next(machine) if reply is None else machine.send(reply)
            except StopIteration as finished:
                done(finished.value)
                return
            self._at(self._now + self._stall(worker, command), lambda: send(command))

        def send(command: Command) -> None:
            record = self._record(worker, operation, command)
            self.journal.append(record)
            spent_ns = self._spent_ns(command)

            def apply() -> None:
                reply = self._apply(command, spent_ns)
                ended_ns = record["begin_ns"] + spent_ns
                seen = Vote.from_message(reply.value).vote_id if _is_vote(command, reply) else 0
                record.update(end_ns=ended_ns, number=reply.number, cas=reply.cas)
                record.update(status=reply.status, vote=seen or record["vote"])
                self._at(ended_ns, lambda: proceed(reply))

            self._at(self._now + spent_ns // 2, apply)

        proceed(None)

    def _stall(self, worker: Worker, command: Command) -> int:
        """The first holder to come to its slot after the planned time stands still there."""
        at_the_slot = isinstance(command, Set) and command.key.kind is KeyKind.SLOT
        if not (self._pauses and at_the_slot and self._now >= self._pauses[0]):
            return 0
        del self._pauses[0]
        start_s = (self._now - self.start_ns) / 1e9
        self.faults.append(
            FaultRecord(
                kind="pause",
                target="lock-holder",
                start_s=start_s,
                end_s=start_s + PAUSE_NS / 1e9,
                hit=True,
                detail=f"process {worker.pid} before its slot",
            )
        )
        return PAUSE_NS

    def _spent_ns(self, command: Command) -> int:
        if isinstance(command, Sleep):
            return command.duration_ns + round(self.rng.expovariate(1 / 60_000))
        if isinstance(command, Patience):
            return 200
        if isinstance(command, InsertBallots):
            return COMMIT_NS + 12_000 * len(command.messages)
        return ROUND_TRIP_NS + round(self.rng.expovariate(1 / 20_000))

    def _record(self, worker: Worker, operation: int, command: Command) -> dict[str, Any]:
        key: Key = getattr(command, "key", Key("", KeyKind.NONE))
        vote = 0
        if isinstance(command, Set) and key.kind is KeyKind.SLOT:
            vote = Vote.from_message(command.value).vote_id
        if isinstance(command, InsertBallots) and worker.role is Role.SITE:
            vote = Vote.from_message(command.messages[0]).vote_id
        return {
            "begin_ns": self._now,
            "end_ns": 0,
            "vote": vote,
            "number": 0,
            "cas": 0,
            "slot": key.slot,
            "pid": worker.pid,
            "operation": operation,
            "thread": worker.thread,
            "queue": 0,
            "daemon": 0,
            "role": worker.role,
            "command": COMMAND_CODES[type(command)],
            "key": key.kind,
            "status": Status.LOST,
        }

    def _apply(self, command: Command, spent_ns: int) -> Reply:
        if isinstance(command, Sleep):
            return Reply(Status.OK, spent_ns)
        if isinstance(command, Patience):
            patient = command.slept_ns < self.plan.queue.patience_s * 1e9
            return Reply(Status.OK if patient else Status.OVER)
        if isinstance(command, InsertBallots):
            for message in command.messages:
                self._deliver(Vote.from_message(message))
            return Reply(Status.OK, len(command.messages))
        name = command.key.name
        if isinstance(command, Set):
            self._store[name] = (command.value, next(self._cas))
            return Reply(Status.OK, cas=self._store[name][1])
        if name not in self._store:
            return Reply(Status.MISSING)
        value, cas = self._store[name]
        if isinstance(command, Get):
            return Reply(Status.OK, int(value) if value.isdigit() else 0, value, cas)
        assert isinstance(command, Incr)
        self._store[name] = (b"%d" % (int(value) + 1), next(self._cas))
        return Reply(Status.OK, int(value) + 1, cas=self._store[name][1])

    def _deliver(self, vote: Vote) -> None:
        row = self.ballots.setdefault(
            vote.vote_id,
            {
                "vote": vote.vote_id,
                "poll": vote.poll,
                "choice": vote.choice,
                "voter": vote.voter,
                "deliveries": 0,
            },
        )
        row["deliveries"] += 1


def _is_vote(command: Command, reply: Reply) -> bool:
    return isinstance(command, Get) and command.key.kind is KeyKind.SLOT and bool(reply.value)
