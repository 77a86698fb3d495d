"""Polls by name, and `GET /polls/{poll}`."""

from typing import Final

import falcon
import msgspec

from harness.modes.mode import Session, TotalsUnavailable
from harness.site import problem
from harness.site.openapi import Success, operation
from harness.site.sessions import Sessions
from harness.vote import POLL_NAME, Poll

NO_POLL: Final = (problem.unknown_poll(), problem.poll_unavailable(), problem.overloaded())
"""As `find_poll` tells it, and who lends it a session."""


def require_possible(name: str) -> None:
    """Raises Problem when no poll can be called so: nobody needs to be asked, or waited for."""
    if not POLL_NAME.fullmatch(name):
        raise problem.unknown_poll()


def find_poll(session: Session, name: str) -> Poll:
    """The poll of that name. Raises Problem when there is none, or nobody can say."""
    try:
        poll = session.find_poll(name)
    except TotalsUnavailable:
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
        require_possible(poll)
        with self._sessions.lend() as loan:
            found = find_poll(loan.session, poll)
        choices = [Choice(number, text) for number, text in enumerate(found.choices, start=1)]
        response.data = msgspec.json.encode(PollPage(found.name, found.question, choices))

    on_head = on_get
