"""`GET /polls/{poll}/results`: the page that everybody reloads."""

from datetime import UTC, datetime
from time import time

import falcon
import msgspec

from harness.modes.mode import Totals, TotalsUnavailable
from harness.site import problem
from harness.site.metrics import Meters, Request
from harness.site.polls import find_poll
from harness.site.sessions import Sessions
from harness.vote import Poll


class Results:
    """How many votes each choice has, and when that was counted."""

    def __init__(self, sessions: Sessions, meters: Meters) -> None:
        self._sessions = sessions
        self._meters = meters

    def on_get(self, _request: falcon.Request, response: falcon.Response, poll: str) -> None:
        meter = self._meters.mine
        meter.begin()
        status = 500
        try:
            found = find_poll(self._sessions, poll)
            response.data = msgspec.json.encode(_page(found, self._totals(found)))
            status = 200
        except problem.Problem as told:
            status = told.status
            raise
        finally:
            meter.end(Request.RESULTS, status)

    on_head = on_get

    def _totals(self, poll: Poll) -> Totals:
        try:
            return self._sessions.current().totals(poll)
        except TotalsUnavailable:
            raise problem.poll_unavailable() from None
        except BaseException:
            self._sessions.discard()
            raise


def _page(poll: Poll, totals: Totals) -> dict[str, object]:
    return {
        "poll": poll.name,
        "question": poll.question,
        "choices": [
            {"choice": number, "text": text, "votes": votes}
            for number, (text, votes) in enumerate(
                zip(poll.choices, totals.counts, strict=True), start=1
            )
        ],
        "total": sum(totals.counts),
        "as_of": datetime.fromtimestamp(totals.as_of_s, UTC).isoformat(timespec="milliseconds"),
        "age_s": round(max(0.0, time() - totals.as_of_s), 3),
    }
