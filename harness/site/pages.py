"""Pages for people: templates, what they are given to say, and the files that go with them."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple

import falcon
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.modes.mode import Totals
from harness.site.cookie import Tidings, Told
from harness.site.headers import Response
from harness.site.problem import Problem
from harness.vote import Poll

HERE: Final = Path(__file__).parent
TEMPLATES: Final = HERE / "templates"
FILES: Final = HERE / "static"
STATIC: Final = "/static/"  # addresses of files
FILE_METHODS: Final = ("GET", "HEAD")
DIGITS: Final = 12  # of a file's digest: two versions of it never have one address
STYLE: Final = (TEMPLATES / "style.css").read_text(encoding="utf-8")
POLICY: Final = {
    "content-security-policy": "default-src 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
}
"""A page may load our own files, has this very style, and nothing else."""
YEAR_S: Final = 365 * 24 * 3600
MEDIA_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
S_PER: Final = {"hour": 3600, "minute": 60, "second": 1}


class Page(Response):
    """The answer that a page is in."""

    def __init__(self, options: falcon.ResponseOptions | None = None) -> None:
        super().__init__(options)
        self.set_headers(POLICY)


class File:
    """A file that pages refer to. Its address changes with its content, so it is kept for good."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.media_type = MEDIA_TYPES[path.suffix]
        digest = sha256(self.data).hexdigest()[:DIGITS]
        self.address = f"{STATIC}{path.stem}-{digest}{path.suffix}"


class Bar(NamedTuple):
    """One choice on the results page."""

    text: str
    votes: int
    share: float  # of all votes, 0 to 1
    mine: bool


class Say(NamedTuple):
    """A problem as people are told it: heading and sentence."""

    heading: str
    sentence: str


_CUT_OFF: Final = "Perhaps its address was cut off somewhere."
_NO_VOTE: Final = Say(
    "That was no vote", "The form could not be read. Open the poll again, and vote there."
)
SAY: Final = {
    "unknown-poll": Say("There is no such poll", _CUT_OFF),
    "no-such-page": Say("There is no such page", _CUT_OFF),
    "overloaded": Say("Too many people at once", "More are here than the site can serve just now."),
    "unavailable": Say("Not available just now", "The site cannot reach its records."),
    "refused": Say("The site is in trouble", "It cannot take in votes just now."),
    "recording-failed": Say("The site is in trouble", "It cannot take in votes just now."),
    "outcome-unknown": Say(
        "We do not know whether your vote is counted",
        "The answer did not come in time. Vote again with the button below: it never counts twice.",
    ),
    "bad-vote": _NO_VOTE,
    "body-too-large": _NO_VOTE,
    "body-too-slow": Say(
        "That took too long",
        "Your vote did not come through whole, so it was written nowhere. Open the poll again, "
        "and vote there.",
    ),
    "internal-error": Say("Something went wrong", "It is our fault, not yours."),
}
"""By kind of problem. All others are told in the API's own words."""
NOTICE: Final = {
    Told.STORED: ("good", "Thank you. Your vote is counted."),
    Told.QUEUED: ("good", "Thank you. Your vote is taken in; the results will have it shortly."),
    Told.ALREADY_VOTED: (
        "unsure",
        "You have already voted. In this poll a voter is counted once, and your first vote stands.",
    ),
    Told.CONFLICT: (
        "unsure",
        "You had sent this form before, with another choice. That first vote stands.",
    ),
    Told.CLOSED: ("unsure", "The poll had closed before your vote came, so it was not counted."),
}
TAKEN_IN: Final = (Told.STORED, Told.QUEUED)


class Pages:
    """All pages, their templates compiled once."""

    def __init__(self) -> None:
        files = {path.stem: File(path) for path in FILES.iterdir()}
        self._files = {file.address: file for file in files.values()}
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals |= {"style": Markup(STYLE), "file": files}
        environment.filters |= {
            "count": count,
            "percent": percent,
            "votes": votes,
            "age": age,
            "total": total,
        }
        names = environment.list_templates(extensions=["html"])
        self._templates = {name: environment.get_template(name) for name in names}

    def send(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:
        """Answer with a file of ours, 404 or 405."""
        file = self._files.get(req.path)
        if file is None:
            raise falcon.HTTPNotFound
        if req.method not in FILE_METHODS:
            raise falcon.HTTPMethodNotAllowed(FILE_METHODS)
        resp.content_type = file.media_type
        resp.cache_control = (f"public, max-age={YEAR_S}, immutable",)
        resp.data = file.data

    def polls(self, polls: tuple[Poll, ...]) -> bytes:
        """All polls, open ones first."""
        open_ones = [poll for poll in polls if not poll.closed]
        closed = [poll for poll in polls if poll.closed]
        return self._fill("polls.html", open=open_ones, closed=closed)

    def poll(self, poll: Poll, vote_id: str, error: str | None = None) -> bytes:
        """The ballot paper; `error` says what was wrong with it as it came."""
        return self._fill("poll.html", poll=poll, vote_id=vote_id, error=error)

    def results(self, poll: Poll, totals: Totals, tidings: Tidings | None) -> bytes:
        """The bars, and above them what became of the reader's vote."""
        total = sum(totals.counts)
        mine = tidings.choice if tidings and tidings.told in TAKEN_IN else 0
        bars = [
            Bar(text, votes, votes / total if total else 0.0, number == mine)
            for number, (text, votes) in enumerate(
                zip(poll.choices, totals.counts, strict=True), start=1
            )
        ]
        return self._fill(
            "results.html",
            poll=poll,
            bars=bars,
            total=total,
            age_s=max(0.0, time() - totals.as_of_s),
            notice=NOTICE[tidings.told] if tidings else None,
        )

    def problem(
        self,
        problem: Problem,
        *,
        poll: str | None = None,
        again: tuple[str, int] | None = None,
        tidings: Tidings | None = None,
    ) -> bytes:
        """What went wrong; `again`: id and choice of a vote that may be sent again.

        `tidings`: what became of the vote that led here, whatever else went wrong.
        """
        return self._fill(
            "problem.html",
            said=SAY.get(problem.kind, Say(problem.title, problem.detail)),
            status=problem.status,
            poll=poll,
            again=again,
            notice=NOTICE[tidings.told] if tidings else None,
        )

    def _fill(self, template: str, **values: Any) -> bytes:
        return self._templates[template].render(values).encode()


def count(number: int) -> str:
    """A number as people write it; static/results.js has the same rule, as for the next three."""
    return f"{number:,}"


def votes(number: int) -> str:
    return "1 vote" if number == 1 else f"{count(number)} votes"


def total(number: int) -> str:
    return votes(number) if number else "No votes yet"


def percent(share: float) -> str:
    """Whole percent, but never 0 for what somebody voted, nor 100 while anybody did otherwise."""
    whole = int(share * 100 + 0.5)
    if 0 < share < 1:
        whole = min(max(whole, 1), 99)
    return f"{whole} %"


def age(age_s: float) -> str:
    """How long ago, in its largest unit."""
    for unit, seconds in S_PER.items():
        number = int(age_s // seconds)
        if number:
            return f"1 {unit} ago" if number == 1 else f"{number} {unit}s ago"
    return "just now"
