"""The matrix as one page and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from harness.matrix.expectations import Row, modes_of
from harness.matrix.outcome import SCHEMA_VERSION, MatrixResult, RowResult
from harness.report.page import fill
from harness.run_folder import write_atomically

HEADLINES: Final = {0: "As expected", 3: "Not all is known", 99: "Not as expected"}


def gather(rows: Sequence[Row], results: Sequence[RowResult], command: str) -> MatrixResult:
    """What is known of the rows; the others are waiting."""
    known = {result.name for result in results}
    return MatrixResult(
        schema_version=SCHEMA_VERSION,
        command=command,
        modes=modes_of(rows),
        rows=tuple(results),
        waiting=tuple(row.name for row in rows if row.name not in known),
    )


def write(folder: Path, result: MatrixResult) -> Path:
    """Write `matrix.json` and `index.html`; the page's path."""
    write_atomically(folder / "matrix.json", msgspec.json.format(msgspec.json.encode(result)))
    page = folder / "index.html"
    write_atomically(
        page,
        fill(
            "matrix.html", result=result, headline=headline(result), sentence=sentence(result)
        ).encode(),
    )
    return page


def headline(result: MatrixResult) -> str:
    """Two or three words."""
    return HEADLINES[int(result.exit_code)]


def sentence(result: MatrixResult) -> str:
    """How many cells held, and what is missing."""
    held, broken, open_ = (result.count(each) for each in ("held", "broken", "inconclusive"))
    said = f"{held} of {held + broken + open_} cells as expected"
    if broken:
        said += f", {broken} not"
    if open_:
        said += f", {open_} inconclusive"
    if result.waiting:
        said += f"; {len(result.waiting)} rows not played yet"
    return f"{said}."
