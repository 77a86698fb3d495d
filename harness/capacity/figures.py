"""The figures of a capacity study, in the report's look."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.analysis.scalability import throughput
from harness.capacity.outcome import BreakEven, CapacityResult, PatienceCell, PatienceMap
from harness.report.drawing import draw
from harness.report.gallery import Shown
from harness.report.notation import count
from harness.report.palette import INK, KEPT, LOST, MUTED, PAPER, Series, series

TICKS: Final = FuncFormatter(lambda value, _: f"{value:,.10g}")
CURVE_POINTS: Final = 200
PANEL_IN: Final = 2.9  # height of a figure with one panel
CELL_IN: Final = 0.42


def figures(result: CapacityResult) -> list[Shown]:
    """Those for which there is something to show."""
    shown = [_capacities(result), _responses(result)] if _judged(result) else []
    if result.scaling:
        shown.append(_scaling(result))
    if result.break_even:
        shown.append(_break_even(result.break_even))
    if result.patience:
        shown.append(_patience(result.patience))
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
            axes.text(end, place, f"  {count(bounds.lower)}", va="center", color=INK.light)
        if result.forecast_per_s is not None:
            axes.axvline(result.forecast_per_s, color=INK.light, lw=0.9, ls=(0, (4, 1.5)))
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.set_xlabel("votes/s")
        axes.xaxis.set_major_formatter(TICKS)
        axes.margins(x=0.12)

    height_in = 0.9 + 0.42 * len(looks)
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
        axes = figure.subplots()
        for name, look in looks.items():
            every = result.modes[name].steps
            steps = sorted(
                (step for step in every if step.p99_ms and step.verdict != "invalid"),
                key=lambda step: step.rate_per_s,
            )
            for passed in (True, False):
                some = [step for step in steps if (step.verdict == "passed") is passed]
                axes.plot(
                    [step.acknowledged_per_s for step in some],
                    [step.p99_ms or 0.0 for step in some],
                    ls="", marker=look.marker, ms=5.5, mew=1.1, color=look.colour,
                    mfc=look.colour if passed else PAPER.light,
                )  # fmt: skip
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(TICKS)
        axes.xaxis.set_major_formatter(TICKS)
        axes.set_xlabel("acknowledged votes/s")
        axes.set_ylabel("p99, ms")
        axes.set_xlim(left=0)
        _legend(figure, looks)

    drawing = draw("response", "p99 latency against throughput", PANEL_IN, paint)
    caption = "Each point is a trial at a constant rate. Filled: it met every objective."
    return Shown("response", "Latency against throughput", caption, drawing)


def _scaling(result: CapacityResult) -> Shown:
    looks = _looks([*result.scaling])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for name, scaling in result.scaling.items():
            look = looks[name]
            axes.plot(
                [point.processes for point in scaling.points],
                [point.acknowledged_per_s for point in scaling.points],
                ls="", marker=look.marker, ms=5.5, color=look.colour,
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
        _legend(figure, looks)

    drawing = draw("scaling", "Throughput against site processes", PANEL_IN, paint)
    caption = (
        "Points: acknowledged votes a second at saturation. Lines: the Universal Scalability Law "
        "that fits them best."
    )
    return Shown("scaling", "What more processes bring", caption, drawing)


def _break_even(found: BreakEven) -> Shown:
    shares = sorted({point.results_per_vote for point in found.points})
    looks = {f"{share:g} readers per vote": series(n) for n, share in enumerate(shares)}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for share, look in zip(shares, looks.values(), strict=True):
            points = sorted(
                (point.commit_ms, point.queue_per_s / point.direct_per_s)
                for point in found.points
                if point.results_per_vote == share and point.commit_ms and point.direct_per_s
            )
            axes.plot(
                [commit for commit, _ in points], [ratio for _, ratio in points],
                color=look.colour, ls=look.dash, marker=look.marker, ms=5,
            )  # fmt: skip
        axes.axhline(1, color=INK.light, lw=0.9)
        axes.text(0.995, 1, "as many ", transform=axes.get_yaxis_transform(), ha="right",
                  va="bottom", color=MUTED.light, fontsize=8)  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(TICKS)
            axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axes.set_xlabel("a vote's own INSERT at a trickle, ms")
        axes.set_ylabel(f"{found.queue} / direct")
        _legend(figure, looks)

    drawing = draw("break-even", f"{found.queue} against direct", PANEL_IN, paint)
    caption = (
        f"Votes a second at saturation, {found.queue} over direct: above the line the queue takes "
        "more. Commits are made slow by MariaDB's group-commit wait."
    )
    return Shown("break-even", "When the queue wins", caption, drawing)


def _patience(found: PatienceMap) -> Shown:
    rates = sorted({cell.rate_per_s for cell in found.cells})
    stalls = sorted({cell.stall_s for cell in found.cells})
    patiences = sorted({cell.patience_s for cell in found.cells})

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(rates), sharey=True, squeeze=False)[0]
        for axes, rate in zip(panels, rates, strict=True):
            cells = [cell for cell in found.cells if cell.rate_per_s == rate]
            _paint_map(axes, cells, stalls, patiences)
            axes.set_title(f"{rate:g} votes/s")
            axes.set_xlabel("patience, s")
        panels[0].set_ylabel("stall, s")

    drawing = draw(
        "patience", "Votes lost by patience and stall", 1.1 + CELL_IN * len(stalls), paint
    )
    caption = (
        f"Votes that {found.mode} lost when the lock's holder stood still for so long, while the "
        "others waited for so long. Simulated; in a frame, with what was measured in brackets."
    )
    return Shown("patience", "How long to wait for a lock", caption, drawing)


def _paint_map(
    axes: Axes, cells: Sequence[PatienceCell], stalls: list[float], patiences: list[float]
) -> None:
    most = max((cell.lost for cell in cells), default=0.0) or 1.0
    measured = {(c.stall_s, c.patience_s): c.lost for c in cells if not c.simulated}
    for cell in cells:
        if not cell.simulated:
            continue
        x, y = patiences.index(cell.patience_s), stalls.index(cell.stall_s)
        colour = LOST.light if cell.lost else KEPT.light
        strength = 0.15 + 0.6 * (cell.lost / most) if cell.lost else 0.22
        axes.barh(y, 0.94, left=x - 0.47, height=0.9, color=colour, alpha=strength, lw=0)
        real = measured.get((cell.stall_s, cell.patience_s))
        text = f"{cell.lost:g}" + ("" if real is None else f" ({real:g})")
        axes.text(x, y, text, ha="center", va="center", color=INK.light, fontsize=8)
        if real is not None:
            axes.barh(y, 0.94, left=x - 0.47, height=0.9, color="none", edgecolor=INK.light, lw=1.2)
    axes.set_xticks(range(len(patiences)), [f"{value:g}" for value in patiences])
    axes.set_yticks(range(len(stalls)), [f"{value:g}" for value in stalls])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlim(-0.6, len(patiences) - 0.4)


def _legend(figure: Figure, looks: dict[str, Series]) -> None:
    handles = [
        Line2D([], [], color=look.colour, ls=look.dash, marker=look.marker, ms=5, label=name)
        for name, look in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)))
