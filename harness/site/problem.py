"""What a voter is told when a request fails: problem details, RFC 9457."""

from typing import Any, Final

import falcon
import msgspec

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1  # about as long as the queue's patience: sooner meets the same trouble
TYPE_PREFIX: Final = "urn:pollstorm:problem:"


class Details(msgspec.Struct):
    """The body of a problem."""

    type: str
    title: str
    status: int
    detail: str


class Problem(Exception):
    """A request that fails as foreseen. `kind` is for programs, `detail` says what to do."""

    def __init__(self, status: int, kind: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail

    @classmethod
    def of_falcon(cls, request: falcon.Request, error: falcon.HTTPError) -> "Problem":
        """What Falcon found wrong by itself: no such route, wrong method."""
        kind = {404: "no-such-page", 405: "method-not-allowed"}.get(
            error.status_code, "bad-request"
        )
        detail = {
            404: "No page has this address; docs/api.md lists all of them.",
            405: f"{request.method} is not possible here; the Allow header names what is.",
        }.get(error.status_code, error.description or "The request is no HTTP that we understand.")
        title = error.title or "Bad request"
        return cls(error.status_code, kind, title.partition(" ")[2] or title, detail)

    def details(self) -> Details:
        return Details(TYPE_PREFIX + self.kind, self.title, self.status, self.detail)


def unknown_poll() -> Problem:
    return Problem(
        404, "unknown-poll", "Unknown poll", "There is no poll of that name; check the address."
    )


def bad_vote(detail: str) -> Problem:
    return Problem(422, "bad-vote", "Not a vote", detail)


def body_too_large(limit_bytes: int) -> Problem:
    return Problem(
        413,
        "body-too-large",
        "Body too large",
        f"A body may have at most {limit_bytes} bytes; a vote needs about 100.",
    )


def poll_closed() -> Problem:
    return Problem(
        403,
        "poll-closed",
        "Poll closed",
        "This poll takes no votes any more; the vote was written nowhere.",
    )


def body_too_slow() -> Problem:
    return Problem(
        408,
        "body-too-slow",
        "Body too slow",
        "The body took too long to arrive, and nothing was written; send it again at once.",
    )


def conflict() -> Problem:
    return Problem(
        409,
        "conflict",
        "Counted with another choice",
        "This vote id was already counted with another choice, which stands; "
        "use a fresh id for another vote.",
    )


def already_voted() -> Problem:
    return Problem(
        409,
        "already-voted",
        "Already voted",
        "Each voter has one vote in this poll, and another one of this voter was taken in before; "
        "this attempt was written nowhere.",
    )


def refused() -> Problem:
    return Problem(
        503,
        "refused",
        "Vote refused",
        "The vote was written nowhere; send it again, with the same id, after Retry-After.",
    )


def recording_failed() -> Problem:
    return Problem(
        503,
        "recording-failed",
        "Vote refused: recording failed",
        "The site cannot write its journal, so the vote was written nowhere; "
        "the operator has to make room on the disk.",
    )


def outcome_unknown() -> Problem:
    return Problem(
        504,
        "outcome-unknown",
        "Outcome unknown",
        "The vote may or may not be counted; send it again with the same id, "
        "which never counts it twice.",
    )


def poll_unavailable() -> Problem:
    return Problem(
        503,
        "unavailable",
        "Poll unavailable",
        "Neither cache nor database could be asked just now, and nothing was written; "
        "ask again after Retry-After.",
    )


def overloaded() -> Problem:
    return Problem(
        503,
        "overloaded",
        "Too many at once",
        "More came at once than the site can serve, and nothing was written; "
        "send it again, with the same id, after Retry-After.",
    )


def not_ready(detail: str) -> Problem:
    return Problem(503, "not-ready", "Not ready", detail)


def internal_error() -> Problem:
    return Problem(
        500,
        "internal-error",
        "Internal error",
        "The site failed in a way that nobody foresaw; its log names the place.",
    )


def show(
    _request: falcon.Request, response: falcon.Response, problem: Problem, _params: Any
) -> None:
    """Falcon's error handler for problems."""
    _fill(response, problem)
    if problem.status == 503:
        response.set_header("Retry-After", str(RETRY_AFTER_S))


def serialize(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """Falcon's serializer for the errors that it raises itself."""
    _fill(response, Problem.of_falcon(request, error))


def _fill(response: falcon.Response, problem: Problem) -> None:
    response.status = problem.status
    response.content_type = MEDIA_TYPE
    response.data = msgspec.json.encode(problem.details())
