"""Request bodies, read within a limit."""

from typing import Final

import falcon

from harness.site import problem
from harness.site.openapi import Success, operation
from harness.site.slow_bodies import Patience, discard, read

MAX_BODY_BYTES: Final = 4096  # a vote needs about 100; more than forty times that is no vote
DISCARD_BYTES: Final = 4 << 20  # read and dropped, so that a client still sending sees its 413
_CHUNK_BYTES: Final = 64 << 10


def _too_large() -> problem.Problem:
    return problem.body_too_large(MAX_BODY_BYTES)


WITH_A_VOTE: Final = Patience(5.0, problem.body_too_slow)  # one packet, or it again a few times
WITH_THE_REST: Final = Patience(1.0, _too_large)


def read_body(request: falcon.Request) -> bytes:
    """The whole body. Raises Problem when it is larger than MAX_BODY_BYTES, or comes too slowly."""
    stream = request.env["wsgi.input"]  # Granian ends it at the body's end, chunked ones too
    length = request.content_length
    if length is None or length <= MAX_BODY_BYTES:
        body = read(stream, MAX_BODY_BYTES + 1, WITH_A_VOTE)
        if len(body) <= MAX_BODY_BYTES:
            return body
    if length is None or length <= DISCARD_BYTES:
        discard(stream, _CHUNK_BYTES, DISCARD_BYTES // _CHUNK_BYTES, WITH_THE_REST)
    raise _too_large()


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
