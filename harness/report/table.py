"""The result as a table in a terminal: a row per mode, then the sentences."""

from typing import Final

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.report import sentences
from harness.report.notation import NOTHING, count, number
from harness.result import ModeResult, RunResult

VERDICT_STYLE: Final = {
    "kept": "bold green",
    "lost": "bold red",
    "unknown": "bold yellow",
    "sound": "green",
    "invalid": "bold red",
}
WIDEST: Final = 100  # columns; also the width of what is piped, which has none of its own
UNBOUNDED: Final = 10_000  # columns: wider than any table, to ask how wide one would be
GAPS: Final = (2, 1)  # blanks between columns, the roomiest first
COLUMNS: Final = (
    "mode",
    "votes",
    "sent",
    "ack’d",
    "lost",
    "twice",
    "p50\nms",
    "p99\nms",
    "max\nms",
    "takeover/\ncold/\noverlap",
    "counted\np99 s",
)
ONCE_COLUMNS: Final = ("refused", "rejec-\nted", "over-\nvotes")
"""Of once-only polls, besides."""
RULE_STYLE: Final = {True: "bold green", False: "bold red", None: "bold yellow"}


def print_result(result: RunResult, console: Console) -> None:
    """Print both verdicts, a row per mode and a sentence per mode; at most 100 columns wide.

    Where the rows do not fit, each mode is a block of lines instead: no number is ever cut. What
    is piped is 100 columns wide; `console` keeps that width.
    """
    if not console.is_terminal:
        console.width = WIDEST
    width = min(console.width, WIDEST)
    if standing := sentences.standing(result):
        console.print(Text(standing, style="bold yellow"), width=width, soft_wrap=False)
    tables = [_modes_table(result, gap) for gap in GAPS]
    fitting = [table for table in tables if _columns_needed(table, console) <= width]
    if fitting:
        console.print(fitting[0], width=width)
        console.print()
    else:
        _print_blocks(result, console, width)
    for name, mode in result.modes.items():
        words = [sentences.votes_sentence(name, mode), sentences.spread_sentence(mode)]
        words.append(sentences.rule_sentence(mode))
        console.print(_sentence(" ".join(filter(None, words)), mode), width=width)
    console.print()
    for word, verdict, sentence in (
        (sentences.VOTES_WORD, result.verdict.votes, sentences.votes_headline(result)),
        (
            sentences.MEASUREMENT_WORD,
            result.verdict.measurement,
            sentences.measurement_headline(result),
        ),
    ):
        line = Text.assemble((f"{word[verdict]}. ", VERDICT_STYLE[verdict]), sentence)
        console.print(line, width=width)
    if result.once:
        rule = sentences.rule_of(result)
        told = (f"{sentences.RULE_WORD[rule]}. ", RULE_STYLE[rule])
        console.print(Text.assemble(told, sentences.rule_headline(result)), width=width)
    for reason in [*reasons(result), *sentences.unplanned(result)]:
        console.print(Text(f"  {reason}"), width=width)
    for name, mode in result.modes.items():
        for slo in mode.slo:
            style = "green" if slo.held else "bold red"
            console.print(
                Text.assemble(f"{name}: ", (sentences.slo_sentence(slo), style)), width=width
            )


def reasons(result: RunResult) -> list[str]:
    """Why something is unknown or invalid: the run's reasons, then each mode's that are new."""
    told = list(result.verdict.reasons)
    for name, mode in result.modes.items():
        told += [
            f"{name}: {reason}"
            for reason in mode.verdict.reasons
            if reason not in told and f"{name}: {reason}" not in told
        ]
    return told


def _modes_table(result: RunResult, gap: int) -> Table:
    """`gap` is the number of blanks between columns; the box itself draws one of them."""
    padding = (0, gap - 1, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding, show_edge=False)
    for heading in _columns(result):
        table.add_column(
            heading,
            justify="left" if heading in ("mode", "votes") else "right",
            no_wrap=True,
        )
    for name, mode in result.modes.items():
        table.add_row(*_row(name, mode, result.once))
    return table


def _columns_needed(table: Table, console: Console) -> int:
    unbounded = console.options.update(max_width=UNBOUNDED)
    return Measurement.get(console, unbounded, table).maximum


def _print_blocks(result: RunResult, console: Console, width: int) -> None:
    """Per mode its name, then a line for each figure, for a narrow terminal."""
    names = [
        heading.replace("/\n", "/").replace("-\n", "").replace("\n", " ")
        for heading in _columns(result)
    ]
    longest = max(map(len, names))
    for name, mode in result.modes.items():
        title, *figures = _row(name, mode, result.once)
        console.print(title, width=width, overflow="fold")
        for label, figure in zip(names[1:], figures, strict=True):
            line = Text.assemble(f"  {label:<{longest}}  ", figure)
            console.print(line, width=width, overflow="fold")
        console.print()


def _columns(result: RunResult) -> tuple[str, ...]:
    return COLUMNS + ONCE_COLUMNS * result.once


def _row(name: str, mode: ModeResult, once: bool) -> list[Text]:
    accounts, latency, lock = mode.accounts, mode.latency_ms, mode.lock
    entries = NOTHING
    if lock.grants:
        entries = f"{count(lock.takeovers)}/{count(lock.cold_grants)}/{count(lock.overlaps)}"
    plain = [
        count(accounts.sent),
        count(accounts.acknowledged),
        count(accounts.lost),
        count(accounts.duplicated),
        number(latency.p50),
        number(latency.p99),
        number(latency.max),
        entries,
        number(mode.counted_after_s.p99),
    ]
    wrongs = {2: accounts.lost, 3: accounts.duplicated}
    if once:
        plain += map(count, (accounts.refused, accounts.rejected, accounts.overvotes))
        wrongs[len(plain) - 1] = accounts.overvotes
    cells = [Text(value) for value in plain]
    for place, wrong in wrongs.items():
        if wrong:
            cells[place].stylize("bold red")
    verdict = mode.verdict.votes
    return [Text(name, style="bold"), Text(verdict, style=VERDICT_STYLE[verdict]), *cells]


def _sentence(text: str, mode: ModeResult) -> Text:
    mark = {"kept": "✓", "lost": "✗", "unknown": "?"}[mode.verdict.votes]
    return Text.assemble((f"{mark} ", VERDICT_STYLE[mode.verdict.votes]), text)
