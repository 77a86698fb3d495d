"""The WSGI application: which resource answers which address."""

from pathlib import Path
from typing import Any, Final

import falcon

from harness.modes.mode import Mode
from harness.plan import Deployment
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


class Response(falcon.Response):
    """A response with the headers that every answer has."""

    def __init__(self, options: falcon.ResponseOptions | None = None) -> None:
        super().__init__(options)
        self.set_headers(_ALWAYS)


def create_app(deployment: Deployment, mode: Mode) -> "falcon.App[falcon.Request, Response]":
    """The site in one process. Threads connect when they meet their first request."""
    folder = Path(deployment.folder)
    sessions = Sessions(deployment, mode)
    meters = Meters(Page(folder / METRICS, deployment.plan.site.threads))
    resources = {
        "/polls/{poll}/votes": Votes(sessions, meters, folder),
        "/polls/{poll}/results": Results(sessions, meters),
        "/polls/{poll}": Question(sessions),
        "/health/live": Live(),
        "/health/ready": Ready(sessions, folder),
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
