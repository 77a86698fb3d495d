"""The voter's cookie, and what the results page is to tell her once.

The cookie holds a random name and its signature, so nobody can make one up or guess another's. It
stands for a browser, not for a person: who deletes it is somebody else. Programs that use the API
say by themselves who votes.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import falcon
from itsdangerous import BadSignature, Signer

from harness.deployment import Deployment
from harness.errors import PlanError, RecordingError
from harness.vote import MAX_CHOICES, VOTER_NAME

SECRET: Final = "POLLSTORM_SECRET"
KEY_FILE: Final = "voters.key"  # in a deployment's folder, when no secret is given
LEAST_SECRET: Final = 32  # characters; `openssl rand -hex 16` and more are beyond guessing
KEY_BYTES: Final = 32
NAME_BYTES: Final = 16  # two browsers in a trillion trillion meet
LIFE_S: Final = 400 * 24 * 3600  # browsers keep no cookie longer than that
TOLD_LIFE_S: Final = 60  # until the page that a vote leads to has come
_SALT: Final = "pollstorm voter"


def voters_key(deployment: Deployment) -> str:
    """What signs the cookies of all the site's processes, and of those after a restart.

    The environment's secret, or the deployment's, or one that is made once and kept in the
    deployment's folder. Raises PlanError for a secret that is too short, RecordingError when none
    can be kept.
    """
    given = os.environ.get(SECRET) or deployment.secret
    if given:
        if len(given) < LEAST_SECRET:
            raise PlanError(
                f"the secret ({SECRET}, or the deployment's) has fewer than {LEAST_SECRET} "
                "characters; make one with `openssl rand -hex 32`"
            )
        return given
    path = Path(deployment.folder) / KEY_FILE
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _keep_new_key(path)
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise RecordingError(
            f"cannot keep a key in {path}: {error.strerror}; make room, or set {SECRET}"
        ) from error


def _keep_new_key(path: Path) -> None:
    """Whole from the moment it has its name; whichever process comes first, all read one key."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # readable for its owner alone
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES))
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        Path(draft).unlink()


class Told(Enum):
    """What became of the vote that led to the results page."""

    STORED = "stored"
    QUEUED = "queued"
    ALREADY_VOTED = "already-voted"
    CONFLICT = "conflict"  # the same ballot paper had been sent before, with another choice
    CLOSED = "poll-closed"


class Tidings(NamedTuple):
    """For the results page: what became of the vote, and for which choice it was."""

    told: Told
    choice: int


class Cookies:
    """Reads and sets our cookies; `https`: people come through https, and so must they."""

    def __init__(self, key: str, *, https: bool) -> None:
        self._signer = Signer(key, salt=_SALT, key_derivation="hmac", digest_method=sha256)
        self._secure = https
        # With this prefix, browsers take it from this very host only, and by https.
        self._voter = "__Host-pollstorm-voter" if https else "pollstorm-voter"
        self._told = "pollstorm-told"

    def voter(self, request: falcon.Request) -> str | None:
        """The name in the cookie, if we signed it."""
        for value in _values(request, self._voter):
            try:
                name = self._signer.unsign(value).decode("ascii")
            except (BadSignature, UnicodeError):
                continue
            if VOTER_NAME.fullmatch(name):
                return name
        return None

    def name_voter(self, response: falcon.Response) -> None:
        """Give a new voter a name that nobody has had."""
        name = f"web-{secrets.token_urlsafe(NAME_BYTES)}"
        value = self._signer.sign(name).decode("ascii")
        self._set(response, self._voter, value, LIFE_S, "/")

    def tidings(self, request: falcon.Request) -> Tidings | None:
        """What the results page has yet to tell."""
        for value in _values(request, self._told):
            word, _, number = value.partition(".")
            known = word in {each.value for each in Told}
            if known and number.isascii() and number.isdecimal() and len(number) <= 3:
                return Tidings(Told(word), min(int(number), MAX_CHOICES))
        return None

    def tell(self, response: falcon.Response, path: str, tidings: Tidings) -> None:
        """Have the page at this path tell it; not in its address, which people pass on."""
        value = f"{tidings.told.value}.{tidings.choice}"
        self._set(response, self._told, value, TOLD_LIFE_S, path)

    def told(self, response: falcon.Response, path: str) -> None:
        """It was told: not again."""
        self._set(response, self._told, "", 0, path)

    def _set(
        self, response: falcon.Response, name: str, value: str, life_s: int, path: str
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=life_s,
            path=path,
            secure=self._secure,
            http_only=True,
            same_site="Lax",
        )


def _values(request: falcon.Request, name: str) -> Iterator[str]:
    """The values of all cookies of that name, as they were sent.

    Ours are words, so nothing is unquoted. Python does that for Falcon, before 3.11.10 and 3.12.6
    in quadratic time (CVE-2024-7592): one header of 14 KiB took 0.2 s.
    """
    for cookie in request.get_header("Cookie", default="").split(";"):
        key, _, value = cookie.partition("=")
        if key.strip() == name:
            yield value.strip()
