"""A mode that does what each test tells it, and how a site over it is asked."""

import json
from typing import Any

import falcon.testing

from harness.deployment import Deployment
from harness.history.journal import Journal
from harness.modes.mode import Answer, Totals
from harness.vote import Poll, Vote
from tests.site_with_fake_mode import POLL

VOTES = "/polls/town-hall/votes"
GOOD: dict[str, Any] = {"vote": "00000000000000a1", "choice": 2, "voter": "v1"}


class Scripted:
    """A mode and its own session; counts what is asked of it."""

    name = "scripted"
    promises = True
    queues = False

    def __init__(self) -> None:
        self.accepts: Answer | BaseException = Answer.STORED
        self.polls: dict[str, Poll] | BaseException = {POLL.name: POLL}
        self.counts: Totals | BaseException = Totals((4, 0, 2), 1_700_000_000.25)
        self.ready: bool | BaseException = True
        self.votes: list[Vote] = []
        self.asked: list[str] = []
        self.opened = 0
        self.closed = 0
        self.while_finding: Any = lambda: None
        self.while_accepting: Any = lambda: None

    def session(self, _deployment: Deployment, _journal: Journal | None) -> "Scripted":
        self.opened += 1
        return self

    def find_poll(self, name: str) -> Poll | None:
        self.asked.append(name)
        self.while_finding()
        if isinstance(self.polls, BaseException):
            raise self.polls
        return self.polls.get(name)

    def list_polls(self) -> tuple[Poll, ...]:
        if isinstance(self.polls, BaseException):
            raise self.polls
        return tuple(self.polls.values())

    def accept(self, vote: Vote) -> Answer:
        self.votes.append(vote)
        self.while_accepting()
        if isinstance(self.accepts, BaseException):
            raise self.accepts
        return self.accepts

    def totals(self, _poll: Poll) -> Totals:
        if isinstance(self.counts, BaseException):
            raise self.counts
        return self.counts

    def is_ready(self) -> bool:
        if isinstance(self.ready, BaseException):
            raise self.ready
        return self.ready

    def close(self) -> None:
        self.closed += 1


def post(site: falcon.testing.TestClient, body: Any, path: str = VOTES) -> falcon.testing.Result:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return site.simulate_post(path, body=raw)


def assert_problem(answer: falcon.testing.Result, status: int, kind: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["type"] == f"urn:pollstorm:problem:{kind}"
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert answer.json["detail"]
