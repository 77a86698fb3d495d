"""Clients as people make them, for the tests of what works with any of them."""

from typing import Any

from pymemcache.client.base import Client

TIMEOUT_S = 0.2


def plain(address: str, timeout_s: float = 1.0, **more: Any) -> Client:
    """As somebody would make it who has not read the manual: `noreply` is left on."""
    return Client(address, connect_timeout=timeout_s, timeout=timeout_s, **more)
