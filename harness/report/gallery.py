"""Which figures a report has, in which order, and the caption that says how to read each."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from harness.errors import HistoryError, PollstormError
from harness.report.accounts_figure import paint_accounts, row_in
from harness.report.drawing import Drawing, draw
from harness.report.figures import (
    COUNTED_SHARES,
    SHARES,
    ModeDrawn,
    paint_counting,
    paint_latency,
    paint_percentiles,
    paint_rates,
)
from harness.report.lock_figure import paint_lock
from harness.report.palette import series
from harness.report.timeline import (
    Timeline,
    counted_after_percentiles_s,
    latency_percentiles_ms,
    read_timeline,
)
from harness.result import ModeResult, RunResult
from harness.run_folder import RunFolder, TrialFolder

HEAD_IN: Final = 1.0  # legend and the axis's name
PANEL_IN: Final = 1.25
LOCK_IN: Final = 3.4


class FigureKind(NamedTuple):
    """A figure that a report has."""

    name: str  # of its file, and of its place on the page
    title: str
    caption: str
    paint: Callable[[Figure, Sequence[ModeDrawn]], None]
    panel_in: float  # height that each mode adds
    height_in: float
    shows: Callable[[ModeDrawn], bool]
    without: str  # stands in its place when no mode can be shown
    pooled: bool = False  # of all repetitions together, not of one


class Shown(NamedTuple):
    """A figure as the page shows it; without a drawing, `note` says why."""

    name: str
    title: str
    caption: str
    drawing: Drawing | None
    note: str = ""  # modes that are missing, and why; empty when all are there


def _has_timeline(mode: ModeDrawn) -> bool:
    return mode.timeline is not None and bool(mode.timeline.sent_per_s.any())


KINDS: Final = (
    FigureKind(
        "rates",
        "Votes per second",
        "Where the filled line leaves the dashed one, voters wait or are turned away. Offered is "
        "when those voters came who sent a vote (the unsent are in the accounts); acknowledged is "
        "when they were told that it is in.",
        paint_rates,
        PANEL_IN,
        HEAD_IN,
        _has_timeline,
        "No vote was sent, so there are no rates to draw.",
    ),
    FigureKind(
        "latency",
        "Latency over time",
        "Answers to votes, by when the voter came, counted from that moment and not from when the "
        "request could be sent: a queue of waiting voters shows here. The scale is logarithmic; "
        "a line one step higher means ten times as long.",
        paint_latency,
        PANEL_IN + 0.1,
        HEAD_IN,
        _has_timeline,
        "No vote was answered, so there is no latency to draw.",
    ),
    FigureKind(
        "percentiles",
        "Latency by percentile",
        "Read upwards from a share: at 99 % the line shows the time within which 99 of 100 votes "
        "were answered. Each step to the right looks at ten times fewer, slower votes. All "
        "repetitions together, exact and not estimated.",
        paint_percentiles,
        0.0,
        3.6,
        lambda mode: bool(len(mode.latency_ms)),
        "No vote was answered, so there is no distribution to draw.",
        pooled=True,
    ),
    FigureKind(
        "counting",
        "From acknowledged to counted",
        "Left, the votes that were promised and are not in the database yet; a line that does not "
        "come back to zero shows votes that never arrive. Right, how soon they are in; a line that "
        "ends below 100 % has lost the rest.",
        paint_counting,
        0.0,
        3.3,
        lambda mode: bool(len(mode.counted_after_s)),
        "No journal of commits, so it is not known when votes were counted.",
    ),
    FigureKind(
        "lock",
        "The queue’s lock",
        "A mark is where the lock stopped excluding: a takeover (patience ran out while another "
        "was inside), a cold grant (the lock was missing), an overlap (two certainly inside at "
        "once); the number at the right is how many in the whole trial. What a lock loses it loses "
        "at its marks, not at high waits; what memcached itself forgets leaves none here.",
        paint_lock,
        LOCK_IN,
        0.7,
        lambda mode: mode.timeline is not None and mode.timeline.lock is not None,
        "None of these modes has a lock, or none has a journal of it.",
    ),
)

ACCOUNTS_CAPTION: Final = (
    "Left, enlarged, the votes for which a mode did something else than count them once, as cast; "
    "the percentage is of its acknowledged votes. Right, the same votes as a part of all that were "
    "sent. Delivered twice means to the database, and more often than the voter asked; a plain "
    "INSERT would have counted it so."
)

REJECTED_CAPTION: Final = (
    " Rejected at the count are those of voters who are counted with another vote."
)


def hero(modes: Sequence[tuple[str, ModeResult]]) -> Shown:
    """Where the votes went, from the accounts alone."""
    height_in = 1.25 + sum(row_in(result) for _, result in modes)
    told = "; ".join(
        f"{name}: {result.accounts.sent} sent, {result.accounts.lost} lost, "
        f"{result.accounts.duplicated} delivered twice"
        for name, result in modes
    )
    drawing = draw(
        "accounts", f"Where the votes went. {told}", height_in, lambda f: paint_accounts(f, modes)
    )
    rejected = any(result.accounts.rejected for _, result in modes)
    caption = ACCOUNTS_CAPTION + REJECTED_CAPTION * rejected
    return Shown("accounts", "Where the votes went", caption, drawing, "")


def gallery(folder: RunFolder, result: RunResult) -> list[Shown]:
    """All figures of a run. A history that cannot be read leaves a sentence, never an error."""
    modes = [
        read_mode(folder, name, mode, number)
        for number, (name, mode) in enumerate(result.modes.items())
    ]
    shown = [hero(list(result.modes.items()))] if result.modes else []
    drawn_of = _repetitions_drawn(result)
    return shown + [show(kind, modes, "" if kind.pooled else drawn_of) for kind in KINDS]


def show(kind: FigureKind, modes: Sequence[ModeDrawn], remark: str = "") -> Shown:
    """One figure of the modes that it can show, and why others are missing."""
    seen = [mode for mode in modes if kind.shows(mode)]
    missing = [mode.trouble for mode in modes if not kind.shows(mode)]
    note = " ".join(filter(None, [*missing, remark]))
    if not seen:
        return Shown(kind.name, kind.title, kind.caption, None, f"{kind.without} {note}".strip())
    height_in = kind.height_in + kind.panel_in * len(seen)
    label = f"{kind.title}: {', '.join(mode.name for mode in seen)}. {kind.caption}"
    drawing = draw(kind.name, label, height_in, lambda figure: kind.paint(figure, seen))
    return Shown(kind.name, kind.title, kind.caption, drawing, note)


def read_mode(folder: RunFolder, name: str, result: ModeResult, number: int) -> ModeDrawn:
    """A mode's histories, of the repetition that lost most, as far as they can be read."""
    trials = result.trials or (result,)
    worst = _worst(trials)
    trial = _found(folder, name, trials[worst])
    trouble = ""
    timeline: Timeline | None = None
    latency_ms, counted_after_s = np.empty(0), np.empty(0)
    try:
        try:
            timeline = read_timeline(trial)
            counted_after_s = counted_after_percentiles_s(trial, COUNTED_SHARES)
        except HistoryError as error:  # the ledger alone still has rates and latencies
            trouble = f"{name} is not drawn: {error}."
            timeline = read_timeline(trial, with_journal=False)
        latency_ms = latency_percentiles_ms([_found(folder, name, each) for each in trials], SHARES)
    except PollstormError as error:
        trouble = f"{name} is not drawn: {error}."
    return ModeDrawn(
        name=name,
        result=result,
        look=series(number),
        timeline=timeline,
        faults=trials[worst].faults,
        latency_ms=latency_ms,
        counted_after_s=counted_after_s,
        trouble=trouble,
    )


def _worst(trials: Sequence[ModeResult]) -> int:
    """The place of the trial that lost most."""
    return max(range(len(trials)), key=lambda place: trials[place].accounts.lost)


def _repetitions_drawn(result: RunResult) -> str:
    repeated = [(name, m.trials) for name, m in result.modes.items() if len(m.trials) > 1]
    if not repeated:
        return ""
    told = ", ".join(trials[_worst(trials)].name or name for name, trials in repeated)
    return f"Of each mode’s repetitions the one that lost most is drawn: {told}."


def _found(folder: RunFolder, mode: str, trial: ModeResult) -> TrialFolder:
    """A trial's files; an older result knows no names, and had one trial a mode as a rule."""
    return TrialFolder(folder.path / (trial.name or mode))
