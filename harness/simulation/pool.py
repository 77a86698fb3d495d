"""Several processes that play trials at once, none of which outlives whoever asked for them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Final

from harness.errors import PollstormError
from harness.services.interruption import uninterrupted

END_S: Final = 5.0  # a process that was told to end does so at once


@contextmanager
def processes(number: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many, gone at the block's end, however that comes.

    Raises PollstormError when one of them was killed.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, mp_context=context, initializer=_leave_signals_to_the_parent)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise PollstormError(
            "a simulating process was killed, most likely for want of memory; "
            "simulate fewer modes at once, or a lower --peak"
        ) from error
    finally:
        with uninterrupted():
            _end(pool)


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C on a terminal reaches the whole group; the parent ends its children itself, and one
    that is killed takes them along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)  # a thread cannot end the others in a gentler way


def _end(pool: ProcessPoolExecutor) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    children = multiprocessing.active_children()
    for child in children:
        with suppress(OSError):
            child.terminate()
    for child in children:
        child.join(END_S)
