"""The history of checks as a page: how each figure changed from check to check."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from harness.gate.outcome import CheckResult, Timed
from harness.report.drawing import draw
from harness.report.gallery import Shown
from harness.report.page import fill
from harness.report.palette import INK, LOST, MUTED, series
from harness.run_folder import write_atomically

SHOWN: Final = 60  # checks, the newest; more would not be told apart
LABELLED: Final = 12
PERCENT: Final = FuncFormatter(
    lambda value, _: f"{value:+.0f} %".replace("-", "−") if value else "0 %"
)
PANEL_IN: Final = 2.0


def write_trend(results: Sequence[CheckResult], page: Path) -> Path:
    """Write the page, and its figures as PNG beside it; the page's path."""
    newest = list(results)[-SHOWN:]
    shown = [_trend(newest, figure) for figure in _figures(newest)]
    for each in shown:
        if each.drawing:
            write_atomically(page.with_name(f"{each.name}.png"), each.drawing.png)
    left_out = len(results) - len(newest)
    html = fill("trend.html", checks=newest[::-1], figures=shown, left_out=left_out)
    write_atomically(page, html.encode())
    return page


def _figures(results: Sequence[CheckResult]) -> list[str]:
    """Timed figures by which checks were decided, in the order in which they first appear."""
    found = [
        name
        for result in results
        for mode in result.modes.values()
        for name, timed in mode.timed.items()
        if timed.decides
    ]
    return list(dict.fromkeys(found))


def _trend(results: Sequence[CheckResult], figure_name: str) -> Shown:
    modes = list(dict.fromkeys(mode for result in results for mode in result.modes))
    looks = {mode: series(number) for number, mode in enumerate(modes)}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for mode, look in looks.items():
            points = [
                (number, timed)
                for number, result in enumerate(results)
                if (timed := _timed(result, mode, figure_name))
            ]
            for number, timed in points:
                axes.plot(
                    [number] * 2, [timed.low * 100, timed.high * 100], color=look.colour, lw=1,
                    alpha=0.6,
                )  # fmt: skip
                worse = timed.judgement == "worse"
                axes.plot(
                    number, timed.change * 100, ls="", marker=look.marker, ms=5.5,
                    color=LOST.light if worse else look.colour,
                )  # fmt: skip
        margins = {t.margin for r in results for m in modes if (t := _timed(r, m, figure_name))}
        for margin in margins:
            axes.axhline(margin * 100, color=MUTED.light, lw=0.9, ls=(0, (4, 1.5)))
        axes.axhline(0, color=INK.light, lw=0.7)
        step = -(-len(results) // LABELLED)
        axes.set_xticks(range(0, len(results), step), [r.candidate.commit for r in results[::step]])
        axes.set_xlim(-0.5, len(results) - 0.5)
        axes.yaxis.set_major_formatter(PERCENT)
        handles = [
            Line2D([], [], color=look.colour, ls="", marker=look.marker, ms=5, label=mode)
            for mode, look in looks.items()
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=6)

    drawing = draw(f"trend-{figure_name}", f"{figure_name} from check to check", PANEL_IN, paint)
    caption = (
        "Change against each check's own baseline, with its 95 % interval, by commit. "
        "Dashed: the margin; red: found worse."
    )
    return Shown(f"trend-{figure_name}", TITLES.get(figure_name, figure_name), caption, drawing)


TITLES: Final = {"p50": "Median latency", "cpu": "Processor time per vote"}


def _timed(result: CheckResult, mode: str, figure: str) -> Timed | None:
    found = result.modes.get(mode)
    return found.timed.get(figure) if found else None
