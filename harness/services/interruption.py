"""SIGINT, SIGTERM and SIGHUP as one exception, raised once, and never within a cleanup."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from harness.errors import Interrupted

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block the first of SIGNALS raises Interrupted; later ones are ignored, after the
    block too: who was interrupted is on the way out, and is not to be stopped there.

    Main thread only; Interrupted is raised there.
    """
    interrupted = False

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise Interrupted(f"interrupted by {signal.Signals(number).name}")

    previous = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if interrupted else handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that arrive within the block take effect at its end: for cleanups, kept short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    arrived: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _frame: arrived.append(number))
        for number in SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for late in arrived:
            signal.raise_signal(late)
