"""One process that votes, or drains, as often as it is ordered to: `python -m bench.writer SOCKET`.

It takes an order, makes ready, waits for the start, works, reports, and takes the next order, until
its connection ends. So a process is started once and measured many times, and no start is ever
inside a measured window.
"""

import os
import sys
import time
from array import array
from contextlib import closing
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Final

from bench.orders import Drained, Finish, Order, Ready, Start, Voted
from harness.history.journal import Journal, Role
from harness.modes.hands import Hands
from harness.modes.mode import find_mode
from harness.modes.protocol_mode import ProtocolMode
from harness.modes.queues import queues, terms
from harness.plan import Plan
from harness.protocol.commands import Command, Machine, Now, Patience, Reply, Result, Sleep, Status
from harness.protocol.drive import drive
from harness.protocol.queue import DrainEnd, Receipt, VotingProtocol
from harness.vote import Vote, mint

ACKNOWLEDGED: Final = (Receipt.QUEUED, Receipt.STORED)
NO_ROUND_TRIP: Final = (Now, Sleep, Patience)
RETRY_S: Final = 0.01  # between the last drains, if one failed
NS_PER_S: Final = 1_000_000_000


class CountingHands:
    """Hands that note what a machine has cost."""

    def __init__(self, hands: Hands) -> None:
        self._perform = hands.execute
        self.round_trips = 0
        self.impatient = 0  # times that patience ended

    def execute(self, command: Command) -> Reply:
        reply = self._perform(command)
        if type(command) not in NO_ROUND_TRIP:
            self.round_trips += 1
        elif reply.status is Status.OVER:
            self.impatient += 1
        return reply


class Worker:
    """One order's protocol and connections, in this process."""

    def __init__(self, order: Order, hands: Hands, journal: Journal | None) -> None:
        plan = order.deployment.plan
        self._poll = plan.poll.poll()
        self._queue = queues(plan)[0]
        self._protocol = protocol_of(order.deployment.mode, plan)
        self._journal = journal
        self._number = order.number
        self.hands = CountingHands(hands)

    def vote(self, number: int) -> Receipt:
        """Cast this process's vote of that number."""
        vote_id = mint(self._number, number)
        choice = 1 + number % len(self._poll.choices)
        vote = Vote(vote_id, self._poll.name, choice, f"v{vote_id:016x}")
        return self._run(self._protocol.vote(self._queue, vote.to_message()))

    def drain(self) -> tuple[DrainEnd, int]:
        """Drain once: how it ended, and the votes committed."""
        assert self._protocol.drain, "nothing is queued"
        drained = self._run(self._protocol.drain(self._queue))
        return drained.end, len(drained.messages) if drained.end is DrainEnd.COMMITTED else 0

    def _run(self, machine: Machine[Result]) -> Result:
        if self._journal:
            self._journal.start_operation(0)
        return drive(machine, self.hands.execute)


def main(path: str) -> int:
    with Client(path, family="AF_UNIX") as connection:
        connection.send(os.getpid())
        try:
            while True:
                obey(connection.recv(), connection)
        except EOFError:  # whoever gave the orders has ended, or has no more
            return 0


def protocol_of(mode: str, plan: Plan) -> VotingProtocol:
    """What a mode does with votes under a plan."""
    return find_mode(mode).protocol(terms(plan))


def obey(order: Order, connection: Connection) -> None:
    """Do what is ordered, to the report."""
    role = Role.SITE if order.number else Role.FLUSHER
    deployment = order.deployment
    journal = Journal(Path(deployment.folder), role) if order.journal else None
    mode = find_mode(deployment.mode)
    breakers = isinstance(mode, ProtocolMode) and mode.breakers
    daemons = mode.protocol(terms(deployment.plan)).daemons
    with closing(Hands(deployment, role, journal, breakers=breakers, daemons=daemons)) as hands:
        worker = Worker(order, hands, journal)
        for client in hands.clients:
            client.version()
        hands.ballots.is_reachable()
        first = worker.vote(0) if order.number else Receipt.QUEUED
        connection.send(Ready())
        start: Start = connection.recv()
        time.sleep(max(0, start.at_ns - time.monotonic_ns()) / NS_PER_S)
        if order.number:
            end_ns = start.at_ns + round(start.lasts_s * NS_PER_S)
            connection.send(vote_until(end_ns, worker, first))
        else:
            interval_s = deployment.plan.flusher.interval_s
            connection.send(drain_until_told(connection, worker, interval_s))


def vote_until(end_ns: int, worker: Worker, first: Receipt) -> Voted:
    """The next vote as soon as the last one is answered."""
    hands = worker.hands
    latencies_ns = array("q")
    not_acknowledged = [] if first in ACKNOWLEDGED else [0]
    in_time = takeovers = gave_up = 0
    votes = 1
    round_trips = hands.round_trips
    begin_cpu_s = time.process_time()
    begin_ns = time.monotonic_ns()
    while begin_ns < end_ns:
        impatient = hands.impatient
        receipt = worker.vote(votes)
        answered_ns = time.monotonic_ns()
        latencies_ns.append(answered_ns - begin_ns)
        if receipt not in ACKNOWLEDGED:
            not_acknowledged.append(votes)
        elif answered_ns <= end_ns:
            in_time += 1
        if hands.impatient > impatient:
            takeovers += receipt is Receipt.QUEUED
            gave_up += receipt is not Receipt.QUEUED
        votes += 1
        begin_ns = time.monotonic_ns()
    return Voted(
        votes=votes,
        not_acknowledged=tuple(not_acknowledged),
        in_time=in_time,
        latencies_ns=latencies_ns,
        round_trips=hands.round_trips - round_trips,
        takeovers=takeovers,
        gave_up=gave_up,
        cpu_s=time.process_time() - begin_cpu_s,
    )


def drain_until_told(connection: Connection, worker: Worker, interval_s: float) -> Drained:
    """A drain at each interval, as the flusher does; when told so, until nothing is left."""
    drains = votes = 0
    due_s = time.monotonic() + interval_s
    while not connection.poll(max(0.0, due_s - time.monotonic())):
        _, counted = worker.drain()
        drains, votes = drains + 1, votes + counted
        due_s = max(due_s + interval_s, time.monotonic())
    finish: Finish = connection.recv()
    give_up_s = time.monotonic() + finish.limit_s
    empty = False
    while not empty and time.monotonic() < give_up_s:
        end, counted = worker.drain()
        drains, votes = drains + 1, votes + counted
        empty = end is DrainEnd.EMPTY
        if end not in (DrainEnd.EMPTY, DrainEnd.COMMITTED):
            time.sleep(RETRY_S)
    return Drained(drains, votes, empty)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
