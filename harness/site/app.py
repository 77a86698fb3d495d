"""The WSGI application: which resource answers which address, and whom."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import falcon
from falcon import mediatypes

from harness.deployment import Deployment
from harness.modes.mode import Mode
from harness.plan import Site
from harness.site import log, problem
from harness.site.body import Void
from harness.site.cookie import Cookies, voters_key
from harness.site.headers import Response
from harness.site.health import Live, Ready
from harness.site.metrics import METRICS, Exposition, MeterPage, Meters
from harness.site.openapi import ADDRESS, Document
from harness.site.pages import STATIC, Pages
from harness.site.people import BallotBox, BallotPaper, People, PollList, ResultsOfPoll, people_app
from harness.site.polls import Polls, Question
from harness.site.results import Results
from harness.site.sessions import Sessions
from harness.site.votes import Votes

OFFERED: Final = ("application/json", "text/html")  # who does not care gets what programs get
DOOR_THREADS: Final = 16  # per worker: to read requests, refuse them, and say how the site fares
MOST_ASKING: Final = 4  # whether the site is ready, at a time; a ping of the database each
ASKING_WAIT_S: Final = 1.0  # who waits longer would not believe the answer


def threads_of(site: Site) -> int:
    """How many requests one worker can have inside: at work, waiting, and at the door."""
    return site.threads + site.waiting + DOOR_THREADS


class App(falcon.App[falcon.Request, Response]):
    """The site for programs; whoever prefers pages is handed to the site for people."""

    def __init__(self, people: People) -> None:
        super().__init__(response_type=Response)
        self._people = people

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if prefers_pages(environ):
            return self._people(environ, start_response)
        return super().__call__(environ, start_response)


def prefers_pages(environ: dict[str, Any]) -> bool:
    """Whether the request is a person's: its Accept header prefers HTML to JSON."""
    accept: str = environ.get("HTTP_ACCEPT", "")
    if "text/" not in accept:  # a program, and that is all that it costs one
        return False
    try:
        return bool(mediatypes.best_match(OFFERED, accept) == "text/html")
    except ValueError:
        return False


def create_app(deployment: Deployment, mode: Mode) -> App:
    """The site in one process, its sessions connected. Raises PlanError, RecordingError."""
    folder = Path(deployment.folder)
    plan = deployment.plan.site
    cookies = Cookies(voters_key(deployment), https=plan.https)
    sessions = Sessions(
        deployment,
        mode,
        plan.threads,
        waiting=plan.waiting,
        wait_s=plan.wait_s,
        journal=plan.journal,
    )
    sessions.connect()
    asking = Sessions(deployment, mode, 1, waiting=MOST_ASKING, wait_s=ASKING_WAIT_S, journal=False)
    meters = Meters(MeterPage(folder / METRICS, threads_of(plan)))
    polls, question = Polls(sessions), Question(sessions)
    votes, results = Votes(sessions, meters, folder), Results(sessions, meters)
    resources: dict[str, object] = {
        "/polls/{poll}/votes": votes,
        "/polls/{poll}/results": results,
        "/polls/{poll}": question,
        "/": polls,
        "/health/live": Live(),
        "/health/ready": Ready(asking, folder),
        "/metrics": Exposition(folder),
        "/void": Void(),
    }
    resources[ADDRESS] = Document(resources)
    pages = Pages()
    shown: dict[str, object] = {
        "/polls/{poll}/votes": BallotBox(votes, question, pages, cookies),
        "/polls/{poll}/results": ResultsOfPoll(results, pages, cookies),
        "/polls/{poll}": BallotPaper(question, pages, cookies),
        "/": PollList(polls, pages),
    }
    app = App(people_app(resources | shown, pages))
    for address, resource in resources.items():
        app.add_route(address, resource)
    app.add_sink(pages.send, STATIC)
    app.set_error_serializer(problem.serialize)
    app.add_error_handler(Exception, _fail)
    app.add_error_handler(problem.Problem, problem.show)
    return app


def _fail(
    request: falcon.Request, response: falcon.Response, error: Exception, params: Any
) -> None:
    log.unforeseen("answering a request", error)
    problem.show(request, response, problem.internal_error(), params)
