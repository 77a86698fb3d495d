"""`POST /polls/{poll}/votes`: the hot path of every load test."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import falcon
import msgspec
from msgspec import Meta

from harness.errors import RecordingError
from harness.history.recorder import note_recording_failed
from harness.modes.mode import Answer
from harness.site import log, problem
from harness.site.body import MAX_BODY_BYTES, read_body
from harness.site.metrics import Meters, Request
from harness.site.openapi import Success, operation
from harness.site.polls import NO_POLL, find_poll, require_possible
from harness.site.sessions import Loan, Sessions
from harness.vote import MAX_CHOICES, VOTER_NAME, Vote, VoteId


class VoteAnswer(msgspec.Struct):
    """What is said to a vote that was taken in."""

    status: Literal["stored", "queued"]
    vote: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]


class VoteRequest(msgspec.Struct):
    """A vote. Further fields are ignored: all three are required, so a misspelt one is seen."""

    vote: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    choice: Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
    voter: Annotated[str, Meta(pattern=rf"^{VOTER_NAME.pattern}\Z")]


_RULES: Final = {
    "vote": "vote must be 16 lower-case hex digits, minted by the client",
    "choice": f"choice must be a whole number from 1 to {MAX_CHOICES}",
    "voter": "voter must be 1 to 64 visible ASCII characters",
}
Reader: TypeAlias = Callable[[falcon.Request], VoteRequest]
_BODY: Final = b'{"status":"%s","vote":"%s"}'
_STATUS_OF: Final = {Answer.STORED: 201, Answer.QUEUED: 202}
_PROBLEM_OF: Final = {
    Answer.CONFLICT: problem.conflict,
    Answer.ALREADY_VOTED: problem.already_voted,
    Answer.REFUSED: problem.refused,
    Answer.UNKNOWN: problem.outcome_unknown,
}


class Votes:
    """Takes votes in through a session of the mode."""

    def __init__(self, sessions: Sessions, meters: Meters, folder: Path) -> None:
        self._sessions = sessions
        self._meters = meters
        self._folder = folder
        self._decode = msgspec.json.Decoder(VoteRequest).decode

    @operation(
        "Cast a vote",
        {
            201: Success("Committed", VoteAnswer),
            202: Success("Queued, to be counted", VoteAnswer),
        },
        *NO_POLL,
        *(tell() for tell in _PROBLEM_OF.values()),
        problem.poll_closed(),
        problem.body_too_large(MAX_BODY_BYTES),
        problem.body_too_slow(),
        problem.bad_vote(_RULES["choice"]),
        problem.recording_failed(),
        body=VoteRequest,
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, poll: str) -> None:
        answer, wish = self.take(poll, request, self._read)
        response.status = _STATUS_OF[answer]
        response.data = _BODY % (answer.value.encode(), wish.vote.encode())

    def take(self, poll: str, request: falcon.Request, read: Reader) -> tuple[Answer, VoteRequest]:
        """Take in the vote that `read` finds in the request: STORED or QUEUED, and the vote.

        Raises Problem.
        """
        meter = self._meters.mine
        meter.begin()
        status = 500
        try:
            wish = read(request)
            answer = self._take_in(wish, poll)
            if answer not in _STATUS_OF:
                raise _PROBLEM_OF[answer]()
            status = _STATUS_OF[answer]
            return answer, wish
        except problem.Problem as told:
            status = told.status
            raise
        finally:
            meter.end(Request.VOTE, status)

    def _take_in(self, wish: VoteRequest, poll_name: str) -> Answer:
        require_possible(poll_name)
        with self._sessions.lend() as loan:
            poll = find_poll(loan.session, poll_name)
            if poll.closed:
                raise problem.poll_closed()
            if wish.choice > len(poll.choices):
                raise problem.bad_vote(f"choice must be from 1 to {len(poll.choices)} in this poll")
            number = VoteId(int(wish.vote, 16))
            vote = Vote(number, poll_name, wish.choice, wish.voter, poll.once)
            return self._accept(loan, vote)

    def _read(self, request: falcon.Request) -> VoteRequest:
        try:
            return self._decode(read_body(request))
        except msgspec.ValidationError as error:
            raise problem.bad_vote(_explain(str(error))) from None
        except (ValueError, RecursionError):  # no JSON, no UTF-8, nested too deep
            raise problem.bad_vote(
                "The body must be a JSON object in UTF-8, "
                'such as {"vote": "00000000000000a1", "choice": 1, "voter": "v1"}'
            ) from None

    def _accept(self, loan: Loan, vote: Vote) -> Answer:
        try:
            return loan.session.accept(vote)
        except RecordingError as error:
            loan.discard()
            log.unforeseen("recording", error)
            note_recording_failed(self._folder, error)
            raise problem.recording_failed() from None
        except Exception as error:
            loan.discard()
            log.unforeseen("accepting a vote", error)
            return Answer.UNKNOWN  # how far it came is anybody's guess


def _explain(message: str) -> str:
    """msgspec's message as a sentence that names the field and never quotes what was sent."""
    for field, rule in _RULES.items():
        if message.endswith(f"`$.{field}`"):
            return rule
        if message.endswith(f"missing required field `{field}`"):
            return f"{field} is missing; {rule}"
    return "The body must be a JSON object with vote, choice and voter"
