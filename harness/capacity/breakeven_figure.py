"""When the queue wins: over commit latency, and beside it over the share of results pages."""

from collections.abc import Callable, Sequence
from math import exp, log
from statistics import fmean
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from harness.capacity.breakeven import read_share
from harness.capacity.marks import legend, logarithmic
from harness.capacity.outcome import BreakEven, BreakEvenPoint
from harness.report.drawing import draw
from harness.report.gallery import Shown
from harness.report.palette import INK, MUTED, PAPER, Series, series

HEIGHT_IN: Final = 3.6
MARGIN: Final = 1.5  # of the axis beyond the points, which may be a single one
MOST_SHARE: Final = 0.9  # of results pages, at the axis's end; four in five are tried


def break_even_figure(found: BreakEven) -> Shown:
    """Both panels."""

    def paint(figure: Figure) -> None:
        over_commits, over_readers = figure.subplots(1, 2, sharey=True)
        logarithmic(over_commits, "x")
        _paint(
            over_commits,
            _grouped(found.points, lambda p: p.results_per_vote),
            lambda p: p.commit_ms.mean if p.commit_ms else None,
            "results pages per vote",
        )
        _paint(
            over_readers,
            _grouped(found.points, lambda p: p.commit_wait_us / 1000),
            lambda p: read_share(p.results_per_vote),
            "group-commit wait, ms",
        )
        commits_ms = [point.commit_ms.mean for point in found.points if point.commit_ms]
        if commits_ms:
            over_commits.set_xlim(min(commits_ms) / MARGIN, max(commits_ms) * MARGIN)
        over_readers.set_xlim(-0.04, MOST_SHARE)
        over_commits.set_xlabel("direct’s answer at a trickle, ms (p50)")
        over_commits.set_ylabel(f"{found.queue} / direct, times")
        over_readers.set_xlabel("results pages among all requests")
        over_readers.xaxis.set_major_formatter(PercentFormatter(1.0))
        over_readers.text(
            1.01, 1, "as many", transform=over_readers.get_yaxis_transform(), va="center",
            color=MUTED.light, fontsize=8,
        )  # fmt: skip
        logarithmic(over_commits, "y")

    caption = (
        f"Votes a second at saturation, {found.queue} over direct: above the line the queue takes "
        "more. Bars: from the least to the most of a point’s trials. Hollow: undecided, as the one "
        "that took fewer was not saturated, or the generator could not keep up. Commits are made "
        "slow by MariaDB’s group-commit wait."
    )
    drawing = draw("break-even", f"{found.queue} against direct", HEIGHT_IN, paint)
    return Shown("break-even", "When the queue wins", caption, drawing)


def _grouped(
    points: Sequence[BreakEvenPoint], key: Callable[[BreakEvenPoint], float]
) -> dict[str, list[BreakEvenPoint]]:
    """One line for each value of the key."""
    values = sorted({key(point) for point in points})
    return {f"{value:g}": [p for p in points if key(p) == value] for value in values}


def _paint(
    axes: Axes,
    lines: dict[str, list[BreakEvenPoint]],
    place: Callable[[BreakEvenPoint], float | None],
    title: str,
) -> None:
    looks = {name: series(n) for n, name in enumerate(lines)}
    for name, points in lines.items():
        known = [(at, point) for point in points if (at := place(point)) is not None]
        _paint_line(axes, sorted(known, key=lambda each: each[0]), looks[name])
    axes.axhline(1, color=INK.light, lw=0.9)
    legend(axes, looks, title)


def _paint_line(axes: Axes, points: Sequence[tuple[float, BreakEvenPoint]], look: Series) -> None:
    means = [(at, exp(fmean(log(each) for each in point.advantages))) for at, point in points]
    decided = [mean for mean, (_, point) in zip(means, points, strict=True) if not point.undecided]
    axes.plot(
        [at for at, _ in decided], [mean for _, mean in decided],
        color=look.colour, ls=look.dash, lw=1.2,
    )  # fmt: skip
    for (at, mean), (_, point) in zip(means, points, strict=True):
        axes.vlines(at, min(point.advantages), max(point.advantages), color=look.colour, lw=1.4)
        axes.plot(
            [at], [mean], marker=look.marker, ms=5.5, color=look.colour,
            mfc=PAPER.light if point.undecided else look.colour,
        )  # fmt: skip
