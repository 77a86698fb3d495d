"""The site's own log: one line for an unforeseen error, and few lines for a flood of them.

Never what a voter sent: not even an exception's message, since a database quotes values there.
"""

import itertools
import logging
import threading
import traceback
from pathlib import Path
from typing import Final

_LOG: Final = logging.getLogger("harness.site")
_counts: dict[str, int] = {}
_lock: Final = threading.Lock()
_POWERS_OF_TEN: Final = frozenset(itertools.islice((10**n for n in itertools.count()), 12))


def unforeseen(doing: str, error: BaseException) -> None:
    """Log kind and place of the error: the first of its kind, the 10th, the 100th and so on."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    line = f"{doing}: {type(error).__name__} at {place}"
    with _lock:
        count = _counts[line] = _counts.get(line, 0) + 1
    if count in _POWERS_OF_TEN:
        _LOG.error("%s (%d so far)", line, count)
