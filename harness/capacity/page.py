"""A capacity study as one page, with its figures as PNG beside it."""

from pathlib import Path
from typing import Final

from harness.capacity.figures import figures
from harness.capacity.outcome import BreakEvenLine, CapacityResult, ModeCapacity, PatienceMap
from harness.report.notation import count, number
from harness.report.page import fill
from harness.run_folder import write_atomically

LIMITS: Final = {
    "generator": "the load generator, not the mode",
    "budget": "the time that there was",
    "backlog": "a backlog that grew",
    "refused": "votes that were refused",
}


def write_page(folder: Path, result: CapacityResult) -> Path:
    """Write `index.html` and `figures/*.png`; the page's path."""
    shown = figures(result)
    (folder / "figures").mkdir(exist_ok=True)
    for each in shown:
        if each.drawing:
            write_atomically(folder / "figures" / f"{each.name}.png", each.drawing.png)
    page = folder / "index.html"
    html = fill(
        "capacity.html",
        result=result,
        figures={each.name: each for each in shown},
        sentence=sentence(result),
        limit=lambda mode: LIMITS.get(mode.limited_by, mode.limited_by),
        sustained=sustained,
        breaks_even=breaks_even,
        patience=patience_sentence,
    )
    write_atomically(page, html.encode())
    return page


def sentence(result: CapacityResult) -> str:
    """The study in one sentence."""
    found = {
        name: mode.capacity_per_s.lower
        for name, mode in result.modes.items()
        if mode.capacity_per_s.lower is not None
    }
    if result.stopped_by:
        return f"The study was stopped: {result.stopped_by}. What was known by then is shown."
    if not found:
        return "No mode met the objectives at any rate that was tried."
    best = max(found, key=lambda name: found[name] or 0.0)
    return f"{best} sustains the most: {count(found[best])} votes a second."


def sustained(mode: ModeCapacity) -> str:
    """`1,203`, with `?` where no longer trial confirmed it; `?` where no rate could be tried."""
    if not any(step.verdict != "invalid" for step in mode.steps):
        return "?"
    lower = mode.capacity_per_s.lower
    return "none" if lower is None else count(lower) + ("" if mode.confirmed else " ?")


def breaks_even(line: BreakEvenLine, queue: str) -> str:
    """What one line of the break-even says."""
    readers = f"With {line.results_per_vote:g} results pages per vote"
    if line.wins == "from":
        return f"{readers}, {queue} takes more votes from {number(line.from_commit_ms)} ms up."
    always = "at each latency that was measured"
    who = queue if line.wins == "always" else "direct"
    return f"{readers}, {who} takes more votes {always}."


def patience_sentence(found: PatienceMap) -> str:
    """The recommendation."""
    longest = max(cell.stall_s for cell in found.cells)
    if found.recommended_s is None:
        said = f"No patience that was tried kept every vote through a stall of {longest:g} s."
    else:
        said = f"From {found.recommended_s:g} s on, no stall of up to {longest:g} s lost a vote."
    if found.never_below_s is not None:
        said += (
            f" Never less than {found.never_below_s:g} s: then even a stall of "
            f"{found.shortest_harmful_stall_s:g} s loses some."
        )
    return said
