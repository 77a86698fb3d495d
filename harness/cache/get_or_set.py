"""Read through memcached: the cached value, or the calculated one, kept for the next reader."""

from collections.abc import Callable

from harness.cache.meta_client import MetaClient
from harness.protocol.commands import Status


def get_or_set(client: MetaClient, key: str, calculate: Callable[[], bytes], ttl_s: int) -> bytes:
    """The value of `key`; on a miss `calculate()`, stored for `ttl_s` (0: until replaced).

    Whoever stored one meanwhile is not overwritten: it may be newer. Without memcached the value is
    calculated. What `calculate` raises is passed on.
    """
    cached = client.meta_get(key)
    if cached.status is Status.OK:
        return cached.value
    value = calculate()
    if cached.status is Status.MISSING:
        client.meta_add(key, value, ttl_s)
    return value
