"""Polls by name, `GET /polls/{poll}` and `GET /`."""

from typing import Final

import falcon
import msgspec

from harness.modes.mode import Session, Unavailable
from harness.site import problem
from harness.site.openapi import Success, operation
from harness.site.sessions import Sessions
from harness.vote import POLL_NAME, Poll

NO_ANSWER: Final = (problem.poll_unavailable(), problem.overloaded())
NO_POLL: Final = (problem.unknown_poll(), *NO_ANSWER)
"""As `find_poll` tells it, and who lends it a session."""


def require_possible(name: str) -> None:
    """Raises Problem when no poll can be called so: nobody needs to be asked, or waited for."""
    if not POLL_NAME.fullmatch(name):
        raise problem.unknown_poll()


def find_poll(session: Session, name: str) -> Poll:
    """The poll of that name. Raises Problem when there is none, or nobody can say."""
    try:
        poll = session.find_poll(name)
    except Unavailable:
        raise problem.poll_unavailable() from None
    if poll is None:
        raise problem.unknown_poll()
    return poll


class Choice(msgspec.Struct):
    """What can be answered, and the number that a vote has for it."""

    choice: int
    text: str


class PollPage(msgspec.Struct):
    """A poll without its votes."""

    poll: str
    question: str
    choices: list[Choice]


class Question:
    """What is asked, and what can be answered."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @operation("A poll", {200: Success("Its question and choices", PollPage)}, *NO_POLL)
    def on_get(self, _request: falcon.Request, response: falcon.Response, poll: str) -> None:
        found = self.read(poll)
        choices = [Choice(number, text) for number, text in enumerate(found.choices, start=1)]
        response.data = msgspec.json.encode(PollPage(found.name, found.question, choices))

    on_head = on_get

    def read(self, name: str) -> Poll:
        """The poll of that name. Raises Problem."""
        require_possible(name)
        with self._sessions.lend() as loan:
            return find_poll(loan.session, name)


class PollState(msgspec.Struct):
    """A poll among others."""

    poll: str
    question: str
    once: bool
    closed: bool


class PollsPage(msgspec.Struct):
    """All polls, open ones first, then the newest."""

    polls: list[PollState]


class Polls:
    """Which polls there are."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @operation("All polls", {200: Success("Open ones first", PollsPage)}, *NO_ANSWER)
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        found = [PollState(one.name, one.question, one.once, one.closed) for one in self.read()]
        response.data = msgspec.json.encode(PollsPage(found))

    on_head = on_get

    def read(self) -> tuple[Poll, ...]:
        """All polls. Raises Problem."""
        with self._sessions.lend() as loan:
            try:
                return loan.session.list_polls()
            except Unavailable:
                raise problem.poll_unavailable() from None
