"""What the ladder's page is made of, as it is kept in `docs/ladder/`: rates and explorations."""

from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from bench.writers import WritersResult
from harness.environment import describe_environment
from harness.run_folder import write_atomically

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "docs/ladder"
RATES: Final = FOLDER / "rates.json"
MODES: Final = ("direct", "classic", "owned", "ticket", "mirrored")
WRITERS: Final = (1, 2, 4, 8, 16, 32)
MACHINE: Final = ("processor", "cores", "python", "memcached", "mariadb")


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
