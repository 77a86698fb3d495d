"""What a writer process is told, and what it answers: pickles, which both ends must know."""

from array import array
from typing import NamedTuple

from harness.deployment import Deployment


class Order(NamedTuple):
    """What to make ready for. Writers are numbered from 1; 0 drains."""

    number: int
    deployment: Deployment
    journal: bool  # into the deployment's folder


class Ready(NamedTuple):
    """Connected, and waiting for the start. A writer has then had one vote acknowledged."""


class Start(NamedTuple):
    """When everybody starts, and for how long the writers vote."""

    at_ns: int  # CLOCK_MONOTONIC
    lasts_s: float


class Finish(NamedTuple):
    """To the drain: no vote is left to come, so drain until nothing is left, within the limit."""

    limit_s: float


class Voted(NamedTuple):
    """What a writer did. Its votes are numbered from 0; the first was before the start."""

    votes: int
    not_acknowledged: tuple[int, ...]  # their numbers
    in_time: int  # acknowledged before the end
    latencies_ns: "array[int]"  # of all votes that began before the end
    round_trips: int
    takeovers: int  # votes queued though patience had ended
    gave_up: int  # votes that were not, after that
    cpu_s: float


class Drained(NamedTuple):
    """What a drain process did."""

    drains: int
    votes: int  # committed
    empty: bool  # in the end nothing was left
