"""The site for people: the same addresses as the API, as pages, for whoever prefers HTML."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import falcon

from harness.modes.mode import Answer
from harness.site import log, problem
from harness.site.ballot_paper import NO_CHOICE, PaperReader, mint_at_random
from harness.site.cookie import Cookies, Tidings, Told
from harness.site.pages import STATIC, Page, Pages
from harness.site.polls import Polls, Question, require_possible
from harness.site.problem import Problem
from harness.site.results import Results
from harness.site.votes import Votes

People: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
TOLD: Final = {
    "conflict": Told.CONFLICT,
    "already-voted": Told.ALREADY_VOTED,
    "poll-closed": Told.CLOSED,
}
"""Problems that the results page tells: there is nothing to be done about them."""
AGAIN: Final = (503, 504)
"""Statuses after which the same vote may be sent again."""


class PollList:
    """`GET /`: what can be voted on."""

    def __init__(self, polls: Polls, pages: Pages) -> None:
        self._polls = polls
        self._pages = pages

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        _show(response, self._pages.polls(self._polls.read()))

    on_head = on_get


class BallotPaper:
    """`GET /polls/{poll}`: the form. Whoever has no name yet is given one."""

    def __init__(self, question: Question, pages: Pages, cookies: Cookies) -> None:
        self._question = question
        self._pages = pages
        self._cookies = cookies

    def on_get(self, request: falcon.Request, response: falcon.Response, poll: str) -> None:
        found = self._question.read(poll)
        if self._cookies.voter(request) is None:
            self._cookies.name_voter(response)
        _show(response, self._pages.poll(found, f"{mint_at_random():016x}"))

    on_head = on_get


class BallotBox:
    """`POST /polls/{poll}/votes`: the form, filled in; it leads to the results."""

    def __init__(self, votes: Votes, question: Question, pages: Pages, cookies: Cookies) -> None:
        self._votes = votes
        self._question = question
        self._pages = pages
        self._cookies = cookies

    def on_post(self, request: falcon.Request, response: falcon.Response, poll: str) -> None:
        paper = PaperReader(self._cookies)
        try:
            answer, _wish = self._votes.take(poll, request, paper)
        except Problem as told:
            self._refuse(response, poll, paper, told)
        else:
            counted = answer is Answer.STORED
            self._tell(response, poll, paper, Told.STORED if counted else Told.QUEUED)

    def on_get(self, _request: falcon.Request, response: falcon.Response, poll: str) -> None:
        """Somebody asks for the address that her vote was sent to: she wants to vote."""
        require_possible(poll)
        _lead_to(response, f"/polls/{poll}")

    on_head = on_get

    def _refuse(
        self, response: falcon.Response, poll: str, paper: PaperReader, told: Problem
    ) -> None:
        require_possible(poll)  # what no poll can be called stands in no page of ours
        if told.kind in TOLD:
            self._tell(response, poll, paper, TOLD[told.kind])
        elif told.kind == NO_CHOICE and paper.vote_id:
            found = self._question.read(poll)
            _show(response, self._pages.poll(found, paper.vote_id, told.detail), told)
        else:
            wish = paper.wish if told.status in AGAIN else None
            again = (wish.vote, wish.choice) if wish else None
            known = None if told.status == 404 else poll
            _show(response, self._pages.problem(told, poll=known, again=again), told)

    def _tell(self, response: falcon.Response, poll: str, paper: PaperReader, told: Told) -> None:
        path = _results_of(poll)
        self._cookies.tell(response, path, Tidings(told, paper.wish.choice if paper.wish else 0))
        _lead_to(response, path)


class ResultsOfPoll:
    """`GET /polls/{poll}/results`: the bars, and once what became of the reader's vote."""

    def __init__(self, results: Results, pages: Pages, cookies: Cookies) -> None:
        self._results = results
        self._pages = pages
        self._cookies = cookies

    def on_get(self, request: falcon.Request, response: falcon.Response, poll: str) -> None:
        tidings = self._cookies.tidings(request)
        try:
            found, totals = self._results.read(poll)
        except Problem as told:
            # Who has just voted is told so all the same, or she would think that it failed.
            _show(response, self._pages.problem(told, tidings=tidings), told)
            return
        if tidings:
            self._cookies.told(response, _results_of(poll))
        _show(response, self._pages.results(found, totals, tidings))

    on_head = on_get


def people_app(resources: Mapping[str, object], pages: Pages) -> People:
    """The site for people, with these resources by their addresses."""

    def show(_request: Any, response: falcon.Response, told: Problem, _params: Any) -> None:
        _show(response, pages.problem(told), told)

    def fail(request: Any, response: falcon.Response, error: Exception, params: Any) -> None:
        log.unforeseen("showing a page", error)
        show(request, response, problem.internal_error(), params)

    def serialize(
        request: falcon.Request, response: falcon.Response, error: falcon.HTTPError
    ) -> None:
        show(request, response, Problem.of_falcon(request, error), None)

    app = falcon.App(response_type=Page)
    for address, resource in resources.items():
        app.add_route(address, resource)
    app.add_sink(pages.send, STATIC)
    app.set_error_serializer(serialize)
    app.add_error_handler(Exception, fail)
    app.add_error_handler(Problem, show)
    return app


def _results_of(poll: str) -> str:
    return f"/polls/{poll}/results"


def _lead_to(response: falcon.Response, path: str) -> None:
    response.status = falcon.HTTP_303
    response.location = path
    response.data = b""


def _show(response: falcon.Response, page: bytes, told: Problem | None = None) -> None:
    response.content_type = falcon.MEDIA_HTML
    response.data = page
    if told:
        response.status = told.status
        if told.status == 503:
            response.set_header("Retry-After", str(problem.RETRY_AFTER_S))
