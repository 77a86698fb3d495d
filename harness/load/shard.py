"""What a generator process is told, and what it reports: files between it and the fleet."""

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from harness.plan import Plan
from harness.run_folder import write_atomically

POLL_S: Final = 0.01  # how often a process looks whether the other has written its file
CANNOT_RECORD: Final = os.EX_IOERR
"""Exit code of a generator without a ledger: 1 is what Python itself ends with on any error."""


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One generator's share of the load, and where to put what comes of it."""

    plan: Plan
    generator: Annotated[int, Meta(ge=1, le=64)]
    generators: Annotated[int, Meta(ge=1, le=64)]
    host: str
    port: Annotated[int, Meta(ge=1, le=65_535)]
    ledger_folder: str
    ready_file: str  # written when the users stand ready
    start_file: str  # appears with the common start: CLOCK_MONOTONIC in ns, as text
    report_file: str
    # Above 0: send to /void at full speed for so long instead.
    void_for_s: Annotated[float, Meta(ge=0, le=60)] = 0.0

    @classmethod
    def read(cls, path: Path) -> "Shard":
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> None:
        write_atomically(path, msgspec.json.encode(self))


class GeneratorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator says about itself."""

    generator: int
    planned: int  # votes
    sent: int  # votes of which at least one attempt left
    attempts: int  # votes and results pages, retries included
    answered: int  # attempts that ended, time-outs too
    in_flight: float | None  # mean of the sampled gauge: attempts sent, not answered yet
    elapsed_s: float  # from the load's start to the last answer
    cpu_s: float  # used by this process between the start and the end
    longest_block_ms: float  # how long nothing could run at worst, time on the CPU or off it
    unanswered: int  # arrivals without an answer when it ended: never sent, or under way
    users: int
    users_wanted: int  # more than `users` when the process may not open as many connections
    clock_within_ms: float = 0.0  # on another machine: its times may be so far off ours
    met: dict[int, int] = {}  # by number of a fault in the plan: voters who behaved as it says

    @classmethod
    def read(cls, path: Path) -> "GeneratorReport | None":
        """The report, or None when the generator died before it could write one."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, path: Path) -> None:
        write_atomically(path, msgspec.json.encode(self))
