"""`python -m bench [name …]`: measure, print a table, write `bench/results.json`.

Each `bench/bench_<name>.py` has `measure() -> list[Figure]`. Targets that are missed are shown,
never an error: these are measurements, not tests.
"""

import importlib
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.figure import Figure

HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    if unknown := set(names) - set(known):
        print(f"bench: no {', '.join(sorted(unknown))}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else 140)
    figures: list[Figure] = []
    for name in names or known:
        console.print(f"measuring {name} …", style="dim")
        figures += importlib.import_module(f"bench.bench_{name}").measure()
    console.print(table(figures))
    keep(figures)
    return 0


def table(figures: list[Figure]) -> Table:
    drawn = Table(title="pollstorm bench", title_justify="left")
    for heading, justify in (
        ("figure", "left"),
        ("value", "right"),
        ("unit", "left"),
        ("against", "left"),
        ("ratio", "right"),
        ("target", "left"),
        ("met", "left"),
    ):
        drawn.add_column(heading, justify=justify)
    for f in figures:
        ratio = "" if f.ratio is None else f"{f.ratio:.3f}"
        met = {True: "yes", False: "NO", None: ""}[f.met]
        drawn.add_row(f.name, f"{f.value:,.4g}", f.unit, f.against, ratio, f.target, met)
    return drawn


def keep(figures: list[Figure]) -> None:
    """Replace the figures of the same name in results.json, leave the others."""
    path = HERE / "results.json"
    old = msgspec.json.decode(path.read_bytes(), type=list[dict]) if path.exists() else []
    fresh = {f.name: f._asdict() for f in figures}
    kept = [entry for entry in old if entry["name"] not in fresh]
    content = msgspec.json.encode(sorted([*kept, *fresh.values()], key=lambda e: e["name"]))
    path.write_bytes(msgspec.json.format(content) + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
