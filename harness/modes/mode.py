"""What a mode is, and where modes are found."""

from collections.abc import Collection
from enum import Enum
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple, Protocol

from harness.deployment import Deployment
from harness.errors import PlanError, PollstormError
from harness.fault import FAULT_KINDS
from harness.history.journal import Journal
from harness.plan import Plan
from harness.protocol.queue import Drained, Terms, VotingProtocol
from harness.slo import nearest
from harness.vote import Poll, Vote

GROUP: Final = "pollstorm.modes"


class Answer(Enum):
    """What a site may tell the voter about one attempt."""

    STORED = "stored"  # committed in the database
    QUEUED = "queued"  # promised
    CONFLICT = "conflict"  # this id was counted with another choice
    ALREADY_VOTED = "already-voted"  # its voter has one vote only, and that is another
    REFUSED = "refused"  # certainly written nowhere
    UNKNOWN = "outcome-unknown"  # nobody can know


class Totals(NamedTuple):
    """Votes per choice of one poll, and when they were counted (Unix time, s)."""

    counts: tuple[int, ...]
    as_of_s: float


class Unavailable(Exception):
    """Neither memcached nor the database could say it just now: a poll, or its totals."""


class Session(Protocol):
    """A mode at work on one request of the site at a time: its own connections, never shared."""

    def find_poll(self, name: str) -> Poll | None:
        """The poll of that name. Raises Unavailable when nobody can say."""

    def list_polls(self) -> tuple[Poll, ...]:
        """All polls, open ones first. Raises Unavailable when nobody can say."""

    def accept(self, vote: Vote) -> Answer:
        """Take the vote in. Never raises for anything that memcached or the database does."""

    def totals(self, poll: Poll) -> Totals:
        """Raises Unavailable."""

    def is_ready(self) -> bool:
        """Whether a vote could be taken in now."""

    def close(self) -> None:
        """Close all connections; safe to call twice."""


class Drain(Protocol):
    """A mode at work in a flusher."""

    @property
    def queues(self) -> int:
        """How many queues there are to drain."""

    def drain(self, number: int) -> Drained:
        """Drain the queue of that number, from 0, to the end of its transaction.

        Never raises for anything that memcached or the database does.
        """

    def polls(self) -> Collection[str]:
        """The names of all polls. Raises Unavailable when nobody can say."""

    def refresh_totals(self, poll: str) -> None:
        """Count the totals of that poll and put them where the results page looks.

        Nothing is done where there is no such poll. Raises Unavailable.
        """

    def close(self) -> None:
        """Close all connections; safe to call twice."""


class Mode(Protocol):
    """One way for votes to travel. `ProtocolMode` has all of it but a name and a protocol."""

    name: str
    promises: bool  # to lose nothing that it acknowledged
    excuses: tuple[str, ...]  # kinds of faults under which it may lose votes all the same

    @property
    def queues(self) -> bool:
        """Whether votes wait for a flusher."""

    def protocol(self, terms: Terms) -> VotingProtocol:
        """What it does with a vote, and how it drains."""

    def session(self, deployment: Deployment, journal: Journal | None) -> Session:
        """A session, for one thread at a time; connects when first used."""

    def drain(self, deployment: Deployment, journal: Journal | None) -> Drain:
        """What a flusher works with; only called if it queues."""


def known_modes() -> list[str]:
    """Names of all installed modes, sorted."""
    return sorted(entry_points(group=GROUP).names)


def find_mode(name: str) -> Mode:
    """The mode of that name. Raises PlanError that names the nearest, or what the mode lacks."""
    for entry in entry_points(group=GROUP, name=name):
        try:
            return _checked(entry.load()(), name, entry.value)
        except PollstormError:  # ours, or a signal
            raise
        except Exception as error:  # it is somebody else's code, and may do anything
            raise PlanError(
                f"mode {name!r} cannot be loaded from {entry.value}: "
                f"{type(error).__name__}: {error}"
            ) from error
    raise PlanError(
        f"no mode {name!r}{nearest(name, known_modes())}; known: {', '.join(known_modes())}"
    )


def daemons_of(mode: Mode, plan: Plan | None) -> int:
    """How many memcached daemons the mode works with under the plan, or without one.

    As many as its protocol knows of; if that is one, and it queues, as the plan has the keys
    spread over.
    """
    daemons = mode.protocol(Terms()).daemons
    return plan.memcached.daemons if plan and daemons == 1 and mode.queues else daemons


def is_spread(mode: Mode, plan: Plan) -> bool:
    """Whether the keys of one queue lie on several daemons, which the protocol does not know."""
    return mode.protocol(Terms()).daemons == 1 < daemons_of(mode, plan)


def voided_by(mode: Mode, plan: Plan) -> tuple[str, ...]:
    """What of the plan takes the mode's promise away: keys that may be looked for elsewhere."""
    moving = is_spread(mode, plan) and plan.memcached.rehash
    return ("rehash",) if mode.promises and moving else ()


def require_memcached(mode: Mode, addresses: int, plan: Plan | None = None) -> None:
    """Raises PlanError when so many memcached daemons are too few for the mode."""
    needed = daemons_of(mode, plan) if mode.protocol(Terms()).needs_memcached else 0
    if addresses < needed:
        daemons = "one memcached" if needed == 1 else f"{needed} memcached daemons"
        raise PlanError(
            f"mode {mode.name} needs {daemons}, and {addresses or 'none'} "
            f"{'is' if addresses < 2 else 'are'} given; write host:port of each"
        )


def _checked(found: Any, name: str, where: str) -> Mode:
    """Whatever an entry point names, if it has what a mode has. Raises PlanError."""
    lacks = [each for each in ("protocol", "session", "drain") if not _is_method(found, each)]
    lacks += [each for each in ("promises", "queues") if not isinstance(_of(found, each), bool)]
    excuses = _of(found, "excuses")
    if not (isinstance(excuses, tuple) and all(each in FAULT_KINDS for each in excuses)):
        lacks.append("excuses")
    if lacks:
        raise PlanError(
            f"mode {name!r} ({where}) has no {', no '.join(lacks)} as harness.modes.mode.Mode "
            "has; derive it from harness.modes.protocol_mode.ProtocolMode, and see docs/design.md, "
            "'Add a mode'"
        )
    if _of(found, "name") != name:
        raise PlanError(
            f"the entry point {name!r} leads to a mode that calls itself "
            f"{_of(found, 'name')!r} ({where}); give both one name"
        )
    mode: Mode = found
    return mode


def _of(found: Any, attribute: str) -> Any:
    return getattr(found, attribute, None)


def _is_method(found: Any, attribute: str) -> bool:
    return callable(_of(found, attribute))
