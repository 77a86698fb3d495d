"""How long things take: distributions measured on a real run, and how they are drawn from.

A distribution is kept as quantiles, and drawn by reading a uniform number off them: what lies
between two quantiles is taken to be spread evenly. All times are in nanoseconds.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from harness.errors import PlanError

SHIPPED: Final = Path(__file__).with_name("service_times.json")
PROBABILITIES: Final = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Of the quantiles that are kept. Beyond the last one lies what a journal cannot tell from a stall
of the whole machine: it is drawn as that last one."""
DRAWN_AT_ONCE: Final = 4096

Draw: TypeAlias = Callable[[], int]
Quantiles: TypeAlias = tuple[float, ...]


class ServiceTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the simulator needs to know of a machine. docs/simulation.md: how each is measured.

    Quantiles in ns at `PROBABILITIES`, unless the name says that it is one number.
    """

    origin: str  # what they were measured on, and how
    cores: int  # of site, flusher, memcached and database
    client_ns: Quantiles  # computing between a reply's arrival and the next command's departure
    call_each_ns: int  # of that, sending and receiving: the journal has it as the command's time
    awakened_ns: Quantiles  # computing after a sleep, beyond that: caches are cold
    memcached_ns: Quantiles  # computing of the daemon for one command
    pipelined_ns: Quantiles  # the same for each further command of a pipeline
    wake_ns: Quantiles  # until an idle core computes
    switch_each_ns: int  # from one thread to the next on a busy core
    oversleep_ns: Quantiles  # beyond what was asked for, until the timer strikes
    insert_ns: Quantiles  # computing of the database for one ballot alone
    row_ns: Quantiles  # the same for each ballot in a batch, with what the flusher computes for it
    commit_ns: Quantiles  # waiting for the disk
    count_row_ns: Quantiles  # computing of the database for each ballot that a results page counts
    http_ns: Quantiles  # computing for one request outside the interpreter
    python_ns: Quantiles  # and in it, without the protocol
    way_ns: Quantiles  # of a request to the site and its answer back, and of waking for it
    wake_lag_ns: Quantiles  # how late a free voter sends


def shipped() -> ServiceTimes:
    """Those that come with the project."""
    return read_service_times(SHIPPED)


def read_service_times(path: Path) -> ServiceTimes:
    """Raises PlanError when the file is none of ours."""
    try:
        times = msgspec.json.decode(path.read_bytes(), type=ServiceTimes)
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise PlanError(f"{path}: {error}") from error
    for name, value in msgspec.structs.asdict(times).items():
        if isinstance(value, tuple) and not _is_distribution(value):
            raise PlanError(f"{path}: {name} needs {len(PROBABILITIES)} ascending times from 0 up")
    return times


def quantiles(values: npt.ArrayLike) -> Quantiles:
    """The quantiles of measured values that are kept. Raises ValueError without any value."""
    measured = np.asarray(values, dtype=np.float64)
    if not measured.size:
        raise ValueError("nothing was measured")
    found = np.maximum(np.quantile(measured, PROBABILITIES), 0.0)
    return tuple(float(round(each)) for each in found)


def constant(value_ns: float) -> Quantiles:
    """A distribution of one value."""
    return (float(value_ns),) * len(PROBABILITIES)


class Draws:
    """All random numbers of one simulated trial: a stream for each quantity, all of one seed."""

    def __init__(self, seed: Sequence[int]) -> None:
        self._seed = tuple(seed)

    def generator(self, name: str) -> np.random.Generator:
        """The stream of that name, from its beginning: others do not depend on its use."""
        return np.random.default_rng([*self._seed, *name.encode()])

    def of(self, name: str, distribution: Quantiles) -> Draw:
        """A function that draws one time after the other."""
        return _drawn(self.generator(name), distribution).__next__


def _drawn(random: np.random.Generator, distribution: Quantiles) -> Iterator[int]:
    values = np.asarray(distribution)
    while True:  # as long as somebody draws
        uniform = random.random(DRAWN_AT_ONCE)
        yield from np.interp(uniform, PROBABILITIES, values).astype(np.int64).tolist()


def _is_distribution(value: tuple[Any, ...]) -> bool:
    ascending = all(a <= b for a, b in pairwise(value))
    return len(value) == len(PROBABILITIES) and ascending and value[0] >= 0
