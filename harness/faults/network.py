"""The network between site and flusher and one of their servers: slow, stuck, broken, or lossy.

All of it happens in the proxy there, which stands in the way only if the plan has such a fault; see
`harness/services/proxy.py` for what each trouble does. What one touched is what it met.
"""

from random import Random
from typing import Final, cast

from harness.errors import ServiceError
from harness.fault import Fault, describe, target_of
from harness.faults.fault import Met, Reach
from harness.services.proxy import Touched, Trouble, TroubleKind

DELAY_S: Final = 0.05  # to another continent and back
SEED_BITS: Final = 63
SAID: Final[dict[str, str]] = {
    "latency": "{requests} requests delayed, on {connections} connections",
    "stall": "{connections} connections stood still, {requests} of them with a request",
    "reset": "{connections} connections reset",
    "drop-request": "{requests} requests dropped before they were applied",
    "drop-reply": "{requests} replies dropped after the request was applied",
    "cut": "bytes {direction} the server vanished on {connections} connections",
}


def start(fault: Fault, reach: Reach) -> Met | None:
    """Make the trouble until the time is over; None when nothing came that way meanwhile.

    Raises ServiceError when no proxy stands there.
    """
    target = target_of(fault)
    proxy = reach.stack.proxies.get(target)
    if proxy is None:
        raise ServiceError(f"no proxy stands before {target}, which this mode may not have")
    trouble = trouble_of(fault, reach.plan.seed)
    with proxy.troubled(trouble) as troubled:
        reach.ended.wait(fault.for_s)
        touched = troubled.heal()
    return Met(said(trouble, touched)) if touched.connections else None


def trouble_of(fault: Fault, seed: int) -> Trouble:
    """What the proxy is asked for; the same plan makes the same choices."""
    return Trouble(
        kind=cast(TroubleKind, fault.kind),
        delay_s=fault.delay_s or DELAY_S,
        jitter_s=fault.jitter_s,
        share=fault.share or 1.0,
        direction=fault.direction or "to",
        refuse=fault.for_s > 0,
        seed=Random(f"{seed} {describe(fault)}").getrandbits(SEED_BITS),
    )


def said(trouble: Trouble, touched: Touched) -> str:
    """What it did, as a sentence's end."""
    return SAID[trouble.kind].format(
        requests=f"{touched.requests:,}",
        connections=f"{touched.connections:,}",
        direction=trouble.direction,
    )
