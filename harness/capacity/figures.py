"""The figures of a capacity study, in the report's look, and their order."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.analysis.scalability import throughput
from harness.capacity.breakeven_figure import break_even_figure
from harness.capacity.marks import PANEL_IN, TICKS, legend, logarithmic
from harness.capacity.outcome import CapacityResult, StepResult
from harness.capacity.patience_figure import patience_figure
from harness.capacity.wording import enclosed
from harness.report.drawing import draw
from harness.report.gallery import Shown
from harness.report.notation import count
from harness.report.palette import INK, MUTED, PAPER, Series, series

CURVE_POINTS: Final = 200


def figures(result: CapacityResult) -> list[Shown]:
    """Those for which there is something to show."""
    shown = [_capacities(result), _responses(result)] if _judged(result) else []
    if result.scaling:
        shown.append(_scaling(result))
    if result.break_even:
        shown.append(break_even_figure(result.break_even))
    if result.patience:
        shown.append(patience_figure(result.patience))
    return shown


def _judged(result: CapacityResult) -> list[str]:
    """The modes of which a rate was tried; of others nothing is known that could be drawn."""
    return [
        name
        for name, mode in result.modes.items()
        if any(step.verdict != "invalid" for step in mode.steps)
    ]


def _looks(names: Sequence[str]) -> dict[str, Series]:
    return {name: series(number) for number, name in enumerate(names)}


def _capacities(result: CapacityResult) -> Shown:
    looks = _looks(_judged(result))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        names = [*looks][::-1]
        for place, name in enumerate(names):
            bounds, look = result.modes[name].capacity_per_s, looks[name]
            lower = bounds.lower or 0.0
            axes.barh(place, lower, height=0.5, color=look.colour, alpha=0.85)
            end = bounds.upper if bounds.upper is not None else result.usable_per_s
            hatch = "////" if bounds.upper is not None else "...."
            axes.barh(
                place, end - lower, left=lower, height=0.5, color="none",
                edgecolor=look.colour, hatch=hatch, lw=0.6,
            )  # fmt: skip
            axes.annotate(
                enclosed(bounds), (end, place), xytext=(6, 0), textcoords="offset points",
                va="center", color=INK.light, bbox={"facecolor": PAPER.light, "lw": 0, "pad": 0.5},
                zorder=4,  # before the forecast's line
            )  # fmt: skip
        if result.forecast_per_s is not None:
            axes.axvline(result.forecast_per_s, color=INK.light, lw=0.9, ls=(0, (4, 1.5)), zorder=3)
            axes.annotate(
                f"forecast {count(result.forecast_per_s)}", (result.forecast_per_s, 1),
                xycoords=("data", "axes fraction"), xytext=(3, 1), textcoords="offset points",
                color=MUTED.light, fontsize=8,
            )  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.set_xlabel("votes/s")
        axes.xaxis.set_major_formatter(TICKS)
        axes.margins(x=0.2)

    height_in = 1.1 + 0.42 * len(looks)
    caption = (
        "Solid: the highest rate that met every objective. Hatched: up to the lowest that failed. "
        "Dotted: up to where the load generator could be trusted; nothing failed there."
    )
    if result.forecast_per_s is not None:
        caption += " Dashed: the forecast."
    drawing = draw("capacity", "Sustained rate per mode", height_in, paint)
    return Shown("capacity", "How much each mode sustains", caption, drawing)


def _responses(result: CapacityResult) -> Shown:
    looks = _looks(_judged(result))

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name in zip(panels, ("p50_ms", "p99_ms"), strict=True):
            for mode, look in looks.items():
                _paint_responses(axes, result.modes[mode].steps, name, look)
            axes.set_title(name.removesuffix("_ms"))
            axes.xaxis.set_major_formatter(TICKS)
            axes.set_xlabel("acknowledged votes/s")
            axes.set_xlim(left=0)
        logarithmic(panels[0], "y")
        panels[0].set_ylabel("response, ms")
        legend(figure, looks)

    drawing = draw("response", "Latency against throughput", PANEL_IN, paint)
    caption = (
        "Each point is a trial at a constant rate, timed from when the vote was due. Filled: it "
        "met every objective. The line joins the means of the rates that were offered, in their "
        "order: where it turns back, more voters are answered later, and fewer of them."
    )
    return Shown("response", "Response against throughput", caption, drawing)


def _paint_responses(axes: Axes, steps: Sequence[StepResult], name: str, look: Series) -> None:
    by_rate: dict[float, list[tuple[float, float]]] = {}
    for step in steps:
        ms = getattr(step, name)
        if step.verdict != "invalid" and ms:
            if step.acknowledged_per_s:  # of none there is no logarithm
                by_rate.setdefault(step.rate_per_s, []).append((step.acknowledged_per_s, ms))
            axes.plot(
                [step.acknowledged_per_s], [ms], marker=look.marker, ms=5.5, mew=1.1,
                color=look.colour, mfc=look.colour if step.verdict == "passed" else PAPER.light,
            )  # fmt: skip
    means = [np.exp(np.log(by_rate[rate]).mean(axis=0)) for rate in sorted(by_rate)]
    axes.plot(
        [at for at, _ in means], [ms for _, ms in means],
        color=look.colour, ls=look.dash, lw=0.9, alpha=0.7,
    )  # fmt: skip


def _scaling(result: CapacityResult) -> Shown:
    looks = _looks([*result.scaling])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for name, scaling in result.scaling.items():
            look = looks[name]
            for saturated in (True, False):
                some = [point for point in scaling.points if point.saturated is saturated]
                axes.plot(
                    [point.processes for point in some],
                    [point.acknowledged_per_s for point in some],
                    ls="", marker=look.marker, ms=5.5, color=look.colour,
                    mfc=look.colour if saturated else PAPER.light,
                )  # fmt: skip
            if scaling.single_per_s and scaling.contention and scaling.coherency:
                numbers = np.linspace(1, max(p.processes for p in scaling.points), CURVE_POINTS)
                terms = (scaling.single_per_s, scaling.contention, scaling.coherency)
                law = throughput(numbers, *(term.value for term in terms))
                axes.plot(numbers, law, color=look.colour, ls=look.dash, lw=1.4)
        axes.set_xlabel("site processes")
        axes.set_ylabel("votes/s")
        axes.yaxis.set_major_formatter(TICKS)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        legend(figure, looks)

    drawing = draw("scaling", "Throughput against site processes", PANEL_IN, paint)
    caption = (
        "Points: acknowledged votes a second at saturation, each of one trial. Lines: the "
        "Universal Scalability Law that fits them best. Hollow: not saturated, or the generator "
        "could not keep up, so that the law leaves it out."
    )
    return Shown("scaling", "What more processes bring", caption, drawing)
