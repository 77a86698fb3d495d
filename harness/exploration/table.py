"""A schedule as a table: a column for each process, a row for each step."""

from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from harness.exploration.report import MEMCACHED_ITSELF, Exploration, Row, bounds_line, verdict_line

MOST_COLUMNS: Final = 5  # of 18 characters each, in a terminal of 100
MARKED: Final = "bold red"
EVENT: Final = "yellow"
PALE: Final = "dim"


def print_exploration(found: Exploration, console: Console) -> None:
    """The schedule, if there is one, and the verdict."""
    if found.schedule:
        console.print(schedule_table(found))
        console.print(Text(legend(found), PALE))
    style = {"safe": "green", "loses": MARKED}.get(found.verdict, EVENT)
    console.print(Text(verdict_line(found), style=style))
    console.print(Text(bounds_line(found), PALE))
    if found.taken:
        console.print(
            f"A wipe took {' and '.join(found.taken)} from memcached, acknowledged before it and "
            "still queued there: that is memcached's loss, and not counted as the protocol's."
        )


def legend(found: Exploration) -> str:
    """How to read the table, in a line or two."""
    after = "" if found.overlap else " Then the queue is drained, with nobody else about."
    return f"Numbered: memcached commands. In brackets: what befell or ended a process.{after}"


def schedule_table(found: Exploration) -> Table:
    """A column for each process; for many of them one column, which names the process."""
    b = found.bounds
    actors = [f"writer {n + 1}" for n in range(b.writers)]
    actors += [f"reader {n + 1}" for n in range(b.readers)]
    seen = {row.actor for row in found.schedule}
    actors = [actor for actor in actors if actor in seen]
    marked = dict.fromkeys(found.lost, "lost") | dict.fromkeys(found.doubled, "doubled")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right", style=PALE)
    wide = len(actors) <= MOST_COLUMNS
    for heading in actors if wide else ["process", "step"]:
        table.add_column(heading, overflow="fold")
    counted = 0
    for row in found.schedule:
        counted += row.counts
        number = str(counted) if row.counts else ""
        said = _say(row, marked)
        if not wide:
            cells: list[RenderableType] = [row.actor, said]
        elif row.actor == MEMCACHED_ITSELF:
            cells = [said, *([""] * (len(actors) - 1))]
        else:
            cells = [said if row.actor == actor else "" for actor in actors]
        table.add_row(number, *cells)
    return table


def _say(row: Row, marked: dict[str, str]) -> Text:
    """The row's words: a vote that is lost or doubled is marked, what is local is pale."""
    if not row.command:
        name = f"memcached: {row.event}" if row.actor == MEMCACHED_ITSELF else row.event
        return Text(f"[{name}]", style=EVENT)
    words = f"{row.command} → {row.reply}"
    if row.event:
        words += f" [{row.event}]"
    fates = sorted({fate for vote, fate in marked.items() if vote in words})
    if fates:
        return Text(f"{words} ◄ {', '.join(fates)}", style=MARKED)
    shared = row.counts or row.command.startswith(("commit", "insert", "issue", "read heads"))
    return Text(words, style="" if shared else PALE)
