"""`GET /health/live` and `GET /health/ready`, for whoever starts and watches the site."""

from pathlib import Path
from typing import Final, Literal

import falcon
import msgspec

from harness.history.recorder import RECORDING_FAILED
from harness.site import problem
from harness.site.openapi import Success, operation
from harness.site.sessions import Sessions


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
    """A vote sent now could be taken in."""

    def __init__(self, sessions: Sessions, folder: Path) -> None:
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
        try:
            ready = self._sessions.current().is_ready()
        except BaseException:
            self._sessions.discard()
            raise
        if not ready:
            raise problem.not_ready("What the mode stands on does not answer; see the log.")
        response.data = _READY

    on_head = on_get
