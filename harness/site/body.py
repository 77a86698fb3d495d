"""Request bodies, read within a limit."""

from time import monotonic
from typing import Any, Final

import falcon

from harness.site import problem
from harness.site.openapi import Success, operation
from harness.site.slow_bodies import PATIENCE_S, read

MAX_BODY_BYTES: Final = 4096  # a vote needs about 100; more than forty times that is no vote
DISCARD_BYTES: Final = 4 << 20  # read and dropped, so that a client still sending sees its 413 ...
DISCARD_S: Final = 1.0  # ... unless it takes longer
_CHUNK_BYTES: Final = 64 << 10


def read_body(request: falcon.Request) -> bytes:
    """The whole body. Raises Problem when it is larger than MAX_BODY_BYTES, or comes too slowly."""
    stream = request.env["wsgi.input"]  # Granian ends it at the body's end, chunked ones too
    length = request.content_length
    if length is None or length <= MAX_BODY_BYTES:
        until_s = monotonic() + PATIENCE_S
        body = read(stream, MAX_BODY_BYTES + 1, until_s, problem.body_too_slow)
        if len(body) <= MAX_BODY_BYTES:
            return body
    if length is None or length <= DISCARD_BYTES:
        _discard(stream)
    raise _too_large()


def _too_large() -> problem.Problem:
    return problem.body_too_large(MAX_BODY_BYTES)


def _discard(stream: Any) -> None:
    until_s = monotonic() + DISCARD_S
    for _ in range(DISCARD_BYTES // _CHUNK_BYTES):
        if len(read(stream, _CHUNK_BYTES, until_s, _too_large)) < _CHUNK_BYTES:
            return


class Void:
    """`POST /void`: reads the body and does nothing; the floor that measurements start from."""

    @operation(
        "Read the body and do nothing",
        {204: Success("Read")},
        problem.body_too_large(MAX_BODY_BYTES),
        problem.body_too_slow(),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        read_body(request)
        response.status = falcon.HTTP_204
