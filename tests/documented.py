"""A client that holds the site to its own OpenAPI document, whatever it is asked."""

import json
import re
from typing import Any, NamedTuple

import falcon
import falcon.testing

from harness.site.openapi import ADDRESS
from harness.site.problem import MEDIA_TYPE, TYPE_PREFIX

NOWHERE = {404: {"no-such-page"}, 405: {"method-not-allowed"}, 400: {"bad-request"}}
"""What is told where no operation is: no such address, no such method, no method at all."""


class Told(NamedTuple):
    """One answer of an operation; `kind` is a problem's, or empty."""

    path: str
    method: str
    status: int
    kind: str


def told_by(document: dict[str, Any]) -> set[Told]:
    """Every answer that the document names."""
    return {
        Told(path, method.upper(), int(status), kind)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
        for status, response in operation["responses"].items()
        for kind in _kinds(response)
    }


def _kinds(response: dict[str, Any]) -> list[str]:
    shown = response.get("content", {}).get(MEDIA_TYPE)
    if shown is None:
        return [""]
    types = shown["schema"]["allOf"][1]["properties"]["type"]["enum"]
    return [each.removeprefix(TYPE_PREFIX) for each in types]


def document_of(app: "falcon.App[Any, Any]") -> dict[str, Any]:
    document: dict[str, Any] = falcon.testing.TestClient(app).simulate_get(ADDRESS).json
    return document


class DocumentedClient(falcon.testing.TestClient):
    """Asserts that each answer is in the document, and remembers it in `seen`."""

    def __init__(self, app: "falcon.App[Any, Any]") -> None:
        super().__init__(app)
        self.named = told_by(document_of(app))
        self.seen: set[Told] = set()

    def simulate_request(self, *arguments: Any, **options: Any) -> falcon.testing.Result:
        result = super().simulate_request(*arguments, **options)
        method, path = arguments[:2]
        told = Told(self._template(path), method, result.status_code, _kind_in(result))
        if (told.path, told.method) in {named[:2] for named in self.named}:
            assert told in self.named, f"{told} is not in the document"
            self.seen.add(told)
        else:
            assert told.kind in NOWHERE[told.status] or method == "HEAD"
        return result

    def _template(self, path: str) -> str:
        for template in {named.path for named in self.named}:
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                return template
        return path


def _kind_in(result: falcon.testing.Result) -> str:
    if result.headers.get("content-type") != MEDIA_TYPE or not result.content:
        return ""
    kind: str = json.loads(result.content)["type"]
    return kind.removeprefix(TYPE_PREFIX)
