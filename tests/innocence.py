"""What an answer may be, whatever was asked: no server error, nothing injected, nothing let out."""

import re

from harness.site.headers import ALWAYS
from tests.hostile_text import MARKER
from tests.raw_http import Answer

BUSY = (503, 504)
PASSWORD = "zqpasswordqz"
SECRET = "zqsecretqz" * 4
OURS = {*ALWAYS, "allow", "content-length", "content-type", "location", "retry-after", "set-cookie"}
GRANIANS = {"connection", "content-length", "date", "server"}
NO_HTTP = (400, 414, 431)  # what Granian says by itself, with nothing in it
LOCATION = re.compile(r"/polls/[a-z0-9][a-z0-9-]{0,63}(/results)?")
SET_COOKIE = re.compile(
    r"pollstorm-(voter=web-[\w-]{22}\.[\w-]{43}|told=(\"\"|[a-z-]+\.\d{1,3}))"
    r"; HttpOnly; Max-Age=\d+; Path=(/|/polls/[a-z0-9-]{1,64}/results); SameSite=Lax"
)


def require_innocent(answer: Answer) -> None:
    """Raises AssertionError, with the answer, for one that may not be."""
    assert answer.status < 500 or answer.status in BUSY, f"{answer}"
    named = {name for name, _ in answer.headers}
    assert named <= OURS | GRANIANS, f"strange headers: {answer}"
    if not (answer.status in NO_HTTP and not answer.body):
        assert named >= set(ALWAYS), f"headers missing: {answer}"
    for name, value in answer.headers:
        if name == "location":
            assert LOCATION.fullmatch(value), f"{answer}"
        elif name == "set-cookie":
            assert SET_COOKIE.fullmatch(value), f"{answer}"
        else:
            assert not let_out(value), f"{answer}"
    assert not let_out(answer.body.decode("utf-8", "replace")), f"{answer}"


def let_out(text: str) -> list[str]:
    """What of it voters sent, or the site alone may know."""
    return [each for each in (MARKER, PASSWORD, SECRET) if each in text]
