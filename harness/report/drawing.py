"""From a matplotlib figure to inline SVG that follows the page's colours, and to PNG.

No pyplot: figures are objects, so nothing global is left behind.
"""

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any, Final, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from harness.report.palette import COLOURS, GRID, INK, MUTED, PAPER

WIDTH_IN: Final = 8.6  # at 9 pt text reads like the page's own when shown 1000 px wide
PNG_DPI: Final = 160
STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, and is wider than what browsers take
    "font.size": 9,
    "text.color": INK.light,
    "axes.labelcolor": MUTED.light,
    "axes.edgecolor": MUTED.light,
    "axes.linewidth": 0.6,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK.light,
    "grid.color": GRID.light,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED.light,
    "ytick.color": MUTED.light,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "hatch.linewidth": 0.8,
    "text.parse_math": False,  # a name with dollar signs is a name
    "svg.fonttype": "none",
}
_ID: Final = re.compile(r'(\bid="|\burl\(#|\bhref="#)([^")]+)')
_SENTINELS: Final = re.compile("|".join(colour.light for colour in COLOURS))
_NAMES: Final = {colour.light: colour.name for colour in COLOURS}


class Drawing(NamedTuple):
    """One finished figure."""

    svg: str  # an <svg> element without document head, for a page that sets the variables
    png: bytes  # light


def draw(name: str, label: str, height_in: float, paint: Callable[[Figure], None]) -> Drawing:
    """Let `paint` fill a figure; `name` makes its ids unique on a page, `label` is read aloud."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        paint(figure)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=PNG_DPI, facecolor=PAPER.light)
        figure.set_layout_engine(None)  # it stands: laying out takes as long as drawing
        figure.patch.set_visible(False)
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Drawing(inline(svg.getvalue().decode(), name, label), png.getvalue())


def inline(document: str, name: str, label: str) -> str:
    """matplotlib's SVG document as an element for a page: own ids, the page's font and colours."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    numbers: dict[str, int] = {}  # matplotlib's ids differ from run to run
    svg = _ID.sub(
        lambda m: f"{m[1]}{name}-{numbers.setdefault(m[2], len(numbers))}",
        svg.replace("xlink:href", "href"),
    )
    svg = re.sub(r"(font: [^;\"]*?px) [^;\"]+", r"\1 var(--font, sans-serif)", svg)
    svg = _SENTINELS.sub(lambda found: f"var(--{_NAMES[found[0]]}, {found[0]})", svg)
    view = re.search(r'viewBox="[^"]+"', svg)
    assert view, "matplotlib always writes a viewBox"
    head = f'<svg {view[0]} role="img" aria-label="{escape(label)}" class="figure">'
    return head + svg[svg.index(">") + 1 :].strip()
