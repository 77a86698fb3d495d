"""What a plan lays down for its queues, in the words of the protocols."""

from typing import Final

from harness.plan import Plan
from harness.protocol.queue import AfterPatience, Queue, Terms

NS_PER_S: Final = 1_000_000_000
SPARE_WRITERS: Final = 64  # beside the site: somebody tries by hand, another client of the queue


def queues(plan: Plan) -> list[Queue]:
    """The plan's queues; the first has the bare prefix, as the post's Perl program uses it."""
    prefix = plan.queue.prefix
    prefixes = [prefix, *(f"{prefix}-{number}" for number in range(1, plan.queue.queues))]
    return [Queue.named(each, site=prefix) for each in prefixes]


def terms(plan: Plan) -> Terms:
    """The plan's terms.

    Each thread of the site has one vote on its way in at a time; twice as many, because a worker
    that dies leaves its votes half-way beside those of the one that replaces it.
    """
    queue, site = plan.queue, plan.site
    return Terms(
        after_patience=AfterPatience(queue.after_patience),
        patience_s=queue.patience_s,
        writers=2 * site.workers * site.threads + SPARE_WRITERS,
        grace_ns=round(queue.slot_grace_s * NS_PER_S),
        tombstone_life_s=queue.tombstone_life_s,
    )
