"""`GET /health/live` and `GET /health/ready`, for whoever starts and watches the site."""

from pathlib import Path
from typing import Final, Literal

import falcon
import msgspec

from harness.history.recorder import RECORDING_FAILED
from harness.site import problem
from harness.site.openapi import Success, operation
from harness.site.sessions import Loan, Sessions


class Health(msgspec.Struct):
    """The answer when all is well."""

    status: Literal["live", "ready"]


_READY: Final = msgspec.json.encode(Health("ready"))
_LIVE: Final = msgspec.json.encode(Health("live"))


class Live:
    """The process answers; nothing is said about what it stands on."""

    @operation("Whether the process answers", {200: Success("It does", Health)})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.data = _LIVE

    on_head = on_get


class Ready:
    """A vote sent now could be taken in, or is told at once to come again.

    A site that refuses for a moment, because too many come at once, stays ready: whoever takes its
    share of the voters away for that overloads the others.
    """

    def __init__(self, sessions: Sessions, folder: Path) -> None:
        """`sessions`: not those for votes, which may all be lent."""
        self._sessions = sessions
        self._recording_failed = folder / RECORDING_FAILED

    @operation(
        "Whether a vote could be taken in now",
        {200: Success("It could", Health)},
        problem.not_ready("Why not"),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        if self._recording_failed.exists():
            raise problem.not_ready("The journal cannot be written; make room and start again.")
        with self._lend() as loan:
            if not loan.session.is_ready():
                raise problem.not_ready("What the mode stands on does not answer; see the log.")
        response.data = _READY

    on_head = on_get

    def _lend(self) -> Loan:
        try:
            return self._sessions.lend()
        except problem.Problem:
            raise problem.not_ready(
                "What the mode stands on has not answered others yet; ask again."
            ) from None
