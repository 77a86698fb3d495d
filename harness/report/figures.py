"""The figures over time and over percentiles, painted from a run's timelines.

Each painter fills one matplotlib figure; which figures a report has stands in `gallery`.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report import palette
from harness.report.palette import FAULT, INK, MUTED
from harness.report.timeline import Floats, Timeline
from harness.result import FaultRecord, ModeResult

SHARES: Final = tuple(1 - 10 ** (-k / 12) for k in range(1, 61))  # 17 % … 99.999 %, evenly in nines
COUNTED_SHARES: Final = tuple(k / 200 for k in range(1, 201))
TICKS: Final = FuncFormatter(lambda value, _: f"{value:,.10g}")  # 0.1, 1, 1,000
QUICKEST_S: Final = 1e-3  # quicker is drawn at the axis's left edge
ROOM_FOR_KIND: Final = 0.15  # of the axis's length: room for "F1 pause" in a narrow panel
CLOSEST_LABELS: Final = 0.06  # of the axis's length: room for "F1"
SAME_MOMENT: Final = 0.01  # of the axis's length: one plan's fault, as two modes suffered it
LABELLED_PAD: Final = 17  # points: a title stands above the labels of faults


class ModeDrawn(NamedTuple):
    """One mode as its figures need it."""

    name: str
    result: ModeResult
    look: palette.Series
    timeline: Timeline | None  # of the trial drawn; None when its history cannot be read
    faults: Sequence[FaultRecord]  # of that trial
    latency_ms: Floats  # at SHARES; empty without
    counted_after_s: Floats  # at COUNTED_SHARES; empty without
    trouble: str = ""  # what of its history cannot be read: a sentence


def paint_rates(figure: Figure, modes: Sequence[ModeDrawn]) -> None:
    """Offered, sent and acknowledged votes/s, one panel per mode on the same axes."""
    for axes, mode, line in _panels(figure, modes):
        look, middle_s = mode.look, line.at_s + line.width_s / 2
        axes.fill_between(middle_s, line.acknowledged_per_s, color=look.colour, alpha=0.16, lw=0)
        axes.plot(middle_s, line.acknowledged_per_s, color=look.colour, lw=1.6)
        axes.plot(middle_s, line.sent_per_s, color=MUTED.light, lw=0.9, ls=(0, (1, 1)))
        axes.plot(middle_s, line.offered_per_s, color=INK.light, lw=0.9, ls=(0, (4, 1.5)))
        axes.set_ylabel("votes/s")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(TICKS)
    figure.axes[0].set_ylim(bottom=0)  # last, since it ends the fitting of the shared axis
    legend(
        figure,
        Line2D([], [], color=INK.light, lw=0.9, ls=(0, (4, 1.5)), label="offered"),
        Line2D([], [], color=MUTED.light, lw=0.9, ls=(0, (1, 1)), label="sent"),
        Patch(color=MUTED.light, alpha=0.35, lw=0, label="acknowledged (the mode’s colour)"),
        *fault_key(modes),
    )


def paint_latency(figure: Figure, modes: Sequence[ModeDrawn]) -> None:
    """Median, 99th percentile and maximum from planned time, one panel per mode."""
    for axes, mode, line in _panels(figure, modes):
        look, middle_s = mode.look, line.at_s + line.width_s / 2
        axes.set_yscale("log")
        axes.fill_between(
            middle_s, line.latency_p50_ms, line.latency_p99_ms, color=look.colour, alpha=0.16, lw=0
        )
        axes.plot(middle_s, line.latency_p50_ms, color=look.colour, lw=1.7)
        axes.plot(middle_s, line.latency_p99_ms, color=look.colour, lw=1.1, ls=(0, (4, 1.5)))
        axes.plot(middle_s, line.latency_max_ms, color=look.colour, lw=0, marker=".", ms=2.5)
        axes.set_ylabel("ms")
        axes.yaxis.set_major_formatter(TICKS)
        axes.yaxis.minorticks_off()
    legend(
        figure,
        Line2D([], [], color=MUTED.light, lw=1.7, label="median"),
        Line2D([], [], color=MUTED.light, lw=1.1, ls=(0, (4, 1.5)), label="99th percentile"),
        Line2D([], [], color=MUTED.light, lw=0, marker=".", ms=4, label="slowest"),
        *fault_key(modes),
    )


def paint_percentiles(figure: Figure, modes: Sequence[ModeDrawn]) -> None:
    """Latency over percentile on an axis of nines, all modes in one panel."""
    axes = figure.subplots()
    for mode in modes:
        known = [s for s in SHARES if (1 - s) * _votes(mode) >= 1][: len(mode.latency_ms)]
        nines = [-np.log10(1 - share) for share in known]
        look = mode.look
        axes.plot(
            nines,
            mode.latency_ms[: len(known)],
            color=look.colour,
            ls=look.dash,
            marker=look.marker,
            markevery=12,
            ms=4,
            lw=1.7,
        )
    axes.set_yscale("log")
    right = max(axes.get_xlim()[1], 3.05)
    axes.set_xticks(
        [-np.log10(0.5), 1, 2, 3, 4, 5], ["50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]
    )
    axes.set_xlim(0, right)
    axes.grid(axis="x")
    axes.set_xlabel("share of answered votes that were at least as quick")
    axes.set_ylabel("latency from planned time, ms")
    axes.yaxis.set_major_formatter(TICKS)
    axes.yaxis.minorticks_off()
    legend(figure, *mode_keys(modes))


def paint_counting(figure: Figure, modes: Sequence[ModeDrawn]) -> None:
    """Backlog over time, and how soon an acknowledged vote is counted."""
    over_time, within = figure.subplots(1, 2, width_ratios=(1.25, 1))
    for mode in modes:
        line, look = mode.timeline, mode.look
        if line is not None and line.backlog_votes is not None:
            over_time.plot(
                line.at_s + line.width_s,
                line.backlog_votes,
                color=look.colour,
                ls=look.dash,
                marker=look.marker,
                markevery=12,
                ms=4,
            )
    end_s = over_time.get_xlim()[1]
    over_time.set_xlim(0, end_s)
    shade(over_time, *modes, end_s=end_s)
    over_time.set_title("Acknowledged, not yet counted", pad=LABELLED_PAD)
    time_axis(over_time)
    over_time.set_ylabel("votes")
    over_time.set_ylim(bottom=0)
    over_time.yaxis.set_major_formatter(TICKS)
    _paint_counted_within(within, modes)
    legend(figure, *mode_keys(modes), *fault_key(modes))


def shade(axes: Axes, *modes: ModeDrawn, end_s: float, labelled: bool = True) -> None:
    """Shade the modes' faults, each once, and number them above an axis of `end_s` seconds.

    One that missed did nothing: it has a dotted line where it was to begin.
    """
    faults = _distinct_faults(modes, end_s)
    for _, fault in faults:
        axes.axvline(
            fault.start_s, color=FAULT.light, lw=0.9, ls="-" if fault.hit else ":", zorder=0.5
        )
        if fault.hit:
            axes.axvspan(fault.start_s, fault.end_s, color=FAULT.light, alpha=0.18, lw=0, zorder=0)
    named = _apart(faults, CLOSEST_LABELS * end_s) if labelled else []
    ends_s = [fault.start_s for _, fault in named[1:]] + [end_s]
    for (number, fault), after_s in zip(named, ends_s, strict=False):
        said = fault.kind if fault.hit else "missed"
        roomy = (after_s - fault.start_s) / end_s > ROOM_FOR_KIND
        axes.annotate(
            f"F{number} {said}" if roomy else f"F{number}",
            (fault.start_s, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            color=MUTED.light,
            fontsize=8,
        )


def _distinct_faults(modes: Sequence[ModeDrawn], end_s: float) -> list[tuple[int, FaultRecord]]:
    """The faults with their numbers, by start; one that several modes suffered stands once.

    What happened while a queue was drained in vain comes behind the axis' end.
    """
    distinct: list[tuple[int, FaultRecord]] = []
    numbered = [pair for mode in modes for pair in enumerate(mode.faults, start=1)]
    for number, fault in sorted(numbered, key=lambda pair: pair[1].start_s):
        if fault.start_s <= end_s and not any(
            (number, fault.kind, fault.target, fault.hit)
            == (other_number, other.kind, other.target, other.hit)
            and fault.start_s - other.start_s < SAME_MOMENT * end_s
            for other_number, other in distinct
        ):
            distinct.append((number, fault))
    return distinct


def _apart(
    faults: Sequence[tuple[int, FaultRecord]], least_s: float
) -> list[tuple[int, FaultRecord]]:
    """Those whose labels do not run into the one before."""
    apart: list[tuple[int, FaultRecord]] = []
    for number, fault in faults:
        if not apart or fault.start_s - apart[-1][1].start_s >= least_s:
            apart.append((number, fault))
    return apart


def time_axis(axes: Axes) -> None:
    """Name the axis that all panels of a figure share."""
    axes.set_xlabel("seconds after the load’s start")
    axes.xaxis.set_major_formatter(TICKS)


def fault_key(modes: Sequence[ModeDrawn]) -> list[Patch]:
    """The legend's entry for faults, if there were any."""
    if not any(mode.faults for mode in modes):
        return []
    return [Patch(color=FAULT.light, alpha=0.3, lw=0, label="fault injected")]


def legend(figure: Figure, *handles: Line2D | Patch) -> None:
    """One legend above all panels."""
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(len(handles), 5), handlelength=2.8
    )


def _panels(figure: Figure, modes: Sequence[ModeDrawn]) -> list[tuple[Axes, ModeDrawn, Timeline]]:
    """One panel under the other on the same axes, titled and with its faults shaded."""
    drawn = [(mode, mode.timeline) for mode in modes if mode.timeline is not None]
    column = figure.subplots(len(drawn), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (mode, line) in zip(column, drawn, strict=True):
        axes.set_title(mode.name, color=mode.look.colour, pad=LABELLED_PAD if mode.faults else 6)
        axes.set_xlim(0, line.at_s[-1] + line.width_s)
        shade(axes, mode, end_s=line.at_s[-1] + line.width_s)
    time_axis(column[-1])
    return [(axes, mode, line) for axes, (mode, line) in zip(column, drawn, strict=True)]


def _paint_counted_within(axes: Axes, modes: Sequence[ModeDrawn]) -> None:
    """The share counted within a time; each line goes on level, to the right edge."""
    slowest_s = max(
        (float(m.counted_after_s[np.isfinite(m.counted_after_s)].max(initial=0)) for m in modes),
        default=0,
    )
    end_s = max(slowest_s * 1.6, 1.0)
    for mode in modes:
        counted = mode.counted_after_s[np.isfinite(mode.counted_after_s)]
        shares = np.array(COUNTED_SHARES[: len(counted)]) * 100
        axes.plot(
            np.append(np.maximum(counted, QUICKEST_S), end_s),
            np.append(shares, shares[-1:] if len(shares) else 0),
            color=mode.look.colour,
            ls=mode.look.dash,
            marker=mode.look.marker,
            markevery=40,
            ms=4,
        )
    axes.set_title("Counted within", pad=LABELLED_PAD)
    axes.set_xscale("log")
    axes.set_xlim(QUICKEST_S, end_s)
    axes.set_ylim(0, 104)
    axes.set_xlabel("seconds after the acknowledgement")
    axes.set_ylabel("% of acknowledged")
    axes.xaxis.set_major_formatter(TICKS)
    axes.xaxis.minorticks_off()


def mode_keys(modes: Sequence[ModeDrawn]) -> list[Line2D]:
    """The legend's entries for lines that stand for modes."""
    return [
        Line2D(
            [],
            [],
            color=mode.look.colour,
            ls=mode.look.dash,
            marker=mode.look.marker,
            ms=4,
            label=mode.name,
        )
        for mode in modes
    ]


def _votes(mode: ModeDrawn) -> int:
    trials = mode.result.trials or (mode.result,)
    return sum(trial.accounts.sent for trial in trials)
