"""The site's OpenAPI document, and `GET /openapi.json`, which shows it.

It is made from what the responders say of themselves with `operation`, right above the code that
does it: routes, methods and bodies are those that the site has. What Granian refuses by itself
because it is no HTTP reaches no operation, and is not in it.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import falcon
import msgspec
from falcon.routing import map_http_methods

from harness.site.problem import MEDIA_TYPE, RETRY_AFTER_S, Details, Problem, internal_error
from harness.vote import POLL_NAME

OPENAPI: Final = "3.1.0"
ADDRESS: Final = "/openapi.json"
JSON: Final = "application/json"
PARAMETERS: Final = {"poll": POLL_NAME}

Body: TypeAlias = type[msgspec.Struct]
Described: TypeAlias = dict[str, Any]
Responder = TypeVar("Responder", bound=Callable[..., None])

_SAID: Final = "openapi_operation"
_DESCRIPTION: Final = (
    "docs/api.md says what each answer promises. An address without a page is answered with 404 "
    "no-such-page, a wrong method with 405 method-not-allowed. Who prefers text/html to JSON gets "
    "pages for people at the same addresses, and sends forms there: they are not in here."
)
_TEXT: Final = {"schema": {"type": "string"}}
_ALLOW: Final = {"Allow": {"required": True, **_TEXT}}
_RETRY_AFTER: Final = {
    "Retry-After": {
        "required": True,
        "description": "s",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "example": str(RETRY_AFTER_S),
    }
}


class Success(NamedTuple):
    """An answer that is no problem; `body` when it has one in JSON."""

    meaning: str
    body: Body | None = None
    media_type: str | None = None


class Operation(NamedTuple):
    """What a responder takes and answers; of each kind of problem that it tells, an example."""

    summary: str
    successes: Mapping[int, Success]
    problems: tuple[Problem, ...]
    body: Body | None


def operation(
    summary: str, successes: Mapping[int, Success], *problems: Problem, body: Body | None = None
) -> Callable[[Responder], Responder]:
    """Decorates a responder with what the document says of it."""

    def decorate(responder: Responder) -> Responder:
        setattr(responder, _SAID, Operation(summary, successes, problems, body))
        return responder

    return decorate


class Document:
    """What the site can be asked, for programs."""

    def __init__(self, resources: Mapping[str, object]) -> None:
        """Of a site with these resources and itself. Raises TypeError as `describe` does."""
        self._encoded = msgspec.json.encode(describe({**resources, ADDRESS: self}))

    @operation("This document", {200: Success("OpenAPI", media_type=JSON)})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.data = self._encoded

    on_head = on_get


def describe(resources: Mapping[str, object]) -> Described:
    """The document of a site with these resources, by their address in Falcon's form.

    Raises TypeError when a responder does not say what it does.
    """
    operations = {path: _operations(resource) for path, resource in resources.items()}
    bodies = _bodies(operations)
    schemas, components = msgspec.json.schema_components(
        bodies, ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(bodies, schemas, strict=True))
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "pollstorm's vote server",
            "version": version("pollstorm"),
            "description": _DESCRIPTION,
        },
        "paths": {path: _path_item(path, said, schema_of) for path, said in operations.items()},
        "components": {"schemas": _in_ecmascript(components)},
    }


def _operations(resource: object) -> dict[str, Operation]:
    """What a resource can do, by method."""
    found = {}
    for method, responder in map_http_methods(resource).items():
        said = getattr(responder, _SAID, None)
        if not isinstance(said, Operation):
            name = getattr(responder, "__qualname__", repr(responder))
            raise TypeError(f"{name} needs the decorator harness.site.openapi.operation")
        found[method] = said
    return found


def _bodies(operations: Mapping[str, Mapping[str, Operation]]) -> list[Body]:
    """Each type of body once."""
    each = [said for methods in operations.values() for said in methods.values()]
    bodies = [Details, *(said.body for said in each)]
    bodies += [success.body for said in each for success in said.successes.values()]
    return list(dict.fromkeys(body for body in bodies if body is not None))


def _path_item(
    path: str, operations: Mapping[str, Operation], schema_of: Mapping[Body, Described]
) -> Described:
    item: Described = {
        method.lower(): _operation(said, schema_of, head=method == "HEAD")
        for method, said in operations.items()
    }
    item["options"] = {
        "summary": "What can be done here",
        "responses": {"200": {"description": "Its methods", "headers": _ALLOW}},
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": f"^{pattern.pattern}$"},
        }
        for name, pattern in PARAMETERS.items()
        if f"{{{name}}}" in path
    ]
    return {"parameters": parameters, **item} if parameters else item


def _operation(said: Operation, schema_of: Mapping[Body, Described], *, head: bool) -> Described:
    responses = {
        str(status): _success(success, schema_of) for status, success in said.successes.items()
    }
    problems = (*said.problems, internal_error())
    for status in sorted({problem.status for problem in problems}):
        same = [problem for problem in problems if problem.status == status]
        responses[str(status)] = _failure(status, same, schema_of[Details])
    if head:
        for response in responses.values():
            response.pop("content", None)
    described: Described = {"summary": said.summary, "responses": responses}
    if said.body:
        content = {JSON: {"schema": schema_of[said.body]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _success(success: Success, schema_of: Mapping[Body, Described]) -> Described:
    described: Described = {"description": success.meaning}
    if success.body:
        described["content"] = {JSON: {"schema": schema_of[success.body]}}
    elif success.media_type:
        described["content"] = {success.media_type: {}}
    return described


def _failure(status: int, problems: list[Problem], schema: Described) -> Described:
    """One status of problems; programs tell its kinds apart by `type`."""
    kinds = {problem.kind: msgspec.to_builtins(problem.details()) for problem in problems}
    types = {"enum": [example["type"] for example in kinds.values()]}
    narrowed = {"properties": {"type": types, "status": {"const": status}}}
    return {
        "description": "; ".join(problem.title for problem in problems),
        "content": {
            MEDIA_TYPE: {
                "schema": {"allOf": [schema, narrowed]},
                "examples": {kind: {"value": example} for kind, example in kinds.items()},
            }
        },
        **({"headers": _RETRY_AFTER} if status == 503 else {}),
    }


def _in_ecmascript(schema: Any) -> Any:
    """Patterns as JSON Schema has them: there `$` is the very end, for which Python has `\\Z`."""
    if isinstance(schema, dict):
        return {
            key: value.replace(r"\Z", "$") if key == "pattern" else _in_ecmascript(value)
            for key, value in schema.items()
        }
    return [_in_ecmascript(each) for each in schema] if isinstance(schema, list) else schema
