"""Counters of the site, for Prometheus and for the run's sampler.

Each worker process has one small page, a memory-mapped file in `<folder>/metrics`, with a row of
64-bit numbers for each of its threads. A thread writes only its own row, so nothing is locked
and a request costs less than with prometheus-client's multiprocess values. Anybody may read the
pages without asking the site.

A worker holds a lock on its page for as long as it lives. What a dead worker counted still
counts; what it had in flight does not.
"""

import fcntl
import mmap
import os
import tempfile
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from time import perf_counter_ns
from typing import Final

import falcon
import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from harness.errors import RecordingError
from harness.site.openapi import Success, operation

METRICS: Final = "metrics"
SUFFIX: Final = ".page"
SPARE_ROWS: Final = 8  # for threads that start before the rows of ended ones are given back

STATUSES: Final = (200, 201, 202, 403, 404, 408, 409, 413, 422, 500, 503, 504)
BUCKETS_S: Final = (0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5)


class Request(IntEnum):
    """What was asked for."""

    VOTE = 0
    RESULTS = 1


_BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in BUCKETS_S)
_STATUS_INDEX: Final = {status: index for index, status in enumerate(STATUSES)}
# A row: in flight, then for each kind of request its statuses, its buckets, its nanoseconds.
_IN_FLIGHT: Final = 0
_BUCKETS_AT: Final = len(STATUSES)
_SUM_AT: Final = _BUCKETS_AT + len(BUCKETS_S) + 1
_KIND_FIELDS: Final = _SUM_AT + 1
_FIELDS: Final = 1 + len(Request) * _KIND_FIELDS
_ROW_BYTES: Final = 8 * _FIELDS


class Meter:
    """One thread's row."""

    __slots__ = ("__weakref__", "_begun_ns", "_row")

    def __init__(self, row: memoryview) -> None:
        self._row = row
        self._begun_ns = 0

    def begin(self) -> None:
        """A request has come to this thread."""
        self._row[_IN_FLIGHT] = 1
        self._begun_ns = perf_counter_ns()

    def end(self, kind: Request, status: int) -> None:
        """It is about to be answered."""
        row = self._row
        took_ns = perf_counter_ns() - self._begun_ns
        first = 1 + kind * _KIND_FIELDS
        row[first + _STATUS_INDEX[status]] += 1
        row[first + _BUCKETS_AT + bisect_left(_BOUNDS_NS, took_ns)] += 1
        row[first + _SUM_AT] += took_ns
        row[_IN_FLIGHT] = 0


class MeterPage:
    """This process's rows. The lock on the file lasts as long as its mapping."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Raises RecordingError when the page cannot be made."""
        rows = threads + SPARE_ROWS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fields = memoryview(_mapped(folder, rows * _ROW_BYTES)).cast("Q")
        except OSError as error:
            raise RecordingError(
                f"cannot count in {folder}: {error.strerror}; make room and start again"
            ) from error
        self._free = [fields[n * _FIELDS : (n + 1) * _FIELDS] for n in range(rows)]

    def lend(self) -> Meter:
        """A row for the calling thread; it comes back, with its counts, when the thread ends."""
        row = self._free.pop()
        meter = Meter(row)
        weakref.finalize(meter, _give_back, self._free, row).atexit = False
        return meter


class Meters(threading.local):
    """The calling thread's meter."""

    def __init__(self, page: MeterPage) -> None:
        self.mine = page.lend()


class Exposition:
    """`GET /metrics`: the sum of all workers, whichever of them is asked."""

    def __init__(self, folder: Path) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Pages(folder))

    @operation("Counters of all workers", {200: Success("For Prometheus", media_type="text/plain")})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.content_type = CONTENT_TYPE_LATEST
        response.data = generate_latest(self._registry)


def in_flight(folder: Path) -> float:
    """How many requests the living workers of a deployment's folder are working on now.

    A request that still waits for a thread is not among them.
    """
    return float(sum(map(_in_flight_of, _pages(folder))))


class _Pages(Collector):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        sums = np.zeros(_FIELDS, np.uint64)
        for path in _pages(self._folder):
            sums += _row_sums(path)
        requests = CounterMetricFamily(
            "pollstorm_requests", "Requests answered, by status.", labels=["kind", "status"]
        )
        seconds = HistogramMetricFamily(
            "pollstorm_request_seconds", "From a thread's taking it to its answer.", labels=["kind"]
        )
        for kind in Request:
            first = 1 + kind * _KIND_FIELDS
            label = kind.name.lower()
            for index, status in enumerate(STATUSES):
                requests.add_metric([label, str(status)], float(sums[first + index]))
            counts = np.cumsum(sums[first + _BUCKETS_AT : first + _SUM_AT])
            bounds = [*map(str, BUCKETS_S), "+Inf"]
            buckets = [(bound, float(n)) for bound, n in zip(bounds, counts, strict=True)]
            seconds.add_metric([label], buckets, float(sums[first + _SUM_AT]) / 1e9)
        yield requests
        yield seconds
        gauge = GaugeMetricFamily("pollstorm_in_flight", "Requests in a thread of the site now.")
        gauge.add_metric([], in_flight(self._folder))
        yield gauge


def _mapped(folder: Path, size_bytes: int) -> mmap.mmap:
    descriptor, _name = tempfile.mkstemp(SUFFIX, "worker-", folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.posix_fallocate(descriptor, 0, size_bytes)
        return mmap.mmap(descriptor, size_bytes)
    finally:
        os.close(descriptor)  # the mapping has its own, and with it the lock


def _pages(folder: Path) -> Iterator[Path]:
    return (folder / METRICS).glob(f"*{SUFFIX}")


def _row_sums(path: Path) -> npt.NDArray[np.uint64]:
    fields = np.fromfile(path, dtype="<u8")
    whole = len(fields) // _FIELDS * _FIELDS  # a page that is just being made may be empty
    sums: npt.NDArray[np.uint64] = fields[:whole].reshape(-1, _FIELDS).sum(axis=0, dtype=np.uint64)
    return sums


def _in_flight_of(path: Path) -> int:
    """0 for a page whose worker no longer holds its lock."""
    with path.open("rb") as page:
        try:
            fcntl.flock(page, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            content = page.read()
            whole = len(content) // _ROW_BYTES * _ROW_BYTES
            return sum(memoryview(content)[:whole].cast("Q")[_IN_FLIGHT::_FIELDS])
    return 0


def _give_back(free: list[memoryview], row: memoryview) -> None:
    row[_IN_FLIGHT] = 0
    free.append(row)
