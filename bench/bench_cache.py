"""One key that 64 processes miss at once, and what a hit costs: `get_or_set` and two others.

Against the plain get, calculate and set of the third post, and against dogpile.cache's
`get_or_create` with its lock in memcached, over the same pymemcache. All three in turn, on one
memcached.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.bench_protocol import started_memcached
from bench.crowd import LIBRARIES, Ask, Rush, gathered
from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from harness.plan import MemcachedPlan
from harness.services.memcached import client_of, start_memcached
from harness.services.processes import Supervisor

RUSHES: Final = 15
HITS: Final = 200  # some 3 ms: most rounds are then over before anything else runs
ROUNDS: Final = 201
COUNTED_HITS: Final = 1000
TITLES: Final = {
    "plain": "get, calculate, set",
    "dogpile": "dogpile.cache's get_or_create",
}
COMMANDS: Final = (
    *("cmd_get", "cmd_set", "cmd_touch", "incr_hits", "incr_misses", "decr_hits", "decr_misses"),
    *("delete_hits", "delete_misses"),
)
"""What memcached itself counts of commands, each once, and meta commands among them."""


def missed_at_once() -> list[Figure]:
    with fresh_memcached() as address, gathered(address) as crowd:
        rounds: list[dict[str, Rush]] = []
        names = list(LIBRARIES)
        for number in range(RUSHES + 1):  # the first warms up
            turn = names[number % 3 :] + names[: number % 3]
            rounds.append({name: crowd.rush(name, f"missed-{name}-{number}") for name in turn})
    figures = []
    for other, fewer in (("plain", 0.1), ("dogpile", 1.0)):
        pairs = [(each["ours"], each[other]) for each in rounds[1:]]
        calculations = [(float(a.calculations), float(b.calculations)) for a, b in pairs]
        times = [(a.took_ms, b.took_ms) for a, b in pairs]
        figures += [
            figure(
                f"cache.calls-{other}",
                "times",
                TITLES[other],
                calculations,
                Target("ratio", "<=", fewer),
            ),
            figure(f"cache.missed-{other}", "ms", TITLES[other], times, Target("ratio", "<=", 0.5)),
        ]
    return figures


def hit() -> list[Figure]:
    with started_memcached() as (_, address):
        asks = {name: kept(name, address) for name in LIBRARIES}
        return [
            figure(
                f"cache.hit-{other}",
                "µs/hit",
                TITLES[other],
                in_turn(
                    partial(us_per_hit, asks["ours"]), partial(us_per_hit, asks[other]), ROUNDS
                ),
            )
            for other in TITLES
        ]


def round_trips() -> list[Figure]:
    """An exact count, not a measurement: all rounds are the same."""
    with started_memcached() as (_, address):
        ours, theirs = commands_per_hit("ours", address), commands_per_hit("dogpile", address)
    rounds = [(ours, theirs)] * 3
    target = Target("value", "<=", 1)
    return [figure("cache.round-trips", "commands/hit", TITLES["dogpile"], rounds, target)]


@contextmanager
def fresh_memcached() -> Iterator[str]:
    """The address of one that may use all cores, as the processes around it."""
    with Supervisor() as supervisor, tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "memcached.log"
        yield start_memcached(supervisor, MemcachedPlan(), log).address


def kept(library: str, address: str) -> Callable[[], bytes]:
    """A hit through that library: the value is there. Each has a key of its own."""
    ask: Ask = LIBRARIES[library](address)
    key = f"kept-{library}"
    ask(key, lambda: b"value")
    return lambda: ask(key, _missed)


def us_per_hit(ask: Callable[[], bytes]) -> float:
    begin = perf_counter()
    for _ in range(HITS):
        ask()
    return (perf_counter() - begin) / HITS * 1e6


def commands_per_hit(library: str, address: str) -> float:
    """As memcached counts them; each is a round trip, because no library here pipelines."""
    ask = kept(library, address)
    with closing(client_of(address)) as client:
        before = client.stats()  # type: ignore[no-untyped-call]
        for _ in range(COUNTED_HITS):
            ask()
        after = client.stats()  # type: ignore[no-untyped-call]
    names = [name.encode() for name in COMMANDS]
    return float(sum(after[name] - before[name] for name in names) / COUNTED_HITS)


def _missed() -> bytes:
    raise RuntimeError("the value is no longer there")


MEASUREMENTS: Final = (
    Measurement(
        (
            *("cache.calls-plain", "cache.missed-plain"),
            *("cache.calls-dogpile", "cache.missed-dogpile"),
        ),
        missed_at_once,
    ),
    Measurement(("cache.hit-plain", "cache.hit-dogpile"), hit),
    Measurement(("cache.round-trips",), round_trips),
)
