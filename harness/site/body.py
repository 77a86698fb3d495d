"""Request bodies, read within a limit."""

from typing import Any, Final

import falcon

from harness.site import problem
from harness.site.openapi import Success, operation

MAX_BODY_BYTES: Final = 4096  # a vote needs about 100; more than forty times that is no vote
DISCARD_BYTES: Final = 4 << 20  # read and dropped, so that a client still sending sees its 413
_CHUNK_BYTES: Final = 64 << 10


def read_body(request: falcon.Request) -> bytes:
    """The whole body. Raises Problem when it is larger than MAX_BODY_BYTES."""
    stream = request.env["wsgi.input"]  # Granian ends it at the body's end, chunked ones too
    length = request.content_length
    if length is None or length <= MAX_BODY_BYTES:
        body: bytes = stream.read(MAX_BODY_BYTES + 1)
        if len(body) <= MAX_BODY_BYTES:
            return body
    _discard(stream)
    raise problem.body_too_large(MAX_BODY_BYTES)


def _discard(stream: Any) -> None:
    for _ in range(DISCARD_BYTES // _CHUNK_BYTES):
        if len(stream.read(_CHUNK_BYTES)) < _CHUNK_BYTES:
            return


class Void:
    """`POST /void`: reads the body and does nothing; the floor that measurements start from."""

    @operation(
        "Read the body and do nothing",
        {204: Success("Read")},
        problem.body_too_large(MAX_BODY_BYTES),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        read_body(request)
        response.status = falcon.HTTP_204
