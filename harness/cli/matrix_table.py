"""The matrix in a terminal: a row per fault, a column per mode."""

from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.matrix.outcome import Cell, MatrixResult
from harness.matrix.page import headline, sentence
from harness.report.notation import span

MARKS: Final = {
    "held": ("✓", "green"),
    "broken": ("✗", "bold red"),
    "inconclusive": ("?", "yellow"),
}


def print_matrix(result: MatrixResult, console: Console) -> None:
    """Print the cells, then why some did not hold."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("fault", no_wrap=True)
    for mode in result.modes:
        table.add_column(mode, no_wrap=True)
    for row in result.rows:
        cells = [_written(row.cells.get(mode)) for mode in result.modes]
        table.add_row(row.name, *cells)
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table).maximum)
    console.print(table)
    for row in result.rows:
        for mode, cell in row.cells.items():
            if cell.because:
                mark, style = MARKS[cell.outcome]
                said = f"{mark} {row.name}, {mode}: {cell.because} (expected: {cell.expected})"
                said += f"\n  under {'; '.join(row.faults)}" if row.faults else ""
                console.print(Text(said, style=style))
    console.print(f"{headline(result)}: {sentence(result)}", highlight=False)


def _written(cell: Cell | None) -> Text:
    if cell is None:
        return Text("–", style="dim")
    mark, style = MARKS[cell.outcome]
    if not cell.counted:
        return Text(mark, style=style)
    parts = []
    if cell.lost[1]:
        parts.append(f"{span(cell.lost)} lost")
    if cell.doubled[1]:
        parts.append(f"{span(cell.doubled)} twice")
    return Text(f"{mark} {', '.join(parts)}".rstrip(), style=style)
