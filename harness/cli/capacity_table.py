"""A capacity study in a terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from harness.capacity.outcome import CapacityResult, ModeCapacity
from harness.capacity.wording import break_even_rows, patience_sentence, sustained
from harness.report.notation import count, number


def print_capacity(result: CapacityResult, console: Console) -> None:
    """A line per mode, and what the other parts say in a sentence each."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("mode")
    for name in ("sustained\nvotes/s", "failed at\nvotes/s", "p99 ms\nthere", "counted\np99 s"):
        table.add_column(name, justify="right")
    table.add_column("limited by")
    for name, mode in result.modes.items():
        table.add_row(name, *_cells(mode))
    console.print(table)
    console.print(
        f"\nThe generator itself can send {count(result.ceiling_per_s)} requests a second; "
        f"up to {count(result.usable_per_s)} votes a second were trusted.",
        highlight=False,
        soft_wrap=True,
    )
    for line in _of_parts(result):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _of_parts(result: CapacityResult) -> Iterator[str]:
    """The page has the figures and the intervals' making."""
    for name, law in result.scaling.items():
        best = law.best_processes
        if law.without_law:
            yield f"{name}: no scalability law: {law.without_law}"
        elif best is None:
            most = max(point.processes for point in law.points if point.saturated)
            yield f"{name}: throughput was not seen to fall again, up to {most} site processes"
        else:
            high = "or more" if best.high is None else f"to {best.high:.0f}"
            ends = f"{best.low:.0f} {high}"
            yield f"{name}: the most is taken by {best.value:.0f} of the site's processes ({ends})"
    if result.break_even:
        for row in break_even_rows(result.break_even):
            queue = f"{result.break_even.queue} takes more votes than direct"
            yield f"{queue} ({row.held}) {row.wins}; interval: {row.interval}"
    if result.patience:
        yield f"Patience of {result.patience.mode}: {patience_sentence(result.patience)}"
    for name, need in result.sizing.items():
        fits = "fits here" if need.fits else "does not fit here"
        processes = f"; {count(need.processes.value)} site processes" if need.processes else ""
        flush = need.flush_interval_s
        drained = f", drained every {number(flush.value)} s or more often" if flush else ""
        yield (
            f"{name}: {count(result.forecast_per_s)} votes/s with 30 % of headroom {fits}"
            f"{processes}, {count(need.threads.value)} threads each{drained}"
        )


def _cells(mode: ModeCapacity) -> tuple[str, ...]:
    lower, upper = mode.capacity_per_s.lower, mode.capacity_per_s.upper
    at_lower = [
        step for step in mode.steps if step.rate_per_s == lower and step.verdict == "passed"
    ]
    p99_ms = at_lower[-1].p99_ms if at_lower else None
    counted_s = at_lower[-1].counted_p99_s if at_lower else None
    return (
        sustained(mode),
        count(upper),
        number(p99_ms),
        number(counted_s),
        mode.limited_by,
    )
