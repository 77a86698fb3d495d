"""A capacity study as one page, with its figures as PNG beside it."""

from pathlib import Path

from harness.capacity import wording
from harness.capacity.figures import figures
from harness.capacity.outcome import CapacityResult
from harness.report.page import fill
from harness.run_folder import write_atomically


def write_page(folder: Path, result: CapacityResult) -> Path:
    """Write `index.html` and `figures/*.png`; the page's path."""
    shown = figures(result)
    (folder / "figures").mkdir(exist_ok=True)
    for each in shown:
        if each.drawing:
            write_atomically(folder / "figures" / f"{each.name}.png", each.drawing.png)
    page = folder / "index.html"
    html = fill(
        "capacity.html",
        result=result,
        figures={each.name: each for each in shown},
        told=wording,
    )
    write_atomically(page, html.encode())
    return page
