"""What a run is doing: a live line on a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

STEPS: Final = 12
LOAD: Final = 6
LAST_OF_TRIAL: Final = 9


class LiveProgress:
    """A line per trial, with its step and a bar, and one for what comes after them."""

    def __init__(self, live: Progress) -> None:
        self._live = live
        self._tasks: dict[str, TaskID] = {}

    def step(self, trial: str, number: int, text: str) -> None:
        if trial or number > LAST_OF_TRIAL:
            self._show(trial or "report", number, text)

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:
        done = min(elapsed_s / duration_s, 1.0)
        self._show(trial, LOAD + done, f"load, {elapsed_s:4.1f} of {duration_s:g} s")

    def _show(self, name: str, reached: float, text: str) -> None:
        if name not in self._tasks:
            for earlier in self._tasks.values():
                self._live.update(earlier, doing="", completed=STEPS, total=STEPS)
                self._live.stop_task(earlier)
            self._tasks[name] = self._live.add_task(name, doing="", total=STEPS)
        total = STEPS if name == "report" else LAST_OF_TRIAL + 1
        doing = f"[dim]{int(reached):>2}/{STEPS}[/] {text}"
        self._live.update(self._tasks[name], doing=doing, completed=reached, total=total)


class PlainProgress:
    """One line per step, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, trial: str, number: int, text: str) -> None:
        name = f"{trial}: " if trial else ""
        self._console.print(f"{number:>2}/{STEPS} {name}{text}", highlight=False, soft_wrap=True)

    def load(self, trial: str, elapsed_s: float, duration_s: float) -> None:
        """A log wants no ticking."""


class Audience(Console):
    """A console that nobody need look at to the end: what is printed is no reason to lose a run."""

    def on_broken_pipe(self) -> None:
        """Whoever read the output has gone, as `head` does; print into the void from now on."""
        self.quiet = True
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, self.file.fileno())
        os.close(void)


def print_json(content: bytes) -> None:
    """To standard output. Whoever read there may have gone; it lies in a file, too."""
    with suppress(BrokenPipeError):
        sys.stdout.buffer.write(content + b"\n")
        sys.stdout.flush()


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
