"""Where the votes went: the figure that a reader meets first."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report import palette
from harness.report.notation import count, share
from harness.report.palette import GRID, INK, KEPT, MUTED
from harness.result import Accounts, ModeResult

BAR: Final = 0.5  # of a row's height
INSIDE: Final = 0.16  # share of the axis that a number needs inside its bar
ROOM: Final = 2.1  # the right axis is so much longer than its longest bar, for the labels


class Account(NamedTuple):
    """One account as it is drawn."""

    field: str
    label: str
    colour: palette.Colour
    hatch: str = ""


PARTS: Final = (
    Account("counted", "counted", palette.COUNTED),
    Account("lost", "lost", palette.LOST),
    Account("altered", "altered", palette.ALTERED),
    Account("resurrected", "refused, yet counted", palette.RESURRECTED),
    Account("pending", "still queued", palette.PENDING, "///"),
    Account("recovered", "outcome unknown, counted", palette.RECOVERED, "///"),
    Account("absent", "outcome unknown, not counted", palette.ABSENT, "///"),
    Account("rejected", "rejected at the count", palette.REJECTED),
    Account("refused", "refused", palette.REFUSED),
)
WRONGS: Final = (
    PARTS[1],
    PARTS[2],
    Account("duplicated", "delivered twice", palette.TWICE),
    PARTS[3],
    Account("phantom", "never cast", palette.PHANTOM),
    Account("overvotes", "voters counted more than once", palette.OVERVOTED),
)


def paint_accounts(figure: Figure, modes: Sequence[tuple[str, ModeResult]]) -> None:
    """Left what went wrong, enlarged and with its numbers; right every vote sent, to scale."""
    heights = [row_in(result) for _, result in modes]
    grid = figure.subplots(
        len(modes), 2, sharex="col", squeeze=False, height_ratios=heights, width_ratios=(1.1, 1)
    )
    most_sent = max((result.accounts.sent for _, result in modes), default=0)
    worst = max((_amount(r.accounts, w) for _, r in modes for w in WRONGS), default=0)
    for (wrong, whole), (name, result) in zip(grid, modes, strict=True):
        _paint_whole(whole, result.accounts, max(most_sent, 1))
        _paint_wrongs(wrong, result, max(worst, 1))
        wrong.set_ylabel(
            name,
            rotation=0,
            ha="right",
            va="center",
            fontsize=11,
            fontweight="bold",
            color=INK.light,
        )
    grid[0, 0].set_title("What went wrong, enlarged", pad=10)
    grid[0, 1].set_title("Every vote sent, to scale", pad=10)
    grid[-1, 0].set_xlabel("votes")
    grid[-1, 1].set_xlabel("votes")
    present = [
        account
        for account in dict.fromkeys((*PARTS, *WRONGS))
        if any(_amount(result.accounts, account) for _, result in modes)
    ]
    figure.legend(
        handles=[
            Patch(fc=p.colour.light, hatch=p.hatch, ec=INK.light, lw=0, label=p.label)
            for p in present
        ],
        loc="outside lower left",
        ncols=5,
    )


def row_in(result: ModeResult) -> float:
    """The height of a mode's row: one line for each thing that went wrong."""
    wrongs = sum(1 for wrong in WRONGS if _amount(result.accounts, wrong))
    return 0.34 + 0.24 * max(wrongs, 2)


def _paint_whole(axes: Axes, accounts: Accounts, most: int) -> None:
    start = 0
    for part in PARTS:
        votes = _amount(accounts, part)
        axes.barh(
            0,
            votes,
            BAR,
            left=start,
            color=part.colour.light,
            hatch=part.hatch,
            ec=INK.light,
            lw=0,
        )
        if votes / most >= INSIDE:
            axes.text(start + votes / 2, 0, count(votes), ha="center", va="center")
        start += votes
    axes.set_xlim(0, most * 1.02)
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([])
    _calm(axes)


def _paint_wrongs(axes: Axes, result: ModeResult, worst: int) -> None:
    accounts = result.accounts
    wrongs = [(wrong, _amount(accounts, wrong)) for wrong in WRONGS]
    wrongs = [(wrong, votes) for wrong, votes in wrongs if votes]
    for row, (wrong, votes) in enumerate(wrongs):
        axes.barh(row, votes, 0.72, color=wrong.colour.light)
        of = f" ({share(votes / accounts.acknowledged)})" if accounts.acknowledged else ""
        axes.annotate(
            f"{count(votes)} {wrong.label}{of if wrong.field == 'lost' else ''}",
            (votes, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
            color=wrong.colour.light,
            fontsize=12 if wrong.field == "lost" else 9.5,
        )
    axes.set_ylim(max(len(wrongs), 2) - 0.4, -0.6)
    if not wrongs:
        axes.set_ylim(1.6, -0.6)
        words, colour, detail = _nothing_wrong(result)
        axes.text(
            0.012 * worst * ROOM,
            0.2,
            words,
            va="center",
            color=colour,
            fontweight="bold",
            fontsize=11,
        )
        axes.text(0.012 * worst * ROOM, 1.0, detail, va="center", color=MUTED.light, fontsize=8.5)
    axes.set_xlim(0, worst * ROOM)
    axes.set_yticks([])
    _calm(axes)


def _nothing_wrong(result: ModeResult) -> tuple[str, str, str]:
    """What is said instead of bars, its colour, and the small print."""
    if result.verdict.votes == "unknown":
        return "unknown", MUTED.light, "nothing can be proven from this history"
    if not result.accounts.acknowledged:
        return "nothing acknowledged", MUTED.light, "so nothing could be lost"
    bound = result.verdict.lost_at_most_per_vote
    detail = "" if bound is None else f"at 95 % confidence at most {share(min(bound, 1.0))} lost"
    return "none lost, none twice", KEPT.light, detail


def _calm(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x", color=GRID.light)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, which="both")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


def _amount(accounts: Accounts, account: Account) -> int:
    votes: int = getattr(accounts, account.field)
    return votes
