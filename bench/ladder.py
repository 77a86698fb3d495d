"""What the ladder's page is made of, as it is kept in `docs/ladder/`: rates and explorations."""

from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec

from bench.writers import WritersResult
from harness.cli.explore import space_of
from harness.environment import describe_environment
from harness.exploration.bounds import READER, WRITER, Bounds
from harness.exploration.report import Exploration, describe
from harness.exploration.search import Search
from harness.run_folder import write_atomically

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "docs/ladder"
RATES: Final = FOLDER / "rates.json"
MODES: Final = ("direct", "classic", "owned", "ticket", "mirrored")
WRITERS: Final = (1, 2, 4, 8, 16, 32)
MACHINE: Final = ("processor", "cores", "python", "memcached", "mariadb")


class Asked(NamedTuple):
    """An exploration that the page tells of, and its trouble in words."""

    protocol: str
    trouble: str
    bounds: Bounds

    @property
    def path(self) -> Path:
        """Where its report is kept: that of `pollstorm explore … --json`."""
        flags = self.bounds.flags().replace("--", "").replace(" ", "-")
        return FOLDER / f"{self.protocol}-{flags}.json"


EXPLORATIONS: Final = (
    Asked("classic", "warm, nobody takes over", Bounds(writers=3, takeovers=0)),
    Asked("classic", "patience ends once", Bounds(writers=1)),
    Asked("classic", "a reader dies", Bounds(writers=1, takeovers=0, crash=READER)),
    Asked("classic", "a cold start", Bounds(takeovers=0, cold=True)),
    Asked("owned", "a cold start", Bounds(writers=3, readers=2, takeovers=0, cold=True)),
    Asked("owned", "a lock expires under its owner", Bounds(writers=1)),
    Asked("owned", "a reader dies", Bounds(writers=1, takeovers=0, crash=READER)),
    Asked("owned", "a writer dies", Bounds(drains=2, takeovers=0, crash=WRITER)),
    Asked("ticket", "many drains", Bounds(readers=2, drains=3)),
    Asked("ticket", "a cold start", Bounds(readers=2, cold=True)),
    Asked("ticket", "a cold start, a reader dies", Bounds(drains=2, cold=True, crash=READER)),
    Asked("ticket", "a cold start, a writer dies", Bounds(drains=2, cold=True, crash=WRITER)),
    Asked("ticket", "a cold start, a reply is lost", Bounds(drains=2, cold=True, lost_reply=True)),
    Asked(
        "ticket",
        "a cold start, a pointer vanishes",
        Bounds(drains=2, cold=True, evict_pointer=True),
    ),
    Asked(
        "ticket",
        "a cold start, tombstones expire",
        Bounds(drains=2, cold=True, expire_tombstones=True),
    ),
    Asked("ticket", "a wipe", Bounds(drains=2, wipe=True)),
    Asked("mirrored", "a cold start", Bounds(cold=True)),
    Asked("mirrored", "a writer dies", Bounds(crash=WRITER)),
    Asked("mirrored", "a wipe of one daemon", Bounds(wipe=True)),
    Asked(
        "mirrored", "a wipe of one daemon, several readers", Bounds(writers=1, readers=2, wipe=True)
    ),
)


class Rate(msgspec.Struct, frozen=True):
    """One protocol with so many writers: medians of all rounds, and sums of what went wrong."""

    mode: str
    writers: int
    votes_per_s: float
    slowest_per_s: float  # of all rounds
    quickest_per_s: float
    p50_ms: float
    p99_ms: float
    round_trips: float  # per vote
    takeovers: int
    gave_up: int
    lost: int | None  # None: a queue did not empty
    doubled: int


class Rates(msgspec.Struct, frozen=True):
    """All protocols side by side, as measured in one run of the bench."""

    machine: dict[str, Any]
    rounds: int
    lasts_s: float  # each
    rows: list[Rate]

    def of(self, mode: str, writers: int) -> Rate:
        """Raises StopIteration for what was not measured."""
        return next(row for row in self.rows if (row.mode, row.writers) == (mode, writers))


def summarise(results: list[WritersResult]) -> Rate:
    """One setting's rounds."""
    rates = [result.votes_per_s for result in results]
    lost = [result.lost for result in results]
    return Rate(
        mode=results[0].mode,
        writers=results[0].writers,
        votes_per_s=round(median(rates), 1),
        slowest_per_s=round(min(rates), 1),
        quickest_per_s=round(max(rates), 1),
        p50_ms=round(median(result.p50_ms for result in results), 4),
        p99_ms=round(median(result.p99_ms for result in results), 4),
        round_trips=round(median(result.round_trips for result in results), 2),
        takeovers=sum(result.takeovers for result in results),
        gave_up=sum(result.gave_up for result in results),
        lost=None if None in lost else sum(filter(None, lost)),
        doubled=sum(result.doubled for result in results),
    )


def keep_rates(rows: list[Rate], rounds: int, lasts_s: float) -> Rates:
    """Write them down, with the machine that they are of."""
    environment = describe_environment()
    machine = {name: environment[name] for name in MACHINE}
    rates = Rates(machine, rounds, lasts_s, rows)
    write(RATES, rates)
    return rates


def read_rates() -> Rates:
    return msgspec.json.decode(RATES.read_bytes(), type=Rates)


def write(path: Path, content: msgspec.Struct) -> None:
    write_atomically(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def explore(asked: Asked) -> Exploration:
    """What `pollstorm explore` says of it now."""
    space = space_of(asked.protocol, asked.bounds)
    return describe(asked.protocol, space, Search(space).run())


def read_exploration(asked: Asked) -> Exploration:
    return msgspec.json.decode(asked.path.read_bytes(), type=Exploration)
