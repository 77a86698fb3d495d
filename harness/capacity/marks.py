"""What the figures of a study share: legend, ticks, and how high a panel is."""

from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from harness.report.palette import Series

TICKS: Final = FuncFormatter(lambda value, _: f"{value:,.10g}")
PANEL_IN: Final = 2.9  # height of a figure with one panel
MOST_COLUMNS: Final = 6


def legend(owner: Figure | Axes, looks: Mapping[str, Series], title: str = "") -> None:
    """Names with their lines and markers, above a figure or, with a title, one of its panels."""
    handles = [
        Line2D([], [], color=look.colour, ls=look.dash, marker=look.marker, ms=5, label=name)
        for name, look in looks.items()
    ]
    columns = max(1, min(MOST_COLUMNS, len(handles)))
    if isinstance(owner, Figure):
        owner.legend(handles=handles, loc="outside upper left", ncols=columns)
    else:
        owner.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns,
            title=title, alignment="left", borderaxespad=0.2, columnspacing=1.2,
        )  # fmt: skip


def logarithmic(axes: Axes, axis: str) -> None:
    """Ticks at 1, 2 and 5 of each decade, written out."""
    of = axes.xaxis if axis == "x" else axes.yaxis
    axes.set(**{f"{axis}scale": "log"})
    of.set_major_locator(LogLocator(subs=(1, 2, 5)))
    of.set_major_formatter(TICKS)
    of.set_minor_formatter(FuncFormatter(lambda *_: ""))
