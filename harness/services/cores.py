"""Which cores the load generator gets, and which everything else."""

import os
from typing import NamedTuple


class Cores(NamedTuple):
    """Two disjoint sets of core numbers, or None and None: no pinning."""

    generator: frozenset[int] | None
    services: frozenset[int] | None


def share_cores() -> Cores:
    """The last core that we may use to the generator, the others to the services.

    A generator that competes with the site for a core measures the scheduler. With one core there
    is nothing to share out.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cores(None, None)
    return Cores(frozenset(usable[-1:]), frozenset(usable[:-1]))
