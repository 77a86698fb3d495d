"""Values as bytes, and back. memcached keeps a number beside them, the client flags, which say how.

A codec has these 16 bits to itself but for the two highest: they tell None and an empty value from
the placeholder that memcached makes where somebody is calculating.
"""

from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from pymemcache.serde import FLAG_TEXT

from harness.cache.answer import Answer
from harness.errors import CacheError

NOTHING: Final = 1 << 15  # the value is None
EMPTY: Final = 1 << 14  # the value is of no bytes, on purpose

Value = TypeVar("Value")


class UnreadableValue(CacheError):
    """A value that the codec cannot read: somebody else wrote it, or an older version of yours."""


class Codec(Protocol[Value]):
    """One way to write values."""

    def encode(self, value: Value) -> tuple[bytes, int]:
        """Its bytes and flags. Raises TypeError for a value that is none of its kind."""

    def decode(self, value: bytes, flags: int) -> Value:
        """Raises ValueError for what it did not write."""


class BytesOrText:
    """bytes as they are, a str as UTF-8, marked as pymemcache marks it; each comes back as it was.

    What another client wrote without flags comes back as bytes.
    """

    def encode(self, value: bytes | str) -> tuple[bytes, int]:
        if isinstance(value, str):
            return value.encode(), FLAG_TEXT
        if isinstance(value, bytes):
            return value, 0
        raise TypeError(f"bytes or str, not {type(value).__name__}; other values need a codec")

    def decode(self, value: bytes, flags: int) -> bytes | str:
        if flags == 0:
            return value
        if flags == FLAG_TEXT:
            return value.decode()
        raise ValueError(f"flags {flags} mark neither bytes nor text")


class Json(Generic[Value]):
    """Values of one type as JSON, by msgspec: a struct, a NamedTuple, list[int], …"""

    def __init__(self, type: type[Value]) -> None:  # noqa: A002
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(type).decode

    def encode(self, value: Value) -> tuple[bytes, int]:
        return self._encode(value), 0

    def decode(self, value: bytes, flags: int) -> Value:
        if flags:
            raise ValueError(f"flags {flags} do not mark JSON")
        return self._decode(value)


class Serde:
    """Whatever one of pymemcache's serdes makes, as `pymemcache.serde.pickle_serde`.

    Who may write to memcached may then run code here: unpickling runs what it is told to.
    """

    def __init__(self, serde: Any) -> None:
        self._serde = serde

    def encode(self, value: Any) -> tuple[bytes, int]:
        encoded, flags = self._serde.serialize("", value)
        return encoded if isinstance(encoded, bytes) else str(encoded).encode(), flags

    def decode(self, value: bytes, flags: int) -> Any:
        return self._serde.deserialize("", value, flags)


BYTES_OR_TEXT: Final = BytesOrText()


def encoded(codec: Codec[Value], value: Value | None) -> tuple[bytes, int]:
    """What is stored for it. Raises TypeError."""
    if value is None:
        return b"", NOTHING
    content, flags = codec.encode(value)
    return content, flags if content else flags | EMPTY


def decoded(codec: Codec[Value], answer: Answer) -> Value | None:
    """The value of an answer that has one. Raises UnreadableValue."""
    if answer.flags & NOTHING:
        return None
    try:
        return codec.decode(answer.value, answer.flags & ~EMPTY)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        size = len(answer.value)
        raise UnreadableValue(f"the codec cannot read the {size} bytes there: {error}") from error
