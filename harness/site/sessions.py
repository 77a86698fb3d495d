"""The mode's session of each thread: made at first use, closed when anything escapes from it."""

import threading
from pathlib import Path

from harness.history.journal import Journal, Role
from harness.modes.mode import Mode, Session
from harness.plan import Deployment
from harness.site import log


class Sessions(threading.local):
    """The calling thread's session; no thread ever sees another's."""

    def __init__(self, deployment: Deployment, mode: Mode) -> None:
        self._deployment = deployment
        self._mode = mode
        self._journal = (
            Journal(Path(deployment.folder), Role.SITE) if deployment.plan.site.journal else None
        )
        self._session: Session | None = None

    def current(self) -> Session:
        """This thread's session."""
        if self._session is None:
            self._session = self._mode.session(self._deployment, self._journal)
        return self._session

    def discard(self) -> None:
        """Close it: a connection on which a call was cut short would answer the next one."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            session.close()
        except Exception as error:
            log.unforeseen("closing a session", error)
