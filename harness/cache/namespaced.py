"""memcached by names of your own: a namespace given once, and applied to every call.

    cache = NamespacedCache(Client("127.0.0.1:11211"), "site")
    cache.namespace("poll:42").set("open", b"1")  # lies in memcached as site:poll:42:open

A read of a daemon that is down raises `DaemonDown`, which names it. A write raises nothing for
that, and says `STORED`, `NOT_STORED` or `UNKNOWN`. Keys that memcached cannot read are refused or
hashed, never sent. Values are bytes and str unless another codec is given. For one thread at a
time on pymemcache's `Client` or our `MetaClient`, for any number on its `PooledClient`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypedDict, TypeVar, Unpack, overload

from pymemcache.client.base import Client, PooledClient

from harness.cache.answer import Answer, Written
from harness.cache.breaker import breaker_of
from harness.cache.codec import BYTES_OR_TEXT, Codec, decoded, encoded
from harness.cache.daemons import DaemonDown, Daemons, Request
from harness.cache.get_or_set import ReadThrough, Terms, Waiting, memcached_s
from harness.cache.keys import Generation, Key, Name, Space, UnfitKeys
from harness.cache.meta_client import MetaClient
from harness.cache.ring import Ring
from harness.protocol.commands import Status

TIMEOUT_S: Final = 1.0  # connect, and each reply; memcached answers in less than a millisecond
DEAD_S: Final = 5.0  # with rehashing: how long a daemon that did not answer is left alone
MOST_DELTA: Final = 2**64 - 1  # memcached counts in 64 bits
GET: Final = b"mg %s v f c\r\n"

Value = TypeVar("Value")
Other = TypeVar("Other")
AnyClient: TypeAlias = Client | PooledClient


class Options(TypedDict, total=False):
    """How a cache deals with keys and daemons."""

    rehash: bool
    """Of several daemons: whether the keys of one that does not answer move to the others, or fail
    until it is back. Must be said."""
    dead_s: float
    """For so long are its keys on the others (5)."""
    separator: str
    """Between namespaces and key (":")."""
    unfit_keys: UnfitKeys
    """What to do with keys that memcached cannot read (REFUSE)."""
    random: Random
    """Of jitter and naps (one of its own)."""


class Held(NamedTuple, Generic[Value]):
    """A value, with the number of the write that it came from, for `cas`."""

    value: Value | None
    cas: int


class Counted(NamedTuple):
    """What became of an `incr` or `decr`; the new number if it was carried out, else None."""

    written: Written
    number: int | None


class NamespacedCache(Generic[Value]):
    """The keys of one namespace, on one or several memcacheds."""

    @overload
    def __init__(
        self: "NamespacedCache[bytes | str]",
        client: AnyClient | Sequence[AnyClient],
        namespace: str = ...,
        **options: Unpack[Options],
    ) -> None: ...

    @overload
    def __init__(
        self,
        client: AnyClient | Sequence[AnyClient],
        namespace: str = ...,
        *,
        codec: Codec[Value],
        **options: Unpack[Options],
    ) -> None: ...

    def __init__(
        self,
        client: AnyClient | Sequence[AnyClient],
        namespace: str = "",
        *,
        codec: Codec[Any] = BYTES_OR_TEXT,
        **options: Unpack[Options],
    ) -> None:
        """`client`: one for each daemon. Raises BadKey, and TypeError or ValueError for clients
        that cannot be worked with.
        """
        clients = list(client) if isinstance(client, Sequence) else [client]
        ring = None
        if len(clients) > 1:
            if "rehash" not in options:
                raise ValueError("several daemons: rehash=True, or False for keys that never move")
            ring = Ring(len(clients), options.get("dead_s", DEAD_S) if options["rehash"] else None)
        self._daemons = Daemons(clients, ring)
        prefixes = {each.key_prefix for each in clients}
        if len(prefixes) != 1:
            raise ValueError("one client for each daemon, all with the same key_prefix")
        self._separator = options.get("separator", ":")
        self._random = options.get("random") or Random()
        text = prefixes.pop().decode() + (f"{namespace}{self._separator}" if namespace else "")
        self._be(Space(text, options.get("unfit_keys", UnfitKeys.REFUSE)), codec)

    def _be(self, space: Space, codec: Codec[Value]) -> None:
        self._space = space
        self._codec = codec
        self._through = ReadThrough(self._daemons, codec, self._random)

    @overload
    def namespace(
        self, name: str, *, versioned: bool = ..., remembered_s: float = ...
    ) -> "NamespacedCache[Value]": ...

    @overload
    def namespace(
        self, name: str, *, codec: Codec[Other], versioned: bool = ..., remembered_s: float = ...
    ) -> "NamespacedCache[Other]": ...

    def namespace(
        self,
        name: str,
        *,
        codec: Codec[Any] | None = None,
        versioned: bool = False,
        remembered_s: float = 0.0,
    ) -> "NamespacedCache[Any]":
        """A namespace in this one, over the same connections. Raises BadKey.

        A versioned one can be dropped as a whole (see `drop`), and costs one more round trip for
        each call, or only one in `remembered_s`.
        """
        inner: NamespacedCache[Any] = object.__new__(NamespacedCache)
        inner._daemons = self._daemons
        inner._separator = self._separator
        inner._random = self._random
        generation = Generation(self._daemons, remembered_s) if versioned else None
        inner._be(self._space.inner(name, self._separator, generation), codec or self._codec)
        return inner

    def drop(self) -> Written:
        """Everything in this versioned namespace is gone, for everybody, in one round trip.

        Raises TypeError for a namespace that is not versioned.
        """
        return self._space.drop()

    def close(self) -> None:
        """Close all connections; they are opened again when needed."""
        self._daemons.close()

    # Reads raise DaemonDown, CacheError when refused, UnreadableValue and BadKey.

    def get(self, key: Key, default: Other | None = None) -> Value | Other | None:
        """The value, or `default` where nothing is."""
        answer = self._read(key)
        return decoded(self._codec, answer) if answer else default

    def gets(self, key: Key) -> Held[Value] | None:
        """The value and the number of its write, or None where nothing is."""
        answer = self._read(key)
        return Held(decoded(self._codec, answer), answer.cas) if answer else None

    def get_many(self, keys: Iterable[Name]) -> dict[Name, Value | None]:
        """The values of those keys that have one."""
        names = self._space.names_of(keys)
        answers = self._daemons.read_all([Request(n, GET % n.encode()) for n in names.values()])
        found = zip(names, answers, strict=True)
        return {key: decoded(self._codec, each) for key, each in found if each.is_value}

    # Writes raise nothing for what a daemon does; BadKey, and TypeError for what is no value.

    def set(self, key: Key, value: Value | None, ttl_s: int = 0) -> Written:
        """Store it, for so long (0: until it is evicted)."""
        return self._store(key, value, b" T%d" % memcached_s(ttl_s))

    def add(self, key: Key, value: Value | None, ttl_s: int = 0) -> Written:
        """Store it unless something is there."""
        return self._store(key, value, b" ME T%d" % memcached_s(ttl_s))

    def replace(self, key: Key, value: Value | None, ttl_s: int = 0) -> Written:
        """Store it if something is there."""
        return self._store(key, value, b" MR T%d" % memcached_s(ttl_s))

    def cas(self, key: Key, value: Value | None, cas: int, ttl_s: int = 0) -> Written:
        """Store it if what is there is still of the write of that number, as `gets` gave it."""
        if cas < 1:
            raise ValueError(f"no write has the number {cas}")  # 0 would store in any case
        return self._store(key, value, b" C%d T%d" % (cas, memcached_s(ttl_s)))

    def append(self, key: Key, value: Value) -> Written:
        """Put it behind what is there, whose lifetime and kind stay."""
        return self._store(key, value, b" MA")

    def prepend(self, key: Key, value: Value) -> Written:
        """Put it before what is there, whose lifetime and kind stay."""
        return self._store(key, value, b" MP")

    def touch(self, key: Key, ttl_s: int = 0) -> Written:
        """Give it a lifetime from now on; `NOT_STORED` where nothing is."""
        return self._write(key, b"mg %%s T%d\r\n" % memcached_s(ttl_s)).written

    def delete(self, key: Key) -> Written:
        """Remove it; `NOT_STORED` where nothing was."""
        return self._write(key, b"md %s\r\n").written

    def incr(self, key: Key, delta: int = 1) -> Counted:
        """Add to the number that is there; `NOT_STORED` where none is. It wraps at 2^64."""
        return self._count(key, delta, b"ma %%s v D%d\r\n")

    def decr(self, key: Key, delta: int = 1) -> Counted:
        """Subtract from the number that is there, down to 0; `NOT_STORED` where none is."""
        return self._count(key, delta, b"ma %%s v MD D%d\r\n")

    def set_many(self, values: Mapping[Name, Value | None], ttl_s: int = 0) -> dict[Name, Written]:
        """As `set`, and what became of each."""
        mode = b" T%d" % memcached_s(ttl_s)
        made = {key: _storing(*encoded(self._codec, value), mode) for key, value in values.items()}
        return self._write_many(made)

    def delete_many(self, keys: Iterable[Name]) -> dict[Name, Written]:
        """As `delete`, and what became of each."""
        return self._write_many(dict.fromkeys(keys, (b"md %s\r\n", b"")))

    # Through the cache; what `calculate` raises is passed on, and BadKey.

    @overload
    def get_or_set(
        self,
        key: Key,
        calculate: Callable[[], Value],
        *,
        ttl_s: int,
        stale_s: int = ...,
        **waiting: Unpack[Waiting],
    ) -> Value: ...

    @overload
    def get_or_set(
        self,
        key: Key,
        calculate: Callable[[], Value | None],
        *,
        ttl_s: int,
        stale_s: int = ...,
        **waiting: Unpack[Waiting],
    ) -> Value | None: ...

    def get_or_set(
        self,
        key: Key,
        calculate: Callable[[], Value | None],
        *,
        ttl_s: int,
        stale_s: int = 0,
        **waiting: Unpack[Waiting],
    ) -> Value | None:
        """The value, or else what `calculate` returns, stored for `ttl_s` (0: until replaced).

        One caller calculates. The others get the old value for `stale_s` after its `ttl_s`, or
        else wait, for `wait_s` at most; then they do as `after_wait` says. Without memcached each
        calculates. How, and what becomes of a caller that dies: `harness.cache.get_or_set`.
        """
        terms = Terms(ttl_s, stale_s, **waiting).checked()
        try:
            name = self._space.name_of(key)
        except DaemonDown:  # its generation cannot be asked for
            return calculate()
        return self._through.get(name, calculate, terms)

    def get_or_set_many(
        self,
        keys: Iterable[Name],
        calculate: Callable[[Sequence[Name]], Mapping[Name, Value | None]],
        *,
        ttl_s: int,
        stale_s: int = 0,
        **waiting: Unpack[Waiting],
    ) -> dict[Name, Value | None]:
        """As `get_or_set`: `calculate` is given the keys whose values it is to return."""
        terms = Terms(ttl_s, stale_s, **waiting).checked()
        wanted = list(dict.fromkeys(keys))
        try:
            names = self._space.names_of(wanted)
        except DaemonDown:
            return dict(calculate(wanted)) if wanted else {}
        return self._through.get_many(names, calculate, terms)

    def refresh(
        self,
        key: Key,
        calculate: Callable[[], Value | None],
        *,
        ttl_s: int,
        stale_s: int = 0,
        **waiting: Unpack[Waiting],
    ) -> Written:
        """Calculate, and put it in the place of what is there, but of nothing calculated later.

        Any number of processes may refresh a key at one time. `STORED`: what is there now was
        calculated after this call began, by this caller or another.
        """
        terms = Terms(ttl_s, stale_s, **waiting).checked()
        try:
            name = self._space.name_of(key)
        except DaemonDown:
            return Written.NOT_STORED
        return self._through.refresh(name, calculate, terms)

    def _read(self, key: Key) -> Answer | None:
        name = self._space.name_of(key)
        answer = self._daemons.read(Request(name, GET % name.encode()))
        return answer if answer.is_value else None

    def _store(self, key: Key, value: Value | None, mode: bytes) -> Written:
        return self._write(key, *_storing(*encoded(self._codec, value), mode)).written

    def _count(self, key: Key, delta: int, command: bytes) -> Counted:
        if not 0 <= delta <= MOST_DELTA:
            raise ValueError(f"from 0 to 2^64 - 1 can be added or subtracted, not {delta}")
        answer = self._write(key, command % delta)
        return Counted(answer.written, answer.number if answer.written else None)

    def _write(self, key: Key, line: bytes, content: bytes = b"") -> Answer:
        try:
            name = self._space.name_of(key)
        except DaemonDown as error:  # its generation cannot be asked for: nothing was sent
            return Answer(Status.UNREACHABLE, why=str(error))
        return self._daemons.ask(Request(name, line % name.encode() + content))

    def _write_many(self, made: Mapping[Name, tuple[bytes, bytes]]) -> dict[Name, Written]:
        try:
            names = self._space.names_of(made)
        except DaemonDown:
            return dict.fromkeys(made, Written.NOT_STORED)
        requests = [
            Request(names[key], line % names[key].encode() + content)
            for key, (line, content) in made.items()
        ]
        answers = self._daemons.ask_all(requests)
        return {key: answer.written for key, answer in zip(made, answers, strict=True)}


def _storing(content: bytes, flags: int, mode: bytes) -> tuple[bytes, bytes]:
    """The line of a store, with room for the name, and what follows it."""
    return b"ms %%s %d F%d%s\r\n" % (len(content), flags, mode), content + b"\r\n"


@overload
def connect(
    daemons: str, namespace: str = ..., *, timeout_s: float = ..., **options: Unpack[Options]
) -> NamespacedCache[bytes | str]: ...


@overload
def connect(
    daemons: str,
    namespace: str = ...,
    *,
    codec: Codec[Value],
    timeout_s: float = ...,
    **options: Unpack[Options],
) -> NamespacedCache[Value]: ...


def connect(
    daemons: str,
    namespace: str = "",
    *,
    codec: Codec[Any] = BYTES_OR_TEXT,
    timeout_s: float = TIMEOUT_S,
    **options: Unpack[Options],
) -> NamespacedCache[Any]:
    """A cache on the daemons of a list such as `a:11211,b:11211,c:11211`, in this order.

    A daemon that does not answer in time is left alone for a while by the whole process. Raises
    ValueError for what is no list of addresses.
    """
    addresses = [each.strip() for each in daemons.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{address!r} is no host:port")
    if len(set(addresses)) < len(addresses):
        raise ValueError(f"{daemons} names a daemon twice")
    clients = [MetaClient(each, timeout_s, breaker_of(each, timeout_s)) for each in addresses]
    return NamespacedCache(clients, namespace, codec=codec, **options)
