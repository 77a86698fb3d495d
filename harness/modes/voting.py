"""The site's side of every mode: a vote in, an answer out, and the totals."""

from typing import Final

from harness.deployment import Deployment
from harness.history.journal import ROOM, Journal, Role
from harness.modes.hands import Hands, calculation_s
from harness.modes.mode import Answer, Totals
from harness.modes.polls import PollBook, polls_in
from harness.modes.queues import NS_PER_S, queues
from harness.modes.totals import KeptTotals
from harness.protocol.drive import drive
from harness.protocol.queue import NAP_NS, Receipt, VotingProtocol
from harness.vote import Poll, Vote

MOST_NAPS: Final = 4096  # room kept for; each vote may waste as much at a segment's end
ANSWERS: Final = {
    Receipt.QUEUED: Answer.QUEUED,
    Receipt.STORED: Answer.STORED,
    Receipt.CONFLICT: Answer.CONFLICT,
    Receipt.ALREADY_VOTED: Answer.ALREADY_VOTED,
    Receipt.REFUSED: Answer.REFUSED,
    Receipt.UNKNOWN: Answer.UNKNOWN,
    # Not queued, and the protocol knew of no other place for the vote.
    Receipt.OUT_OF_PATIENCE: Answer.REFUSED,
    Receipt.NO_MEMCACHED: Answer.REFUSED,
}


class VotingSession:
    """One session's hands, and the protocol that they follow."""

    def __init__(
        self,
        protocol: VotingProtocol,
        deployment: Deployment,
        journal: Journal | None,
        *,
        totals_life_s: int | None,
        breakers: bool,
    ) -> None:
        plan = deployment.plan
        self._vote = protocol.vote
        self._journal = journal
        self._totals_life_s = totals_life_s
        self._hands = Hands(
            deployment, Role.SITE, journal, breakers=breakers, daemons=protocol.daemons
        )
        self._execute = self._hands.execute
        self._queues = queues(plan)
        # One record per nap at most, and those of the hold: a full disk is met before the first.
        naps = round(plan.queue.patience_s * NS_PER_S / NAP_NS) if protocol.drain else 0
        self._records = min(naps, MOST_NAPS) + ROOM
        self._totals = KeptTotals(self._hands, plan)
        # A mode that counts totals for each page does not rely on memcached for anything.
        cache = self._hands.cache if totals_life_s is not None else None
        polls = None if cache is None else polls_in(cache)
        self._polls = PollBook(self._hands.ballots.link, polls, calculation_s(plan))

    def find_poll(self, name: str) -> Poll | None:
        return self._polls.find(name)

    def list_polls(self) -> tuple[Poll, ...]:
        return self._polls.all()

    def accept(self, vote: Vote) -> Answer:
        number = vote.vote_id % len(self._queues)
        if self._journal:
            self._journal.start_operation(number, self._records)
        receipt = drive(self._vote(self._queues[number], vote.to_message()), self._execute)
        return ANSWERS[receipt]

    def totals(self, poll: Poll) -> Totals:
        return self._totals.read(poll, self._totals_life_s)

    def is_ready(self) -> bool:
        return self._hands.ballots.is_reachable()

    def close(self) -> None:
        self._hands.close()
