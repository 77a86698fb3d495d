"""`classic`: votes go into the post's queue on memcached; the flusher drains it.

Promise: none. Only when memcached cannot be reached at all do votes go to the database.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from harness.armed import ArmedPage
from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.database.ballots import Ballots, Delivery
from harness.errors import RecordingError
from harness.history.journal import ROOM, Journal, Role
from harness.history.recorder import note_recording_failed
from harness.modes.direct import ANSWERS
from harness.modes.mode import Answer, Totals
from harness.modes.polls import PollBook
from harness.modes.totals import cached_totals, totals_key
from harness.plan import Deployment, QueuePlan
from harness.protocol.classic import drain, enqueue
from harness.protocol.commands import Command, InsertBallots, Reply, Status
from harness.protocol.drive import drive
from harness.protocol.queue import NAP_NS, AfterPatience, Drained, Queue, Receipt
from harness.vote import Poll, Vote

ARMED_PAGE: Final = "armed.page"  # in a deployment's folder, when faults can be armed
MOST_NAPS: Final = 4096  # room kept for; each vote may waste as much at a segment's end
FOR_GOOD: Final = 0  # the flusher replaces totals; they need no lifetime


def queues(plan: QueuePlan) -> list[Queue]:
    """The plan's queues; the first has the bare prefix, as the post's Perl program uses it."""
    prefixes = [plan.prefix, *(f"{plan.prefix}-{n}" for n in range(1, plan.queues))]
    return [Queue.named(prefix) for prefix in prefixes]


def executor(
    deployment: Deployment, client: MetaClient, role: Role, journal: Journal | None
) -> MemcachedExecutor:
    """Hands for one thread, watching the armed page if there is one."""
    page = Path(deployment.folder) / ARMED_PAGE
    return MemcachedExecutor(
        [client],
        role,
        patience_ns=round(deployment.plan.queue.patience_s * 1e9),
        journal=journal,
        armed=ArmedPage(page) if page.exists() else None,
    )


class QueuedSession:
    """One thread's memcached client, and a database connection for the worst case."""

    def __init__(self, deployment: Deployment, journal: Journal | None) -> None:
        plan = deployment.plan
        self._journal = journal
        self._plan = plan.queue
        self._client = MetaClient(deployment.memcached[0], plan.memcached.timeout_s)
        self._execute = executor(deployment, self._client, Role.SITE, journal).execute
        self._queues = queues(plan.queue)
        # One record per nap at most, and those of the hold: a full disk is met before the first.
        naps = round(plan.queue.patience_s * 1e9 / NAP_NS)
        self._records = min(naps, MOST_NAPS) + ROOM
        self._after_patience = AfterPatience(plan.queue.after_patience)
        self._ballots = Ballots(deployment.database, plan.database.timeout_s, journal)
        self._polls = PollBook(self._ballots)

    def find_poll(self, name: str) -> Poll | None:
        return self._polls.find(name)

    def accept(self, vote: Vote) -> Answer:
        number = vote.vote_id % len(self._queues)
        if self._journal:
            self._journal.start_operation(number, self._records)
        take_over = self._after_patience is AfterPatience.TAKEOVER
        receipt = drive(
            enqueue(self._queues[number], [vote.to_message()], take_over=take_over), self._execute
        )
        if receipt is Receipt.QUEUED:
            return Answer.QUEUED
        if receipt is Receipt.UNKNOWN:
            return Answer.UNKNOWN
        if receipt is Receipt.OUT_OF_PATIENCE and self._after_patience is AfterPatience.REFUSE:
            return Answer.REFUSED
        return ANSWERS[self._ballots.insert(vote)]

    def totals(self, poll: Poll) -> Totals:
        key = totals_key(self._plan, poll.name)
        return cached_totals(self._client, self._ballots, key, poll, FOR_GOOD)

    def is_ready(self) -> bool:
        return self._ballots.is_reachable()

    def close(self) -> None:
        self._client.close()
        self._ballots.close()


class QueuedDrain:
    """The flusher's side of the queues: drains one, and counts its votes."""

    def __init__(self, deployment: Deployment, journal: Journal | None) -> None:
        plan = deployment.plan
        self._journal = journal
        self._folder = Path(deployment.folder)
        self.client = MetaClient(deployment.memcached[0], plan.memcached.timeout_s)
        self._executor = executor(deployment, self.client, Role.FLUSHER, journal)
        self.queues = queues(plan.queue)
        self.ballots = Ballots(deployment.database, plan.database.timeout_s, journal)
        self._batch_rows = plan.flusher.batch_rows

    def drain(self, number: int) -> Drained:
        """Drain the queue of that number, to the end of its transaction."""
        try:
            if self._journal:
                self._journal.start_operation(number)
        except RecordingError as error:
            self._stop_recording(error)
        return drive(drain(self.queues[number]), self._execute)

    def close(self) -> None:
        self.client.close()
        self.ballots.close()

    def _execute(self, command: Command) -> Reply:
        try:
            return self._perform(command)
        except RecordingError as error:
            # Raised before the command was sent. A drain broken off here would lose what it has
            # read, and that would be our doing, not the mode's: go on without a journal.
            self._stop_recording(error)
            return self._perform(command)

    def _stop_recording(self, error: RecordingError) -> None:
        note_recording_failed(self._folder, error)
        self._journal = None
        self._executor.stop_recording()
        self.ballots.stop_recording()

    def _perform(self, command: Command) -> Reply:
        if not isinstance(command, InsertBallots):
            return self._executor.execute(command)
        delivery = self.ballots.insert_batch(votes_in(command.messages), self._batch_rows)
        return Reply(Status.OK if delivery is Delivery.COUNTED else Status.LOST)


def votes_in(messages: Iterable[bytes]) -> list[Vote]:
    """The votes among the messages; whatever else lies in a slot is no vote of ours."""
    votes = []
    for message in messages:
        try:
            votes.append(Vote.from_message(message))
        except ValueError:
            continue
    return votes


class Classic:
    """Votes go into the blog post's queue."""

    name = "classic"
    promises = False
    queues = True

    def session(self, deployment: Deployment, journal: Journal | None) -> QueuedSession:
        return QueuedSession(deployment, journal)
