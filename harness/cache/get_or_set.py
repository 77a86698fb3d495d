"""Read through memcached: the cached value, or a calculated one, and only one calculates.

Theory of operation
    Everybody asks for the value by one meta command that also takes a *lease*:

        mg KEY v f c N<lease_s> [R<stale_s + 1>]

    Where nothing is, memcached puts an empty placeholder that lives for `lease_s`, and tells the
    asker that it has won (W); all others are told that somebody has (Z). The winner calculates,
    and stores with the CAS of what it won. Who lost asks again after a nap. With `stale_s` a value
    is kept for so long beyond its time; then the first asker wins too, and all others get the old
    value without waiting. A hit is one round trip, whether or not there is a crowd.

    The winner dies: its placeholder ends with the lease, and the next asker wins.
    The winner is slow: another wins meanwhile, and the CAS keeps the first from storing late.
    The value is deleted or set while the winner calculates: its CAS fits no more, so what it read
    before does not come back.
    The calculation fails: the winner gives the lease up, and raises. If there is an old value, it
    keeps the lease: the others go on with the old value rather than fail one after the other.

Why not a lock key
    A lock key beside the value needs a second round trip for each miss, and one for each loser and
    nap; who dies with it leaves a lock that says nothing of the value; and lock and value may lie
    on two daemons. A lock must also be released, by a command that can be lost. The lease is in
    the item that everybody asks for anyway. It needs memcached 1.6, and leases of 2 s at least: its
    clock ticks once a second, so 1 s may be over at once.

What it cannot do
    Without memcached everybody calculates. `calculate` may run twice at one time, when it takes
    longer than the lease.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from random import Random
from time import monotonic, sleep, time
from typing import Final, Generic, NamedTuple, TypedDict, TypeVar

from harness.cache.answer import Answer, Lease, Written
from harness.cache.codec import Codec, UnreadableValue, decoded, encoded
from harness.cache.daemons import Daemons, Request
from harness.errors import CacheError
from harness.protocol.commands import Status

LEASE_S: Final = 5  # longer than most calculations; a winner's death costs the others so much
WAIT_S: Final = 5.0  # as long as the lease: then the value is there, or the asker has won itself
WON: Final = Lease.WON
JITTER: Final = 0.1  # of the time: what was stored together does not end together
LEAST_LIFE_S: Final = 2  # of one second memcached's clock may leave nothing
MONTH_S: Final = 30 * 24 * 3600  # what is longer memcached takes for a date
FIRST_NAP_S: Final = 0.002  # a quick query
LONGEST_NAP_S: Final = 0.05  # so late at most is a value seen; 64 who nap ask 1,700 times/s
NAP_GROWTH: Final = 1.5
MOST_STORES: Final = 2
"""Of one refresh. When the first failed, and the second fails too, then because of a value of
somebody who had read, and begun to calculate, after the first: it is newer than ours."""

Value = TypeVar("Value")
Name = TypeVar("Name")


class AfterWait(Enum):
    """What to do when the value of somebody else's calculation has not come in time."""

    CALCULATE = "calculate"  # too, without storing it
    RAISE = "raise"  # WaitedInVain


class WaitedInVain(CacheError):
    """Who calculates a value is slow or has died; wait longer, or calculate instead."""


class Terms(NamedTuple):
    """How long things may take and last."""

    ttl_s: int  # a value is fresh for so long at most; 0: until it is replaced
    stale_s: int = 0  # for so long beyond do others get it while one calculates
    lease_s: int = LEASE_S  # after so long without a result somebody else calculates
    wait_s: float = WAIT_S  # for somebody else's result
    after_wait: AfterWait = AfterWait.CALCULATE
    jitter: float = JITTER  # share of the time by which a value may end earlier

    def checked(self) -> "Terms":
        """Raises ValueError for times that cannot be kept."""
        if self.ttl_s < 0 or self.stale_s < 0 or self.wait_s < 0 or not 0 <= self.jitter < 1:
            raise ValueError(f"times are not negative, and jitter is from 0 to below 1: {self}")
        if self.lease_s < LEAST_LIFE_S or (self.ttl_s and self.ttl_s + self.stale_s < LEAST_LIFE_S):
            raise ValueError(
                f"memcached's clock ticks once a second: a lease, and ttl_s and stale_s together, "
                f"are {LEAST_LIFE_S} s at least: {self}"
            )
        if self.stale_s and not self.ttl_s:
            raise ValueError(f"a value that is kept until it is replaced is never stale: {self}")
        return self


class Waiting(TypedDict, total=False):
    """All of `Terms` but the times that a value is kept."""

    lease_s: int
    wait_s: float
    after_wait: AfterWait
    jitter: float


class Nap:
    """Waiting for somebody else, in naps that grow, until the time is over."""

    def __init__(self, wait_s: float, random: Random) -> None:
        self._until_s = monotonic() + wait_s
        self._random = random
        self._nap_s = FIRST_NAP_S

    def take(self) -> bool:
        """Whether one was taken; False when time is out."""
        left_s = self._until_s - monotonic()
        if left_s <= 0:
            return False
        sleep(min(left_s, self._nap_s * self._random.uniform(0.5, 1.0)))
        self._nap_s = min(LONGEST_NAP_S, self._nap_s * NAP_GROWTH)
        return True


class Found(NamedTuple, Generic[Value]):
    """A value that was there."""

    value: Value | None


class ReadThrough(Generic[Value]):
    """Values of one codec, by the names that they have in memcached."""

    def __init__(self, daemons: Daemons, codec: Codec[Value], random: Random) -> None:
        self._daemons = daemons
        self._codec = codec
        self._random = random

    def get(self, name: str, calculate: Callable[[], Value | None], terms: Terms) -> Value | None:
        """The value, or else what `calculate` returns; what that raises is passed on."""
        request = Request(name, _lookup(name, terms))
        nap: Nap | None = None
        while True:  # until the wait is over
            answer = self._look_at(request, self._daemons.ask(request))
            if isinstance(answer, Found):
                return answer.value
            if answer.status is not Status.OK:
                return calculate()  # without memcached; or it has no room for a placeholder
            if answer.lease is WON:
                return self._won(name, answer, calculate, terms)
            nap = nap or Nap(terms.wait_s, self._random)
            if not nap.take():
                break
        if terms.after_wait is AfterWait.RAISE:
            raise WaitedInVain(_in_vain([name], terms))
        return calculate()

    def get_many(
        self,
        names: Mapping[Name, str],
        calculate: Callable[[Sequence[Name]], Mapping[Name, Value | None]],
        terms: Terms,
    ) -> dict[Name, Value | None]:
        """As `get`, with one call for all that are to be calculated at one time."""
        values: dict[Name, Value | None] = {}
        left = list(names)
        nap: Nap | None = None
        while left:  # until the wait is over
            requests = [Request(names[key], _lookup(names[key], terms)) for key in left]
            answers = self._daemons.ask_all(requests)
            won: dict[Name, Answer] = {}
            for key, request, each in zip(left, requests, answers, strict=True):
                answer = self._look_at(request, each)
                if isinstance(answer, Found):
                    values[key] = answer.value
                elif answer.status is not Status.OK or answer.lease is WON:
                    won[key] = answer
            if won:
                values |= self._all_won(names, won, calculate, terms)
            left = [key for key in left if key not in values]
            nap = nap or Nap(terms.wait_s, self._random)
            if left and not nap.take():
                break
        if left and terms.after_wait is AfterWait.RAISE:
            raise WaitedInVain(_in_vain([names[key] for key in left], terms))
        if left:
            values |= _complete(calculate(left), left)
        return {key: values[key] for key in names}

    def refresh(self, name: str, calculate: Callable[[], Value | None], terms: Terms) -> Written:
        """Calculate, and replace what is there, but nothing that was calculated later.

        `STORED`: what is there now was calculated after the call, here or by somebody else.
        """
        lookup = Request(name, b"mg %s f c N%d\r\n" % (name.encode(), terms.lease_s))
        for _ in range(MOST_STORES):
            before = self._daemons.ask(lookup)
            if before.status is not Status.OK:
                return Written.NOT_STORED
            try:
                stored = self._store(name, before, calculate(), terms)
            except BaseException:
                if before.lease is WON:
                    self._give_up(name, before)
                raise
            if stored.status not in (Status.EXISTS, Status.MISSING):
                return stored.written
        return Written.STORED if stored.status is Status.EXISTS else Written.NOT_STORED

    def _look_at(self, request: Request, answer: Answer) -> "Answer | Found[Value]":
        """The value that is there, or an answer to act upon.

        What cannot be read is taken away, and asked for once more.
        """
        if answer.status is not Status.OK or answer.lease is WON or answer.is_placeholder:
            return answer
        try:
            return Found(decoded(self._codec, answer))
        except UnreadableValue:
            self._give_up(request.name, answer)
            return self._daemons.ask(request)

    def _won(
        self, name: str, answer: Answer, calculate: Callable[[], Value | None], terms: Terms
    ) -> Value | None:
        try:
            value = calculate()
            self._store(name, answer, value, terms)
        except BaseException:
            if answer.is_placeholder:
                self._give_up(name, answer)
            raise
        return value

    def _all_won(
        self,
        names: Mapping[Name, str],
        won: Mapping[Name, Answer],
        calculate: Callable[[Sequence[Name]], Mapping[Name, Value | None]],
        terms: Terms,
    ) -> dict[Name, Value | None]:
        leased = {key: answer for key, answer in won.items() if answer.status is Status.OK}
        try:
            values = _complete(calculate(list(won)), list(won))
            requests = [self._storing(names[k], a, values[k], terms) for k, a in leased.items()]
        except BaseException:
            for key, answer in leased.items():
                if answer.is_placeholder:
                    self._give_up(names[key], answer)
            raise
        self._daemons.ask_all(requests)
        return values

    def _store(self, name: str, before: Answer, value: Value | None, terms: Terms) -> Answer:
        # What is refused, as too large or for want of room, takes the placeholder with it.
        return self._daemons.ask(self._storing(name, before, value, terms))

    def _storing(self, name: str, before: Answer, value: Value | None, terms: Terms) -> Request:
        content, flags = encoded(self._codec, value)
        life_s = _life_s(terms, self._random)
        head = (name.encode(), len(content), before.cas, life_s, flags)
        return Request(name, b"ms %s %d C%d T%d F%d\r\n%s\r\n" % (*head, content))

    def _give_up(self, name: str, answer: Answer) -> None:
        """Take away what is there, if it is still that, so that the next asker wins at once."""
        self._daemons.ask(Request(name, b"md %s C%d\r\n" % (name.encode(), answer.cas)))


def memcached_s(life_s: int) -> int:
    """A lifetime as memcached takes it. Raises ValueError."""
    if life_s < 0:
        raise ValueError(f"a lifetime of {life_s} s; 0 is for good")
    return life_s if life_s <= MONTH_S else int(time()) + life_s


def _lookup(name: str, terms: Terms) -> bytes:
    if terms.stale_s:
        # memcached compares with what is left, in whole seconds: less than the number wins.
        return b"mg %s v f c N%d R%d\r\n" % (name.encode(), terms.lease_s, terms.stale_s + 1)
    return b"mg %s v f c N%d\r\n" % (name.encode(), terms.lease_s)


def _life_s(terms: Terms, random: Random) -> int:
    """How long memcached is to keep a value: the jitter is taken off its time, never added."""
    if not terms.ttl_s:
        return 0
    # Whole seconds, of which a share is rounded up, so that short times are spread too.
    ttl_s = int(terms.ttl_s * (1 - random.uniform(0, terms.jitter)) + random.random())
    return memcached_s(max(LEAST_LIFE_S, min(ttl_s, terms.ttl_s) + terms.stale_s))


def _complete(found: Mapping[Name, Value | None], keys: Sequence[Name]) -> dict[Name, Value | None]:
    missing = [key for key in keys if key not in found]
    if missing:
        raise KeyError(f"calculate gave no value for {missing!r}; None is one")
    return {key: found[key] for key in keys}


def _in_vain(names: Sequence[str], terms: Terms) -> str:
    return f"{', '.join(names)}: nobody calculated it within {terms.wait_s:g} s"
