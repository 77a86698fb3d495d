"""The map of patience: what each cell lost, simulated and measured."""

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.capacity.outcome import PatienceCell, PatienceMap
from harness.report.drawing import draw
from harness.report.gallery import Shown
from harness.report.notation import times
from harness.report.palette import INK, KEPT, LOST, MUTED

CELL_IN: Final = 0.42


def patience_figure(found: PatienceMap) -> Shown:
    """A panel for each rate."""
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

    height_in = 1.1 + CELL_IN * len(stalls)
    drawing = draw("patience", "Votes lost by patience and stall", height_in, paint)
    caption = (
        f"Votes that {found.mode} lost when the lock’s holder stood still for so long, while the "
        f"others waited for so long: the mean of {told_trials(found)}. In a frame, with what was "
        "measured in brackets."
    )
    return Shown("patience", "How long to wait for a lock", caption, drawing)


def told_trials(found: PatienceMap) -> str:
    """How many trials a cell has."""
    trials = sorted(cell.trials for cell in found.cells if cell.simulated)
    if not trials:
        return "no simulated trial"
    if trials[0] == trials[-1]:
        return times(trials[0], "simulated trial each", "simulated trials each, with other seeds")
    return f"{trials[0]} to {trials[-1]} simulated trials each, with other seeds"


def _paint_map(
    axes: Axes,
    cells: Sequence[PatienceCell],
    stalls: Sequence[float],
    patiences: Sequence[float],
) -> None:
    most = max((cell.lost for cell in cells), default=0.0) or 1.0
    simulated = {(cell.patience_s, cell.stall_s): cell for cell in cells if cell.simulated}
    measured = {(cell.patience_s, cell.stall_s): cell for cell in cells if not cell.simulated}
    for x, patience_s in enumerate(patiences):
        for y, stall_s in enumerate(stalls):
            cell, real = (of.get((patience_s, stall_s)) for of in (simulated, measured))
            colour, strength = _tone(cell or real, most)
            axes.barh(y, 0.94, left=x - 0.47, height=0.9, color=colour, alpha=strength, lw=0)
            text = (f"{cell.lost:.3g}" if cell else "–") + (f" ({real.lost:.3g})" if real else "")
            axes.text(x, y, text, ha="center", va="center", color=INK.light, fontsize=8)
            if real:
                axes.barh(
                    y, 0.94, left=x - 0.47, height=0.9, color="none", edgecolor=INK.light, lw=1.2
                )
    axes.set_xticks(range(len(patiences)), [f"{value:g}" for value in patiences])
    axes.set_yticks(range(len(stalls)), [f"{value:g}" for value in stalls])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlim(-0.6, len(patiences) - 0.4)


def _tone(cell: PatienceCell | None, most: float) -> tuple[str, float]:
    """A cell's colour and how strong it is; an empty cell is pale."""
    if cell is None:
        return MUTED.light, 0.08
    if not cell.lost:
        return KEPT.light, 0.22
    return LOST.light, 0.15 + 0.6 * min(1.0, cell.lost / most)
