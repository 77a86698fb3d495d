"""The form that people vote with: the id it is given, and how it is read when it comes back."""

import re
import secrets
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import falcon

from harness.site.body import read_body
from harness.site.cookie import Cookies
from harness.site.problem import Problem, bad_vote
from harness.site.votes import VoteRequest
from harness.vote import VoteId

PEOPLE: Final = 1 << 63  # ids from here on; no load has so many generators
PAPER_ID: Final = re.compile(r"[89a-f][0-9a-f]{15}")
CHOICE: Final = re.compile(r"[1-9][0-9]{0,2}")
FORM: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 8  # a ballot paper has two
NO_CHOICE: Final = "no-choice"


def mint_at_random() -> VoteId:
    """The id of a paper. Among a million of one poll, two meet once in twenty million polls."""
    return VoteId(PEOPLE | secrets.randbits(63))


def cross_site() -> Problem:
    return Problem(
        403,
        "cross-site",
        "Sent from another site",
        "This vote came from a page of another site, so it was not taken in.",
    )


def no_voter() -> Problem:
    return Problem(
        403,
        "no-voter",
        "No cookie",
        "Your browser sent no cookie of this site, so it cannot be seen who votes, and nothing "
        "was counted. Allow this site its cookie, then open the poll again.",
    )


def no_choice() -> Problem:
    return Problem(422, NO_CHOICE, "Nothing chosen", "Choose one of the answers.")


class PaperReader:
    """Reads one paper; `vote_id` and `wish` are there as soon as they could be read."""

    def __init__(self, cookies: Cookies) -> None:
        self._cookies = cookies
        self.vote_id: str | None = None
        self.wish: VoteRequest | None = None

    def __call__(self, request: falcon.Request) -> VoteRequest:
        """Raises Problem for what is no paper of ours, filled in."""
        fields = _fields(request)
        if came_from_elsewhere(request):
            raise cross_site()
        vote_id = fields.get("vote", "")
        if not PAPER_ID.fullmatch(vote_id):
            raise bad_vote("The form has no number of ours.")
        self.vote_id = vote_id
        voter = self._cookies.voter(request)
        if voter is None:
            raise no_voter()
        choice = fields.get("choice")
        if choice is None:
            raise no_choice()
        if not CHOICE.fullmatch(choice):
            raise bad_vote("The form has a choice that no poll has.")
        self.wish = VoteRequest(vote_id, int(choice), voter)
        return self.wish


def came_from_elsewhere(request: falcon.Request) -> bool:
    """Whether a page of another site had the browser send this.

    The rule is that of Go's net/http.CrossOriginProtection: what the browser says of it, or else
    whether its origin has our host. Browsers that say neither are older than both, and keep the
    voter's cookie to themselves (SameSite).
    """
    fetched = request.get_header("Sec-Fetch-Site")
    if fetched is not None:
        return fetched not in {"same-origin", "none"}
    origin = request.get_header("Origin")
    if origin is None:
        return False
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return True
    return host.lower() != (request.get_header("Host") or "").lower()


def _fields(request: falcon.Request) -> dict[str, str]:
    body = read_body(request)
    sent_as = (request.content_type or "").partition(";")[0].strip().lower()
    if sent_as != FORM:
        raise bad_vote(f"A form is sent as {FORM}.")
    try:
        return dict(parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError:
        raise bad_vote("The form cannot be read.") from None
