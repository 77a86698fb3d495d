"""The queue's lock over time: how long processes waited for it, and how they got it."""

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from harness.report.figures import (
    LABELLED_PAD,
    TICKS,
    ModeDrawn,
    fault_key,
    legend,
    shade,
    time_axis,
)
from harness.report.notation import count
from harness.report.palette import ALTERED, LOST, MUTED, PAPER, TWICE
from harness.report.timeline import Lock, Timeline

EVENTS: Final = (
    ("takeovers", "takeover", LOST, "X"),
    ("cold", "cold grant", TWICE, "v"),
    ("overlaps", "overlap", ALTERED, "o"),
)
UNDERLAY: Final = {"boxstyle": "square,pad=0.15", "fc": PAPER.light, "ec": "none"}


def paint_lock(figure: Figure, modes: Sequence[ModeDrawn]) -> None:
    """Per queue mode: marks for what went wrong, waits, grants; one under the other."""
    drawn = [
        (mode, line, line.lock)
        for mode in modes
        if (line := mode.timeline) is not None and line.lock is not None
    ]
    column = figure.subplots(
        3 * len(drawn), 1, sharex=True, squeeze=False, height_ratios=(0.62, 1, 0.8) * len(drawn)
    )[:, 0]
    for index, (mode, line, lock) in enumerate(drawn):
        marks, waits, grants = column[3 * index : 3 * index + 3]
        for axes in (marks, waits, grants):
            axes.set_xlim(0, line.at_s[-1] + line.width_s)
            shade(axes, mode, end_s=line.at_s[-1] + line.width_s, labelled=axes is marks)
        marks.set_title(mode.name, color=mode.look.colour, pad=LABELLED_PAD if mode.faults else 6)
        _paint_marks(marks, line, lock)
        _paint_waits(waits, mode, line, lock)
        _paint_grants(grants, mode, line, lock)
    time_axis(column[-1])
    legend(
        figure,
        Line2D([], [], color=MUTED.light, lw=1.7, label="median wait"),
        Line2D([], [], color=MUTED.light, lw=0, marker=".", ms=4, label="longest wait"),
        Patch(color=MUTED.light, alpha=0.5, lw=0, label="clean grants"),
        *fault_key(modes),
    )


def _paint_marks(axes: Axes, line: Timeline, lock: Lock) -> None:
    """One lane for each kind of event; a bin with several shows how many."""
    for lane, (field, _, colour, marker) in enumerate(EVENTS):
        happened = getattr(lock, field)
        at_s = (line.at_s + line.width_s / 2)[happened > 0]
        axes.plot(at_s, [lane] * len(at_s), color=colour.light, lw=0, marker=marker, ms=5)
        axes.annotate(
            count(getattr(lock.whole, field)),
            (1, lane),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=colour.light,
            fontweight="bold",
            bbox=UNDERLAY,
        )
        if before := getattr(lock.before_load, field):
            axes.annotate(
                f"← {count(before)} before the load",
                (0, lane),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=colour.light,
                fontsize=8,
                bbox=UNDERLAY,
                zorder=1,  # under the marks
            )
    axes.set_yticks(range(len(EVENTS)), [label for _, label, _, _ in EVENTS])
    axes.set_ylim(len(EVENTS) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _paint_waits(axes: Axes, mode: ModeDrawn, line: Timeline, lock: Lock) -> None:
    middle_s = line.at_s + line.width_s / 2
    axes.set_yscale("log")
    axes.plot(middle_s, lock.wait_p50_ms, color=mode.look.colour, lw=1.7)
    axes.plot(middle_s, lock.wait_max_ms, color=mode.look.colour, lw=0, marker=".", ms=3.5)
    axes.set_ylabel("wait, ms")
    axes.yaxis.set_major_formatter(TICKS)
    axes.yaxis.minorticks_off()


def _paint_grants(axes: Axes, mode: ModeDrawn, line: Timeline, lock: Lock) -> None:
    axes.bar(
        line.at_s,
        lock.clean / line.width_s,
        line.width_s,
        align="edge",
        color=mode.look.colour,
        alpha=0.5,
        lw=0,
    )
    axes.set_ylabel("grants/s")
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(TICKS)
