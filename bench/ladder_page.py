"""`python -m bench.ladder_page [--explore]`: write what `docs/ladder.md` has from kept results.

Between the marks of a section the page is what the results in `docs/ladder/` say, and so is its
figure; the rest of the page is written by hand. With `--explore` everything is explored anew first,
which takes some five minutes; the rates are those of the last `python -m bench ladder`.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from bench.ladder import (
    EXPLORATIONS,
    MODES,
    ROOT,
    WRITERS,
    Rate,
    Rates,
    explore,
    read_exploration,
    read_rates,
    write,
)
from harness.errors import Exit
from harness.exploration.report import Exploration, what_is_wrong
from harness.report.drawing import draw
from harness.report.figures import TICKS, legend
from harness.report.palette import series
from harness.run_folder import write_atomically

PAGE: Final = ROOT / "docs/ladder.md"
FIGURE: Final = ROOT / "docs/images/ladder.png"
RUNGS: Final = MODES[1:]  # direct has no queue
FIGURE_IN: Final = 3.9  # its height
BEGIN: Final = "<!-- {}: from docs/ladder/ -->"
END: Final = "<!-- end of {} -->"
MENDED: Final = {
    "classic": "the lock is won by `add`, has an owner, and nobody takes over",
    "owned": "no lock: each vote has a slot of its own; the head moves in the ballots' transaction",
    "ticket": "the same on two daemons",
    "mirrored": "–",
}


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--explore"]):
        print("usage: python -m bench.ladder_page [--explore]", file=sys.stderr)
        return Exit.USAGE
    if arguments:
        for asked in EXPLORATIONS:
            print(f"exploring {asked.protocol} {asked.bounds.flags()}", flush=True)
            write(asked.path, explore(asked))
    write_atomically(PAGE, written(PAGE.read_text()).encode())
    write_atomically(FIGURE, draw_rates(read_rates()))
    return Exit.OK


def written(page: str) -> str:
    """The page with all sections as the kept results say."""
    for name, text_of in SECTIONS.items():
        mark = re.escape(BEGIN.format(name)) + ".*?" + re.escape(END.format(name))
        if len(found := re.findall(mark, page, re.DOTALL)) != 1:
            raise ValueError(f"{PAGE.name} has {len(found)} sections {name!r}, not one")
        section = f"{BEGIN.format(name)}\n\n{text_of()}\n\n{END.format(name)}"
        page = page.replace(found[0], section)
    return page


def rungs() -> str:
    """What each rung loses by, in how many commands, what mends it, and what it costs."""
    rates = read_rates()
    crowd = max(WRITERS)
    head = (
        *("rung", "shortest loss", "mended on the next rung by", "round trips per vote"),
        *("votes/s, 1 writer", f"votes/s, {crowd} writers"),
    )
    rows = [
        (
            f"`{mode}`",
            losses_of(mode),
            MENDED[mode],
            f"{rates.of(mode, 1).round_trips:.1f}; with {crowd} writers "
            f"{rates.of(mode, crowd).round_trips:.1f}",
            f"{rates.of(mode, 1).votes_per_s:,.0f}",
            f"{rates.of(mode, crowd).votes_per_s:,.0f}",
        )
        for mode in RUNGS
    ]
    return markdown(head, rows)


def losses_of(mode: str) -> str:
    """The losses of a rung, the shorter first, or that none was found."""
    found = [(each, read_exploration(each)) for each in EXPLORATIONS if each.protocol == mode]
    losses = sorted(
        (report.commands or 0, asked.trouble)
        for asked, report in found
        if report.verdict == "loses"
    )
    if losses:
        return "; ".join(f"{commands} commands: {trouble}" for commands, trouble in losses)
    states = max(report.states for _, report in found)
    taken = [(asked.trouble, report.taken) for asked, report in found if report.taken]
    said = f"none within the bounds of {len(found)} explorations of up to {states:,} states"
    return said + "".join(f", but {trouble} takes what is queued" for trouble, _ in taken)


def explorations() -> str:
    """All explorations."""
    head = ("protocol", "trouble", "bounds", "states", "seconds", "verdict")
    rows = []
    for asked in EXPLORATIONS:
        report = read_exploration(asked)
        rows.append(
            (
                f"`{asked.protocol}`",
                asked.trouble,
                f"`{asked.bounds.flags()}`",
                f"{report.states:,}",
                f"{report.seconds:,.1f}",
                verdict(report),
            )
        )
    return markdown(head, rows, right=("states", "seconds"))


def verdict(report: Exploration) -> str:
    """In a few words."""
    if report.verdict == "loses":
        return f"**{what_is_wrong(report)}** after {report.commands} commands"
    if report.verdict == "unfinished":
        return "unfinished; none of these states loses"
    taken = f"; the wipe took {' and '.join(report.taken)}, queued there" if report.taken else ""
    return f"no loss in any state{taken}"


def schedule() -> str:
    """The shortest losing schedule of `classic`, a column for each process."""
    losing = [
        report
        for asked in EXPLORATIONS
        if asked.protocol == "classic" and (report := read_exploration(asked)).commands
    ]
    shortest = min(losing, key=lambda report: (report.commands or 0, report.bounds.crash))
    actors = list(dict.fromkeys(row.actor for row in shortest.schedule))
    rows, counted = [], 0
    for row in shortest.schedule:
        counted += row.counts
        said = f"`{row.command}` → {row.reply}" if row.command else ""
        said += f" *{row.event}*" if row.event else ""
        cells = [said.strip() if actor == row.actor else "" for actor in actors]
        rows.append((str(counted) if row.counts else "", *cells))
    return markdown(("", *actors), rows, right=("",))


def rates() -> str:
    """All protocols with 1 to 32 writers."""
    kept = read_rates()
    paragraphs = (
        f"Acknowledged votes per second, medians of {kept.rounds} rounds of {kept.lasts_s:g} s:",
        by_writers(kept, lambda rate: f"{rate.votes_per_s:,.0f}"),
        "Milliseconds that a vote took, median / 99th percentile:",
        by_writers(kept, lambda rate: f"{milliseconds(rate.p50_ms)} / {milliseconds(rate.p99_ms)}"),
        troubles(kept.rows),
        machine(kept),
    )
    return "\n\n".join(paragraphs)


def by_writers(kept: Rates, say: Callable[[Rate], str]) -> str:
    """A row for each protocol, a column for each number of writers."""
    numbers = ["1 writer", *(f"{writers} writers" for writers in WRITERS[1:])]
    rows = [(f"`{mode}`", *(say(kept.of(mode, writers)) for writers in WRITERS)) for mode in MODES]
    return markdown(("", *numbers), rows, right=numbers)


def troubles(rows: Sequence[Rate]) -> str:
    """What went wrong in all rounds."""
    lost = sum(rate.lost or 0 for rate in rows)
    unknown = sum(rate.lost is None for rate in rows)
    said = (
        f"In all rounds together {sum(rate.takeovers for rate in rows):,} votes were queued by a "
        f"takeover, {sum(rate.gave_up for rate in rows):,} were not queued because patience had "
        f"ended, {lost:,} were lost and {sum(rate.doubled for rate in rows):,} delivered twice."
    )
    return said + (f" {unknown} queues could not be emptied." if unknown else "")


def machine(kept: Rates) -> str:
    """Of which these figures are."""
    of = kept.machine
    return (
        f"Measured on {of['cores']} cores ({of['processor']}), {of['memcached']}, "
        f"Python {of['python']}; writers, daemons and database share the cores."
    )


def milliseconds(time_ms: float) -> str:
    """With as many figures as mean something."""
    return f"{time_ms:.2f}" if time_ms < 10 else f"{time_ms:.0f}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> str:
    """A table; the columns of these headings to the right."""
    rules = ["---:" if heading in right else "---" for heading in head]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rows))


SECTIONS: Final[dict[str, Callable[[], str]]] = {
    "rungs": rungs,
    "schedule": schedule,
    "explorations": explorations,
    "rates": rates,
}


def draw_rates(kept: Rates) -> bytes:
    """Votes per second and the slow votes of each protocol, over the writers."""

    def paint(figure: Figure) -> None:
        quick, slow = figure.subplots(1, 2)
        paint_lines(quick, kept, lambda rate: rate.votes_per_s)
        quick.set_title("Acknowledged votes per second")
        paint_lines(slow, kept, lambda rate: rate.p99_ms)
        slow.set_title("99th percentile of a vote, ms")
        legend(figure, *quick.lines)

    return draw("ladder", "Protocols with 1 to 32 writers", FIGURE_IN, paint).png


def paint_lines(axes: Axes, kept: Rates, value: Callable[[Rate], float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for number, mode in enumerate(MODES):
        look = series(number)
        values = [value(kept.of(mode, writers)) for writers in WRITERS]
        axes.plot(
            WRITERS, values, color=look.colour, ls=look.dash, marker=look.marker, ms=4, label=mode
        )
    axes.set_xticks(WRITERS, [str(writers) for writers in WRITERS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(TICKS)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("writer processes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
