"""`GET /polls/{poll}/results`: the page that everybody reloads."""

from datetime import UTC, datetime
from time import time
from typing import Annotated

import falcon
import msgspec
from msgspec import Meta

from harness.modes.mode import Session, Totals, Unavailable
from harness.site import problem
from harness.site.metrics import Meters, Request
from harness.site.openapi import Success, operation
from harness.site.polls import NO_POLL, find_poll, require_possible
from harness.site.sessions import Sessions
from harness.vote import Poll


class Tally(msgspec.Struct):
    """A choice and its votes."""

    choice: int
    text: str
    votes: int


class ResultsPage(msgspec.Struct):
    """A poll with the votes of each choice, as counted at `as_of`."""

    poll: str
    question: str
    choices: list[Tally]
    total: int
    as_of: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    age_s: Annotated[float, Meta(ge=0)]


class Results:
    """How many votes each choice has, and when that was counted."""

    def __init__(self, sessions: Sessions, meters: Meters) -> None:
        self._sessions = sessions
        self._meters = meters

    @operation("Its results", {200: Success("Votes per choice", ResultsPage)}, *NO_POLL)
    def on_get(self, _request: falcon.Request, response: falcon.Response, poll: str) -> None:
        response.data = msgspec.json.encode(_page(*self.read(poll)))

    on_head = on_get

    def read(self, name: str) -> tuple[Poll, Totals]:
        """The poll and its totals. Raises Problem."""
        meter = self._meters.mine
        meter.begin()
        status = 500
        try:
            require_possible(name)
            with self._sessions.lend() as loan:
                found = find_poll(loan.session, name)
                totals = _totals(loan.session, found)
            status = 200
            return found, totals
        except problem.Problem as told:
            status = told.status
            raise
        finally:
            meter.end(Request.RESULTS, status)


def _totals(session: Session, poll: Poll) -> Totals:
    try:
        return session.totals(poll)
    except Unavailable:
        raise problem.poll_unavailable() from None


def _page(poll: Poll, totals: Totals) -> ResultsPage:
    counted = zip(poll.choices, totals.counts, strict=True)
    return ResultsPage(
        poll.name,
        poll.question,
        [Tally(number, text, votes) for number, (text, votes) in enumerate(counted, start=1)],
        total=sum(totals.counts),
        as_of=datetime.fromtimestamp(totals.as_of_s, UTC).isoformat(timespec="milliseconds"),
        age_s=round(max(0.0, time() - totals.as_of_s), 3),
    )
