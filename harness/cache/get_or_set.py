"""Read through memcached: the cached value, or the calculated one, kept for the next reader."""

from collections.abc import Callable

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError


def get_or_set(client: Client, key: str, calculate: Callable[[], bytes], ttl_s: int) -> bytes:
    """The value of `key`; on a miss `calculate()`, stored for `ttl_s` (0: until replaced).

    Whoever stored one meanwhile is not overwritten: it may be newer. Without memcached the value is
    calculated. What `calculate` raises is passed on.
    """
    try:
        value: bytes | None = client.get(key)
    except (OSError, MemcacheError):
        return calculate()
    if value is not None:
        return value
    value = calculate()
    try:
        client.add(key, value, expire=ttl_s, noreply=False)
    except (OSError, MemcacheError):
        return value
    return value
