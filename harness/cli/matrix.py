"""`pollstorm matrix`: every fault in every mode, held against what was expected beforehand."""

import sys
from pathlib import Path

import click
from rich.console import Console

from harness.cli.matrix_table import print_matrix
from harness.cli.progress import print_json
from harness.cli.run import repeat_command
from harness.errors import PlanError
from harness.matrix.campaign import random_rows
from harness.matrix.expectations import Row, base_plan, chosen, modes_of, read_table
from harness.matrix.outcome import RowResult
from harness.matrix.page import gather, write
from harness.matrix.play import Place, play, played
from harness.modes.mode import find_mode

EPILOG = """\b
Examples:
  pollstorm matrix
  pollstorm matrix --only 'wipe*' --only squeeze --modes classic,ticket
  pollstorm matrix --campaign 20 --seed 7

What was played stays and is not played again; the same command goes on where it stopped.
"""


@click.command(epilog=EPILOG, short_help="Every fault in every mode, against what is expected.")
@click.option(
    "--only", multiple=True, metavar="ROW", help="Rows, by name or pattern; may be repeated."
)
@click.option("--modes", metavar="A,B", help="Only these modes.")
@click.option("--repeat", type=click.IntRange(1, 100), metavar="N", help="Trials of each cell.")
@click.option(
    "--campaign", type=click.IntRange(1, 10_000), metavar="N",
    help="Instead: N random timetables of faults for each mode that promises, or of --modes.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N",
    help="The first seed of a campaign.",
)  # fmt: skip
@click.option(
    "--at-once", type=click.IntRange(1, 16), default=2, show_default=True, metavar="N",
    help="Rows played at one time.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("reports/matrix"), show_default=True,
    metavar="DIR", help="Where it lies; what was played there is kept.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print matrix.json instead of a table.")
def matrix(
    only: tuple[str, ...],
    modes: str | None,
    repeat: int | None,
    campaign: int | None,
    seed: int,
    at_once: int,
    out: Path,
    as_json: bool,
) -> int:
    """Play every fault in every mode, and say where it was not as expected."""
    wanted = tuple(name.strip() for name in (modes or "").split(",") if name.strip())
    rows = read_table(repeat=repeat)
    if campaign is None:
        rows = chosen(rows, only, wanted)
    elif only or repeat:
        raise PlanError("--campaign draws its own rows; leave --only and --repeat away")
    else:
        promising = [mode for mode in modes_of(rows) if find_mode(mode).promises]
        rows = random_rows(base_plan(), wanted or promising, campaign, seed)
    place, console = Place(out), Console(stderr=as_json)
    command = repeat_command(sys.argv[1:])

    def told(row: Row, what: str) -> None:
        console.print(f"{row.name}: {what}", highlight=False, soft_wrap=True)

    def shown() -> list[RowResult]:
        return [result for row in rows if (result := played(place, row))]

    missing = [row for row in rows if not _is_settled(played(place, row))]
    if len(missing) < len(rows):
        console.print(f"{len(rows) - len(missing)} of {len(rows)} rows were played before")
    for _ in play(place, missing, at_once, told):
        write(out, gather(rows, shown(), command))
    result = gather(rows, shown(), command)
    page = write(out, result)
    if as_json:
        print_json((out / "matrix.json").read_bytes())
    else:
        print_matrix(result, console)
        console.print(f"\nMatrix: {page}", soft_wrap=True, highlight=False)
    return result.exit_code


def _is_settled(result: RowResult | None) -> bool:
    """Whether a row need not be played again: all that it could tell is known."""
    return result is not None and all(
        cell.outcome != "inconclusive" for cell in result.cells.values()
    )
