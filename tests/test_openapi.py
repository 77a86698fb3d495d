"""The site's OpenAPI document names exactly what the site has."""

import inspect
import io
import json
import math
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import falcon.inspect
import falcon.testing
import pytest

from harness.errors import RecordingError
from harness.modes.mode import Answer, Unavailable
from harness.site import problem
from harness.site.app import create_app
from harness.site.metrics import STATUSES
from harness.site.openapi import Document, Success, describe, operation
from harness.site.slow_bodies import Watcher
from tests import site_with_fake_mode
from tests.documented import DocumentedClient, document_of, told_by
from tests.site_with_fake_mode import deployment
from tests.test_site import GOOD, VOTES, Scripted

POLL = "/polls/town-hall"
CLOSED = site_with_fake_mode.POLL._replace(closed=True)
TAKES_BODIES = (VOTES, "/void")


@pytest.fixture
def mode() -> Scripted:
    return Scripted()


@pytest.fixture
def app(tmp_path: Path, mode: Scripted) -> "falcon.App[Any, Any]":
    return create_app(deployment(tmp_path), mode)


def test_it_names_every_route_and_method(app: "falcon.App[Any, Any]") -> None:
    routes = {
        route.path: {
            method.method
            for method in route.methods
            if not method.internal or method.method == "OPTIONS"
        }
        for route in falcon.inspect.inspect_routes(app)
    }
    named = {
        path: {method.upper() for method in item if method != "parameters"}
        for path, item in document_of(app)["paths"].items()
    }
    assert named == routes


class SlowBody(io.BytesIO):
    """Comes when it has long been given up."""

    def read(self, _size: int | None = -1) -> bytes:
        watcher = Watcher(port=0, spare=1)
        watcher.look(0.0)
        watcher.look(math.inf)
        return b""


class Case(NamedTuple):
    """One way to an answer: what the mode does, what is asked for, and whether others do so too."""

    method: str
    path: str
    body: bytes = b""
    does: tuple[str, Any] = ("accepts", Answer.STORED)
    crowded: bool = False
    extras: dict[str, Any] | None = None

    def ask(self, folder: Path) -> DocumentedClient:
        mode = Scripted()
        setattr(mode, *self.does)
        site = DocumentedClient(create_app(deployment(folder, threads=1, waiting=0), mode))
        if self.crowded:
            mode.while_finding = lambda: self.ask_of(site)
            site.simulate_get(POLL)
        else:
            self.ask_of(site)
        return site

    def ask_of(self, site: DocumentedClient) -> None:
        site.simulate_request(self.method, self.path, body=self.body, extras=self.extras)


def cases() -> Iterator[Case]:
    """A way to each answer of each operation."""
    good = json.dumps(GOOD).encode()
    for answer in Answer:
        yield Case("POST", VOTES, good, ("accepts", answer))
    yield Case("POST", VOTES, b"{}")
    yield Case("POST", VOTES, good, ("accepts", RecordingError("the disk is full")))
    yield Case("POST", VOTES, good, ("polls", {"town-hall": CLOSED}))
    for path in TAKES_BODIES:
        yield Case("POST", path, b"x" * 5000)
        yield Case("POST", path, extras={"wsgi.input": SlowBody()})
    yield Case("POST", "/void")
    for method, path in (("POST", VOTES), *reads(POLL), *reads(f"{POLL}/results")):
        yield Case(method, path.replace("town-hall", "elsewhere"), good)
        yield Case(method, path, good, ("polls", Unavailable()))
        yield Case(method, path, good, ("polls", ZeroDivisionError()))
        yield Case(method, path, good, crowded=True)
        if method != "POST":
            yield Case(method, path)
    for method, path in reads("/"):
        yield Case(method, path)
        yield Case(method, path, does=("polls", Unavailable()))
        yield Case(method, path, does=("polls", ZeroDivisionError()))
        yield Case(method, path, crowded=True)
    for method, path in reads("/health/ready"):
        yield Case(method, path)
        yield Case(method, path, does=("ready", False))
        yield Case(method, path, does=("ready", ZeroDivisionError()))
    for method, path in (*reads("/health/live"), *reads("/openapi.json"), ("GET", "/metrics")):
        yield Case(method, path)
    for path in ("/", POLL, VOTES, f"{POLL}/results", "/health/ready", "/health/live", "/void"):
        yield Case("OPTIONS", path)
    for path in ("/metrics", "/openapi.json"):
        yield Case("OPTIONS", path)


def reads(path: str) -> tuple[tuple[str, str], ...]:
    return (("GET", path), ("HEAD", path))


CANNOT_FAIL = ("/health/live", "/void", "/metrics", "/openapi.json")
"""As far as anybody foresees; the document names 500 for all."""


def test_each_answer_that_it_names_is_given_and_no_other(tmp_path: Path) -> None:
    seen = set()
    for number, case in enumerate(cases()):
        site = case.ask(tmp_path / str(number))
        named, seen = site.named, seen | site.seen
    missed = {told for told in named - seen if told.path not in CANNOT_FAIL or told.status != 500}
    assert missed == set()


def test_every_problem_that_there_is_has_a_place_in_it(app: "falcon.App[Any, Any]") -> None:
    named = {told.kind for told in told_by(document_of(app))}
    makers = inspect.getmembers(problem, inspect.isfunction)
    kinds = {
        maker(*["" for _ in inspect.signature(maker).parameters]).kind
        for _, maker in makers
        if inspect.signature(maker).return_annotation is problem.Problem
    }
    assert named == kinds | {""}


def test_what_a_responder_can_raise_is_named_for_it(app: "falcon.App[Any, Any]") -> None:
    """By its text, so that also what no test provokes is seen."""
    document = told_by(document_of(app))
    checked = 0
    for route in falcon.inspect.inspect_routes(app):
        resource = app._router.find(route.path.replace("{poll}", "x"))[0]
        for method in route.methods:
            if method.internal or method.method == "HEAD":
                continue
            raised = raises(getattr(type(resource), method.function_name), type(resource), set())
            named = {told.kind for told in document if told[:2] == (route.path, method.method)}
            assert raised <= named
            checked += len(raised)
    assert checked >= 14


def raises(function: types.FunctionType, owner: type, seen: set[Callable[..., Any]]) -> set[str]:
    """The problems that a function, and whatever of the site it calls by name, speaks of."""
    if function in seen:
        return set()
    seen.add(function)
    names = list(names_in(function.__code__))
    known = [function.__globals__.get(name) for name in names]
    found = {name for name in names if hasattr(problem, name)} if problem in known else set()
    kinds = {kind_of(name) for name in found if inspect.isfunction(getattr(problem, name))}
    methods = [getattr(owner, name, None) for name in names]
    tables = [maker for table in known if isinstance(table, dict) for maker in table.values()]
    for value in (*known, *methods, *tables):
        if not isinstance(value, types.FunctionType):
            continue
        if value.__module__ == problem.__name__:
            kinds.add(kind_of(value.__name__))
        elif value.__module__.startswith("harness.site"):
            kinds |= raises(value, owner, seen)
    return kinds


def names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def kind_of(name: str) -> str:
    maker = getattr(problem, name)
    kind: str = maker(*["" for _ in inspect.signature(maker).parameters]).kind
    return kind


def test_every_status_of_a_vote_and_of_results_is_counted(app: "falcon.App[Any, Any]") -> None:
    metered = ("/polls/{poll}/votes", "/polls/{poll}/results")
    told = {
        each.status
        for each in told_by(document_of(app))
        if each.path in metered and each.method != "OPTIONS"
    }
    assert told <= set(STATUSES)


def test_patterns_end_as_json_schema_has_it(app: "falcon.App[Any, Any]") -> None:
    text = json.dumps(document_of(app))
    assert r"\\Z" not in text
    assert '"pattern": "^[!-~]{1,64}$"' in text


class Silent:
    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        """Says nothing of itself."""


class Talking:
    @operation("Talk", {200: Success("Words", media_type="text/plain")}, problem.not_ready("No"))
    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        """Nothing."""


def test_a_responder_that_says_nothing_of_itself_is_named() -> None:
    with pytest.raises(TypeError, match=r"Silent\.on_get needs"):
        Document({"/talk": Talking(), "/silence": Silent()})


def test_a_responder_is_described_as_it_says() -> None:
    talking = describe({"/talk": Talking()})["paths"]["/talk"]["get"]
    assert talking["summary"] == "Talk"
    assert talking["responses"]["200"]["content"] == {"text/plain": {}}
    assert "Retry-After" in talking["responses"]["503"]["headers"]
    assert "500" in talking["responses"]
