"""memcached, through pymemcache's own clients.

A library that needs nothing else of pollstorm (docs/cache.md): `NamespacedCache`, with `get_or_set`
and several daemons; read `namespaced`, `get_or_set`, `keys`, `daemons`, `line`. And what the queues
stand on: `meta_client` speaks to one daemon, `breaker` remembers that it does not answer, and
`executor` carries out what protocols ask of all of them.
"""

from harness.cache.answer import Written
from harness.cache.codec import Codec, Json, Serde, UnreadableValue
from harness.cache.daemons import DaemonDown
from harness.cache.get_or_set import AfterWait, WaitedInVain
from harness.cache.keys import BadKey, UnfitKeys
from harness.cache.namespaced import Counted, Held, NamespacedCache, connect
from harness.errors import CacheError

__all__ = [
    "AfterWait",
    "BadKey",
    "CacheError",
    "Codec",
    "Counted",
    "DaemonDown",
    "Held",
    "Json",
    "NamespacedCache",
    "Serde",
    "UnfitKeys",
    "UnreadableValue",
    "WaitedInVain",
    "Written",
    "connect",
]
