"""What a key of a namespace is called in memcached, and that memcached can read it.

Theory of operation
    A namespace is a text put before each key, with a separator. A versioned one puts a number
    between: its *generation*, which lies in memcached. Another number makes other names of all its
    keys, so everything in it is gone at once, for everybody; what lay there is never asked for
    again, and memcached drops it when its life is over or room is needed.

    A generation is a time in microseconds, plus one for each drop. So one that memcached forgot
    is followed by a later one, and what was dropped does not come back, as long as clocks do not
    go back and there is less than one drop in a microsecond.

What it costs
    One more round trip for each call. Or, if generations are remembered for a while, one in that
    while; a drop by somebody else is then noticed that much later.

Keys that memcached cannot read (over 250 bytes, white space, control characters, no ASCII) would
be read as further words of the command, or as a command of their own. They are never sent.
"""

import re
from collections.abc import Iterable
from enum import Enum
from hashlib import sha256
from time import monotonic, time_ns
from typing import Final, TypeAlias, TypeVar

from harness.cache.answer import Answer, Written
from harness.cache.daemons import DaemonDown, Daemons, Request
from harness.errors import CacheError
from harness.protocol.commands import Status

Key: TypeAlias = str | bytes
Name = TypeVar("Name", str, bytes)
MAX_KEY_BYTES: Final = 250  # memcached's
HASHED: Final = "#"  # opens a hashed key; a key of yours that begins so is hashed too
SHOWN: Final = 60  # characters of a bad key
GENERATION: Final = "@"

_fits: Final = re.compile(rf"[!-~]{{1,{MAX_KEY_BYTES}}}").fullmatch


class BadKey(CacheError, ValueError):
    """A key or namespace that memcached cannot read; choose another, or have such keys hashed."""


class UnfitKeys(Enum):
    """What to do with a key that memcached cannot read, or that is too long with its namespace."""

    REFUSE = "refuse"  # BadKey
    HASH = "hash"  # SHA-256 of namespace and key takes its place


class Generation:
    """The number of a versioned namespace, as it lies in memcached."""

    def __init__(self, daemons: Daemons, remembered_s: float) -> None:
        self._daemons = daemons
        self._remembered_s = remembered_s
        self._number = 0
        self._until_s = 0.0

    def number(self, name: str) -> int:
        """Raises DaemonDown."""
        if self._until_s and monotonic() < self._until_s:
            return self._number
        begun_s = monotonic()
        answer = self._ask(name, 0)
        if answer.status is not Status.OK:
            raise DaemonDown(answer.why)
        self._number = answer.number
        self._until_s = begun_s + self._remembered_s if self._remembered_s else 0.0
        return self._number

    def drop(self, name: str) -> Written:
        """Go on to the next."""
        self._until_s = 0.0
        return self._ask(name, 1).written

    def _ask(self, name: str, more: int) -> Answer:
        # One command does all: where there is none, the time becomes it.
        command = b"ma %s N0 J%d D%d v\r\n" % (name.encode(), time_ns() // 1000, more)
        return self._daemons.ask(Request(name, command))


class Space:
    """One namespace, perhaps in another."""

    def __init__(
        self,
        text: str,
        unfit: UnfitKeys,
        above: "Space | None" = None,
        generation: Generation | None = None,
    ) -> None:
        """`text`: what it puts before its keys, with the separator. Raises BadKey."""
        self._text = text
        self._unfit = unfit
        self._above = above
        self._generation = generation
        self._fixed: str | None = None  # the whole prefix, if no generation is in it
        if generation is None and (above is None or above._fixed is not None):
            self._fixed = (above._fixed or "" if above else "") + text
        fitted(self._fixed or text, "k", unfit)

    def inner(self, name: str, separator: str, generation: Generation | None) -> "Space":
        """A namespace in this one. Raises BadKey."""
        if not name:
            raise BadKey("a namespace in another has a name")
        return Space(name + separator, self._unfit, self, generation)

    def name_of(self, key: Key) -> str:
        """What the key is called in memcached. Raises BadKey, DaemonDown."""
        return fitted(self._prefix(), key, self._unfit)

    def names_of(self, keys: Iterable[Name]) -> dict[Name, str]:
        """As `name_of`, for all keys of one generation."""
        prefix = self._prefix()
        return {key: fitted(prefix, key, self._unfit) for key in keys}

    def drop(self) -> Written:
        """See `NamespacedCache.drop`."""
        if self._generation is None:
            raise TypeError("only a versioned namespace can be dropped: versioned=True")
        try:
            return self._generation.drop(self._generation_name())
        except DaemonDown:
            return Written.NOT_STORED

    def _prefix(self) -> str:
        if self._fixed is not None:
            return self._fixed
        above = self._above._prefix() if self._above else ""
        if self._generation is None:
            return above + self._text
        return f"{above}{self._text}{self._generation.number(self._generation_name())}:"

    def _generation_name(self) -> str:
        above = self._above._prefix() if self._above else ""
        return fitted(above + self._text, GENERATION, self._unfit)


def fitted(prefix: str, key: Key, unfit: UnfitKeys) -> str:
    """Prefix and key, as memcached can read them. Raises BadKey."""
    if isinstance(key, bytes):
        key = key.decode("utf-8", "surrogateescape")
    if not isinstance(key, str) or not key:
        raise BadKey(f"a key is a text or bytes, and not empty; {key!r} is none")
    name = prefix + key
    if unfit is UnfitKeys.REFUSE:
        if _fits(name):
            return name
        raise BadKey(
            f"memcached cannot read the key {shown(name)}: up to {MAX_KEY_BYTES} visible ASCII "
            "characters with its namespace; choose another, or UnfitKeys.HASH"
        )
    if _fits(name) and not key.startswith(HASHED):
        return name
    digest = HASHED + sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return prefix + digest if _fits(prefix + digest) else digest


def shown(name: str) -> str:
    return repr(name) if len(name) <= SHOWN else f"{name[:SHOWN]!r}… of {len(name)}"
