"""What a mode is, and where modes are found."""

from enum import Enum
from importlib.metadata import entry_points
from typing import Final, NamedTuple, Protocol

from harness.errors import PlanError
from harness.history.journal import Journal
from harness.plan import Deployment
from harness.slo import nearest
from harness.vote import Poll, Vote

GROUP: Final = "pollstorm.modes"


class Answer(Enum):
    """What a site may tell the voter about one attempt."""

    STORED = "stored"  # committed in the database
    QUEUED = "queued"  # promised
    CONFLICT = "conflict"  # this id was counted with another choice
    REFUSED = "refused"  # certainly written nowhere
    UNKNOWN = "outcome-unknown"  # nobody can know


class Totals(NamedTuple):
    """Votes per choice of one poll, and when they were counted (Unix time, s)."""

    counts: tuple[int, ...]
    as_of_s: float


class TotalsUnavailable(Exception):
    """Neither memcached nor the database could say the totals just now."""


class Session(Protocol):
    """A mode at work in one thread of the site: its own connections, never shared."""

    def find_poll(self, name: str) -> Poll | None:
        """The poll of that name. Raises TotalsUnavailable when nobody can say."""

    def accept(self, vote: Vote) -> Answer:
        """Take the vote in. Never raises for anything that memcached or the database does."""

    def totals(self, poll: Poll) -> Totals:
        """Raises TotalsUnavailable."""

    def is_ready(self) -> bool:
        """Whether a vote could be taken in now."""

    def close(self) -> None:
        """Close all connections; safe to call twice."""


class Mode(Protocol):
    """One way for votes to travel."""

    name: str
    promises: bool  # to lose nothing that it acknowledged
    queues: bool  # whether a flusher drains it

    def session(self, deployment: Deployment, journal: Journal | None) -> Session:
        """A session for the calling thread; connects when first used."""


def known_modes() -> list[str]:
    """Names of all installed modes, sorted."""
    return sorted(entry_points(group=GROUP).names)


def find_mode(name: str) -> Mode:
    """The mode of that name. Raises PlanError that names the nearest."""
    for entry in entry_points(group=GROUP, name=name):
        mode: Mode = entry.load()()
        return mode
    raise PlanError(
        f"no mode {name!r}{nearest(name, known_modes())}; known: {', '.join(known_modes())}"
    )
