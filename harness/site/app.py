"""The WSGI application: which resource answers which address."""

from pathlib import Path
from typing import Any, Final

import falcon

from harness.modes.mode import Mode
from harness.plan import Deployment, Site
from harness.site import log, problem
from harness.site.body import Void
from harness.site.health import Live, Ready
from harness.site.metrics import METRICS, Exposition, Meters, Page
from harness.site.openapi import ADDRESS, Document
from harness.site.polls import Question
from harness.site.results import Results
from harness.site.sessions import Sessions
from harness.site.votes import Votes

_ALWAYS: Final = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
DOOR_THREADS: Final = 16  # per worker: to read requests, refuse them, and say how the site fares
MOST_ASKING: Final = 4  # whether the site is ready, at a time; a ping of the database each
ASKING_WAIT_S: Final = 1.0  # who waits longer would not believe the answer


def threads_of(site: Site) -> int:
    """How many requests one worker can have inside: at work, waiting, and at the door."""
    return site.threads + site.waiting + DOOR_THREADS


class Response(falcon.Response):
    """A response with the headers that every answer has."""

    def __init__(self, options: falcon.ResponseOptions | None = None) -> None:
        super().__init__(options)
        self.set_headers(_ALWAYS)


def create_app(deployment: Deployment, mode: Mode) -> "falcon.App[falcon.Request, Response]":
    """The site in one process, its sessions connected. Raises RecordingError."""
    folder = Path(deployment.folder)
    plan = deployment.plan.site
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
    meters = Meters(Page(folder / METRICS, threads_of(plan)))
    resources = {
        "/polls/{poll}/votes": Votes(sessions, meters, folder),
        "/polls/{poll}/results": Results(sessions, meters),
        "/polls/{poll}": Question(sessions),
        "/health/live": Live(),
        "/health/ready": Ready(asking, folder),
        "/metrics": Exposition(folder),
        "/void": Void(),
    }
    app = falcon.App(response_type=Response)
    for address, resource in {**resources, ADDRESS: Document(resources)}.items():
        app.add_route(address, resource)
    app.set_error_serializer(problem.serialize)
    app.add_error_handler(Exception, _fail)
    app.add_error_handler(problem.Problem, problem.show)
    return app


def _fail(
    request: falcon.Request, response: falcon.Response, error: Exception, params: Any
) -> None:
    log.unforeseen("answering a request", error)
    problem.show(request, response, problem.internal_error(), params)
