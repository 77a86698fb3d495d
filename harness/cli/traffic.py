"""`--traffic` and its scale, for the verbs that have them; apart, as it is slow to import."""

import math
from typing import Any

from harness.errors import PlanError
from harness.load.traffic import Traffic, read_traffic
from harness.plan import MOST


def traffic_of(flags: dict[str, Any]) -> Traffic:
    """What `--traffic`, `--match` and `--scale` name. Raises PlanError."""
    scale = 1.0 if flags["scale"] is None else flags["scale"]
    if not 0 < scale < math.inf:
        raise PlanError(f"--scale {scale:g}: give a number above 0")
    traffic = read_traffic(flags["traffic"], flags["match"]).scaled(scale)
    if max(traffic.votes) > MOST:
        raise PlanError(
            f"{flags['traffic']}: {max(traffic.votes):g} votes in {traffic.bin_s:g} s; "
            f"no more than {MOST:g} are played, and --scale makes them fewer"
        )
    return traffic
