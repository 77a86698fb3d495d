"""`python -m bench [name …]`: measure, print a table, write `bench/results.json`.

A name is a figure's, `site.journal`, or a module's, `site`, for all of its figures. Each
`bench/bench_<module>.py` has `MEASUREMENTS`; each is kept as soon as it is done. Targets that are
missed are shown, never an error: these are measurements, not tests.
"""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.figure import Figure, Measurement
from harness.errors import Exit, PollstormError

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results.json"
WIDTH: Final = 150  # of the table in a file: as wide as its longest row

NUMBERS: Final = ("value", "ratio", "rounds")
HEADINGS: Final = (
    *("figure", "value", "unit", "against", "ratio"),
    *("half of the ratios", "rounds", "target", "met"),
)


def main(names: list[str]) -> int:
    measurements = known()
    if strange := [name for name in names if not chosen([name], measurements)]:
        every = ", ".join(name for each in measurements for name in each.names)
        print(f"bench: no {', '.join(strange)}; known: {every}", file=sys.stderr)
        return Exit.USAGE
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    figures: list[Figure] = []
    code = Exit.OK
    for measurement in chosen(names, measurements):
        console.print(f"measuring {', '.join(measurement.names)} …", style="dim")
        try:
            measured = measurement.measure()
        except PollstormError as error:
            print(f"bench: {error}", file=sys.stderr)
            code = Exit.FAILED
            continue
        figures += measured
        keep(measured, {name for each in measurements for name in each.names})
    console.print(table(figures))
    return code


def known() -> list[Measurement]:
    """All measurements of all modules."""
    found: list[Measurement] = []
    for path in sorted(HERE.glob("bench_*.py")):
        found += importlib.import_module(f"bench.{path.stem}").MEASUREMENTS
    return found


def chosen(names: list[str], measurements: list[Measurement]) -> list[Measurement]:
    """Those that give a figure of one of the names, or of a module of that name; all by default."""

    def is_meant(figure: str) -> bool:
        return figure in names or figure.partition(".")[0] in names

    return [each for each in measurements if not names or any(map(is_meant, each.names))]


def table(figures: Iterable[Figure]) -> Table:
    drawn = Table(
        title="pollstorm bench",
        title_justify="left",
        caption="value, against and ratio are of the round with the median ratio",
        caption_justify="left",
    )
    for heading in HEADINGS:
        drawn.add_column(heading, justify="right" if heading in NUMBERS else "left")
    for f in figures:
        lower, upper = f.ratio_quartiles
        drawn.add_row(
            f.name,
            f"{f.value:,.4g}",
            f.unit,
            f.against,
            f"{f.ratio:.3f}",
            f"{lower:.3f} – {upper:.3f}",
            str(f.rounds),
            f.target,
            {True: "yes", False: "NO", None: ""}[f.met],
        )
    return drawn


def keep(figures: Iterable[Figure], names: set[str]) -> None:
    """Replace these figures in results.json, leave the others that still have one of the names."""
    entries: list[dict[str, Any]] = []
    if RESULTS.exists():
        entries = msgspec.json.decode(RESULTS.read_bytes(), type=list[dict[str, Any]])
    by_name = {entry["name"]: entry for entry in entries if entry["name"] in names}
    by_name |= {figure.name: figure._asdict() for figure in figures}
    content = msgspec.json.encode([by_name[name] for name in sorted(by_name)])
    RESULTS.write_bytes(msgspec.json.format(content) + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
