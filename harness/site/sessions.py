"""The mode's sessions of one worker: a few, lent to one request at a time, and who waits for them.

Theory of operation
    A session has connections and a journal, so there are few; threads are cheap, so there are
    enough of them to read and answer requests, and each borrows a session for the work itself.
    Whoever finds none free waits: first come, first served. Only so many may wait, and only so
    long. Beyond that a request is refused at once, when nothing of it is written anywhere.

    As long as a session is free, to lend it and to take it back are one atomic operation each.
    Whoever finds none, or somebody waiting, takes a lock. Either side shows what it has before it
    looks for the other's, so that nobody waits while a session lies free.
"""

import threading
from collections import deque
from pathlib import Path
from types import TracebackType

from harness.deployment import Deployment
from harness.history.journal import Journal, Role
from harness.modes.mode import Mode, Session
from harness.site import log, problem


class Loan:
    """A session for the time of a `with` block; closed, and replaced, when anything escapes.

    Only a problem that was foreseen leaves it whole.
    """

    __slots__ = ("_journal", "_sessions", "session")

    def __init__(self, sessions: "Sessions", journal: Journal | None) -> None:
        self._sessions = sessions
        self._journal = journal
        self.session = sessions.open(journal)

    def __enter__(self) -> "Loan":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None and not isinstance(error, problem.Problem):
                self.discard()
        finally:
            self._sessions.take_back(self)

    def discard(self) -> None:
        """Close it: a connection on which a call was cut short would answer the next one."""
        try:
            self.session.close()
        except Exception as error:
            log.unforeseen("closing a session", error)
        self.session = self._sessions.open(self._journal)


class Turn:
    """Somebody's place among those who wait."""

    __slots__ = ("called", "loan")

    def __init__(self) -> None:
        self.loan: Loan | None = None
        self.called = threading.Lock()  # held until the loan is there
        self.called.acquire()


class Sessions:
    """So many sessions of a mode, and those who wait for one."""

    def __init__(
        self,
        deployment: Deployment,
        mode: Mode,
        sessions: int,
        *,
        waiting: int,
        wait_s: float,
        journal: bool,
    ) -> None:
        """At most `waiting` requests wait, each for at most `wait_s`.

        Raises RecordingError when a journal cannot be made.
        """
        self._deployment = deployment
        self._mode = mode
        self._most_waiting = waiting
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._waiting: deque[Turn] = deque()
        folder = Path(deployment.folder)
        self._free = [
            Loan(self, Journal(folder, Role.SITE) if journal else None) for _ in range(sessions)
        ]

    def open(self, journal: Journal | None) -> Session:
        """A new session of the mode; it connects when first used."""
        return self._mode.session(self._deployment, journal)

    def connect(self) -> None:
        """Have each meet its database before a vote does, if that answers now.

        Otherwise the first vote of each, 2 % of a short load, takes ten times as long as others.
        """
        for loan in self._free:
            try:
                if not loan.session.is_ready():
                    return  # nor will it answer the others; they connect when first used
            except Exception as error:
                log.unforeseen("connecting", error)
                return

    def lend(self) -> Loan:
        """A session, perhaps after waiting. Raises Problem when there is none to be had."""
        try:
            return self._free.pop()
        except IndexError:
            return self._wait()

    def take_back(self, loan: Loan) -> None:
        """It goes to whoever has waited longest."""
        if self._waiting:
            with self._lock:
                self._match(loan)
            return
        self._free.append(loan)
        if self._waiting:  # somebody came just now, and may have seen none
            with self._lock:
                self._match(None)

    def _wait(self) -> Loan:
        turn = Turn()
        with self._lock:
            if len(self._waiting) >= self._most_waiting:
                raise problem.overloaded()
            self._waiting.append(turn)
            self._match(None)  # a session that was taken back just now lies free
        if not turn.called.acquire(timeout=self._wait_s):
            with self._lock:
                if turn.loan is None:
                    self._waiting.remove(turn)  # nearly always the first: all wait as long
                    raise problem.overloaded()
        assert turn.loan
        return turn.loan

    def _match(self, loan: Loan | None) -> None:
        """Call those who wait, as long as there are sessions: the given one, and free ones.

        With the lock held.
        """
        while self._waiting:
            if loan is None:
                try:
                    loan = self._free.pop()
                except IndexError:
                    return
            turn = self._waiting.popleft()
            turn.loan, loan = loan, None
            turn.called.release()
        if loan is not None:
            self._free.append(loan)
