"""What a run is doing: a live line on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

STEPS: Final = 12


class LiveProgress:
    """One line per trial with its step, and a bar while the load runs."""

    def __init__(self, live: Progress) -> None:
        self._live = live
        self._tasks: dict[str, TaskID] = {}

    def step(self, trial: str, number: int, text: str) -> None:
        task = self._task(trial)
        label = f"[dim]{number:>2}/{STEPS}[/] {text}"
        self._live.update(task, doing=label, completed=number / STEPS, total=1.0)

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:
        task = self._task(trial)
        doing = f"[dim] 6/{STEPS}[/] load, {elapsed_s:4.1f} of {duration_s:g} s"
        self._live.update(task, doing=doing, completed=min(elapsed_s, duration_s), total=duration_s)

    def _task(self, trial: str) -> TaskID:
        name = trial or "run"
        if name not in self._tasks:
            for earlier in self._tasks.values():
                self._live.stop_task(earlier)
            self._tasks[name] = self._live.add_task(name, doing="", total=1.0)
        return self._tasks[name]


class PlainProgress:
    """One line per step, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, trial: str, number: int, text: str) -> None:
        name = f"{trial}: " if trial else ""
        self._console.print(f"{number:>2}/{STEPS} {name}{text}", highlight=False, soft_wrap=True)

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:
        """A log wants no ticking."""


@contextmanager
def progress_on(console: Console) -> Iterator[LiveProgress | PlainProgress]:
    """The progress that suits the console; the live lines stay when it ends."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    columns = (
        TextColumn("[bold]{task.description:<10}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as live:
        yield LiveProgress(live)
