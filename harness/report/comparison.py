"""Several runs side by side on one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from matplotlib.figure import Figure

from harness.errors import PlanError
from harness.report.drawing import draw
from harness.report.figures import TICKS, ModeDrawn, fault_key, legend, mode_keys, shade, time_axis
from harness.report.gallery import HEAD_IN, KINDS, PANEL_IN, Shown, hero, read_mode, show
from harness.report.page import fill
from harness.result import ModeResult, RunResult
from harness.run_folder import RunFolder, write_atomically

RATES_CAPTION: Final = (
    "Acknowledged votes per second, one panel per mode, the runs laid over one another. "
    "Lines that part show a change in the site or in the load; compare the plans."
)


class Compared(NamedTuple):
    """A run on a page of several."""

    label: str  # A, B, … in the order given
    folder: RunFolder
    result: RunResult


def compare(folders: Sequence[RunFolder], out: Path) -> Path:
    """Write the comparison into the new folder `out`; the page's path. Raises PlanError."""
    runs = [Compared(_label(n), folder, folder.result()) for n, folder in enumerate(folders)]
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise PlanError(
            f"cannot make {out}: {error.strerror}; choose another with --out"
        ) from error
    rows = [
        (run, name, run.result.modes[name])
        for name in _mode_names(runs)
        for run in runs
        if name in run.result.modes
    ]
    figures = _figures(rows)
    for figure in figures:
        if figure.drawing:
            write_atomically(out / f"{figure.name}.png", figure.drawing.png)
    page = out / "index.html"
    write_atomically(page, fill("comparison.html", runs=runs, rows=rows, figures=figures).encode())
    return page


def _figures(rows: Sequence[tuple[Compared, str, ModeResult]]) -> list[Shown]:
    drawn: list[ModeDrawn] = []
    groups: dict[str, list[ModeDrawn]] = {}
    for number, (run, name, mode) in enumerate(rows):
        read = read_mode(run.folder, name, mode, number)
        trouble = f"{run.label}: {read.trouble}" if read.trouble else ""
        named = read._replace(name=f"{name}, {run.label}", trouble=trouble)
        drawn.append(named)
        if read.timeline is not None:
            groups.setdefault(name, []).append(named)
    percentiles = next(kind for kind in KINDS if kind.name == "percentiles")
    return [
        hero([(f"{name}, {run.label}", mode) for run, name, mode in rows]),
        show(percentiles, drawn),
        _rates(groups, " ".join(m.trouble for m in drawn if m.timeline is None)),
    ]


def _rates(groups: dict[str, list[ModeDrawn]], note: str) -> Shown:
    title = "Acknowledged votes per second"
    if not groups:
        return Shown("rates", title, RATES_CAPTION, None, note)

    def paint(figure: Figure) -> None:
        column = figure.subplots(len(groups), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, modes) in zip(column, groups.items(), strict=True):
            for mode in modes:
                if (line := mode.timeline) is not None:
                    axes.plot(
                        line.at_s + line.width_s / 2,
                        line.acknowledged_per_s,
                        color=mode.look.colour,
                        ls=mode.look.dash,
                        marker=mode.look.marker,
                        markevery=12,
                        ms=3.5,
                    )
            end_s = max(mode.timeline.duration_s for mode in modes if mode.timeline is not None)
            shade(axes, *modes, end_s=end_s, labelled=False)
            axes.set_title(name)
            axes.set_ylabel("votes/s")
            axes.yaxis.set_major_formatter(TICKS)
        column[-1].set_ylim(bottom=0)
        column[-1].set_xlim(left=0)
        time_axis(column[-1])
        everything = [mode for modes in groups.values() for mode in modes]
        legend(figure, *mode_keys(everything), *fault_key(everything))

    height_in = HEAD_IN + PANEL_IN * len(groups)
    return Shown("rates", title, RATES_CAPTION, draw("rates", title, height_in, paint), note)


def _mode_names(runs: Sequence[Compared]) -> list[str]:
    """All modes, in the order in which the runs name them."""
    return list(dict.fromkeys(name for run in runs for name in run.result.modes))


def _label(number: int) -> str:
    """A … Z, then 27, 28 …"""
    return chr(ord("A") + number) if number < 26 else str(number + 1)
