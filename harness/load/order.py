"""What the master of workers on other machines is told."""

from typing import Final

import msgspec

from harness.load.shard import Shard

TRANSFER_S: Final = 60.0  # for ledgers to arrive after the load: 64 bytes a vote


class MasterOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What the fleet wants played, and where workers come to."""

    shards: tuple[Shard, ...]
    host: str
    port: int
    patience_s: float  # until all workers are there and ready
    lasts_s: float  # load, time-outs and grace
