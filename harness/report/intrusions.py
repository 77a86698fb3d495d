"""Who was inside the lock beside whom: the holds that tell something, and a figure of the worst."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.audit.overlaps import intrusions
from harness.history.journal import Role
from harness.report.drawing import Drawing, draw
from harness.report.figures import legend, time_axis
from harness.report.palette import INK, LOST, MUTED, SERIES, TWICE
from harness.run_folder import TrialFolder

MOST_DRAWN: Final = 16  # lanes of the figure: what happens first after the longest hold has begun
LANE_IN: Final = 0.2
MARGIN_IN: Final = 1.0  # legend and axis
AROUND_S: Final = 0.15  # shown before and after
KINDS: Final = {"clean": SERIES[0], "takeover": LOST, "cold": TWICE}


class Intrusion(NamedTuple):
    """A hold that was not alone, or was let in otherwise than by the lock."""

    at_s: float
    holder: str
    kind: str
    waited_ms: float
    hold_ms: float | None  # None: no release is known of
    other: str  # whose hold it overlapped
    stale_at_s: tuple[float, ...]  # its writes that came too late

    @property
    def asked_s(self) -> float:
        return self.at_s - self.waited_ms / 1000

    @property
    def left_s(self) -> float:
        return self.at_s + (self.hold_ms or 0.0) / 1000


def intrusions_of(trial: TrialFolder) -> Iterable[Intrusion]:
    """All of a trial, in the order in which they were let in. Raises HistoryError, PlanError."""
    start_ns = trial.read_facts().load_start_ns
    for row in intrusions(trial).to_dict("records"):
        role = "flusher" if row["role"] == Role.FLUSHER else "site"
        other = ""
        if row["overlapped"]:
            other = f"{row['other_pid']:.0f}/{row['other_thread']:.0f}"
        yield Intrusion(
            at_s=(row["start_ns"] - start_ns) / 1e9,
            holder=f"{role} {row['pid']}/{row['thread']}",
            kind=row["kind"],
            waited_ms=row["waited_ms"],
            hold_ms=row["hold_ms"] if row["hold_ms"] == row["hold_ms"] else None,
            other=other,
            stale_at_s=tuple((at_ns - start_ns) / 1e9 for at_ns in row["stale_at_ns"]),
        )


def outlasts(row: Intrusion, patience_ms: float | None) -> bool:
    """Whether others lost patience with it."""
    return patience_ms is not None and row.hold_ms is not None and row.hold_ms > patience_ms


def is_telling(row: Intrusion, patience_ms: float | None) -> bool:
    """Not only let in in order, while another who was inside did no harm to it."""
    return row.kind != "clean" or bool(row.stale_at_s) or outlasts(row, patience_ms)


def draw_longest(name: str, rows: Sequence[Intrusion], patience_ms: float | None) -> Drawing | None:
    """The longest hold of these and what came in beside it; None if none outlasted patience."""
    long = [row for row in rows if outlasts(row, patience_ms)]
    if not long or patience_ms is None:
        return None
    longest = max(long, key=lambda row: row.hold_ms or 0.0)
    until_s = longest.left_s + AROUND_S
    beside = [row for row in rows if row.left_s >= longest.at_s and row.at_s <= until_s]
    drawn = beside[:MOST_DRAWN]
    label = f"{name}: the longest hold, and who came in beside it"
    return draw(
        f"intrusions-{name}",
        label,
        MARGIN_IN + LANE_IN * len(drawn),
        lambda figure: _paint(figure, drawn, longest, patience_ms),
    )


def _paint(
    figure: Figure, rows: Sequence[Intrusion], longest: Intrusion, patience_ms: float
) -> None:
    """A lane for each hold: how long it was waited for, how long it lasted, what came too late."""
    axes = figure.subplots()
    for lane, row in enumerate(rows):
        _paint_hold(axes, lane, row)
    over_s = longest.at_s + patience_ms / 1000
    axes.axvline(over_s, color=MUTED.light, lw=0.9, ls=(0, (2, 1.5)))
    axes.annotate(
        "patience ends", (over_s, -0.9), xytext=(-4, 0), textcoords="offset points", ha="right",
        va="center", fontsize=8, color=MUTED.light,
    )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.holder for row in rows])
    axes.set_ylim(len(rows) - 0.4, -1.5)
    axes.set_xlim(longest.at_s - AROUND_S, longest.left_s + AROUND_S)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    time_axis(axes)
    legend(
        figure,
        Line2D([], [], color=MUTED.light, lw=0.8, label="waits"),
        *(
            Line2D([], [], color=colour.light, lw=4, marker="o", ms=4, label=f"inside, {kind}")
            for kind, colour in KINDS.items()
            if any(row.kind == kind for row in rows)
        ),
        Line2D([], [], color=INK.light, lw=0, marker="X", ms=6, label="stale write"),
    )


def _paint_hold(axes: Axes, lane: int, row: Intrusion) -> None:
    colour = KINDS[row.kind].light
    axes.plot([row.asked_s, row.at_s], [lane, lane], color=MUTED.light, lw=0.8)
    axes.plot([row.at_s, row.left_s], [lane, lane], color=colour, lw=4, solid_capstyle="butt")
    axes.plot([row.at_s], [lane], color=colour, lw=0, marker="o", ms=4)
    stale = row.stale_at_s
    axes.plot(stale, [lane] * len(stale), color=INK.light, lw=0, marker="X", ms=6, zorder=3)
