"""What passes between a run and the other machines that play its load: orders, messages, codes."""

import os
from typing import Any, Final

import msgspec

from harness.errors import PlanError
from harness.load.arrivals import expected_votes
from harness.load.shard import Shard
from harness.plan import Plan, check

CLOCK: Final = "pollstorm-clock"  # to and fro: the time, and whose pollstorm asks or answers
SHARD: Final = "pollstorm-shard"  # to a worker: its share
READY: Final = "pollstorm-ready"  # from it: its users stand ready
START: Final = "pollstorm-start"  # to it: when, by its own clock
LEDGER: Final = "pollstorm-ledger"  # from it: a piece, in its own time
TAKEN: Final = "pollstorm-taken"  # to it: that piece has been written down
DONE: Final = "pollstorm-done"  # from it: nothing more will come

PIECE_ROWS: Final = 4096  # 256 KiB of ledger in a message
MOST_ORDER_BYTES: Final = 2**20
"""Of a share as JSON. A curve of `MOST_BINS` takes 150 KiB; what is larger is no plan."""
MOST_ARRIVALS: Final = 50_000_000  # in one share, 1 GB of memory; five times what an audit is for
TRANSFER_S: Final = 60.0  # for ledgers to arrive after the load, however few votes they have
SLOWEST_BYTES_PER_S: Final = 1_250_000  # 10 Mbit/s: over a slower link no site is loaded
ROW_BYTES: Final = 64

# Exit codes of `harness.load.worker`, beside those of `Exit`, for the verb that starts it.
NO_MASTER: Final = os.EX_UNAVAILABLE  # nobody gave it anything to play
MASTER_LOST: Final = os.EX_TEMPFAIL  # in the midst of a load


class MasterOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What the fleet wants played, and where workers come to."""

    shards: tuple[Shard, ...]
    host: str
    port: int
    patience_s: float  # until all workers are there and ready
    lasts_s: float  # load, time-outs and grace
    transfer_s: float  # until the last ledger has come


def transfer_s(plan: Plan) -> float:
    """How long ledgers may travel after the load."""
    most = _arrivals(plan) * (1 + plan.voters.retries) * ROW_BYTES
    return TRANSFER_S + most / SLOWEST_BYTES_PER_S


def shard_of(data: Any) -> Shard:
    """The share that a master has sent. Raises PlanError for what cannot be played."""
    text = data.get("shard") if isinstance(data, dict) else None
    if not isinstance(text, bytes):
        raise PlanError("it is no share of a load")
    if len(text) > MOST_ORDER_BYTES:
        raise PlanError(f"it has {len(text)} bytes, {MOST_ORDER_BYTES} at most are a plan")
    try:
        shard = msgspec.json.decode(text, type=Shard)
    except msgspec.MsgspecError as error:
        raise PlanError(str(error)) from error
    if shard.generator > shard.generators:
        raise PlanError(f"it is share {shard.generator} of {shard.generators}")
    check(shard.plan, "the plan")
    if (arrivals := _arrivals(shard.plan)) > MOST_ARRIVALS:
        raise PlanError(f"it has {arrivals:,.0f} arrivals, {MOST_ARRIVALS:,} are at most played")
    return shard


def _arrivals(plan: Plan) -> float:
    """Votes and results pages that the plan lets expect."""
    return expected_votes(plan) * (1 + plan.arrivals.results_per_vote)
