"""`direct`: one INSERT and a commit per vote; the results page counts the ballots, as ever.

Promise: an acknowledged vote is committed.
"""

from time import time

import pymysql

from harness.database.ballots import Ballots, Delivery
from harness.history.journal import Journal
from harness.modes.mode import Answer, Totals, TotalsUnavailable
from harness.modes.polls import PollBook
from harness.plan import Deployment
from harness.vote import Poll, Vote

ANSWERS = {
    Delivery.COUNTED: Answer.STORED,
    Delivery.CONFLICT: Answer.CONFLICT,
    Delivery.REFUSED: Answer.REFUSED,
    Delivery.UNKNOWN: Answer.UNKNOWN,
}


class DirectSession:
    """One thread's database connection."""

    def __init__(self, deployment: Deployment, journal: Journal | None) -> None:
        self._journal = journal
        self._ballots = Ballots(deployment.database, deployment.plan.database.timeout_s, journal)
        self._polls = PollBook(self._ballots)

    def find_poll(self, name: str) -> Poll | None:
        return self._polls.find(name)

    def accept(self, vote: Vote) -> Answer:
        if self._journal:
            self._journal.start_operation()
        return ANSWERS[self._ballots.insert(vote)]

    def totals(self, poll: Poll) -> Totals:
        try:
            return Totals(self._ballots.count(poll), time())
        except pymysql.MySQLError as error:
            raise TotalsUnavailable(str(error)) from error

    def is_ready(self) -> bool:
        return self._ballots.is_reachable()

    def close(self) -> None:
        self._ballots.close()


class Direct:
    """Votes go straight to the database."""

    name = "direct"
    promises = True
    queues = False

    def session(self, deployment: Deployment, journal: Journal | None) -> DirectSession:
        return DirectSession(deployment, journal)
