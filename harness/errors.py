"""The exit codes, and one exception tree in which each class says who has to act.

Expected failures of the system under test (a refused vote, a lost reply) are data in the
history and never exceptions that end a run; what stands here stops the command.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Process exit codes of every verb."""

    OK = 0
    FAILED = 1  # the harness itself failed, or what it stands on
    USAGE = 2  # flags or plan are wrong: the user acts
    INCONCLUSIVE = 3  # nothing was proven: invalid measurement, unfinished drain
    BROKEN_PROMISE = 99  # a promise, a threshold or a check failed
    INTERRUPTED = 105  # partial results are kept


class PollstormError(Exception):
    """Anything that ends a verb with one line. The message says what, where, and what to do."""

    exit_code = Exit.FAILED


class PlanError(PollstormError):
    """A flag, a plan or a run folder that cannot be used as given; the user mends it."""

    exit_code = Exit.USAGE


class ServiceError(PollstormError):
    """memcached, MariaDB, the site or the flusher is missing, did not start, or died."""


class RecordingError(PollstormError):
    """A ledger or journal cannot be written, nearly always a full disk; make room, run again."""


class HistoryError(PollstormError):
    """A ledger, journal or ballots file is missing or unreadable; nothing can be proven from it."""

    exit_code = Exit.INCONCLUSIVE


class CacheError(PollstormError):
    """A memcached that cannot be asked, or a key or value that is none for it; it says which."""


class Interrupted(PollstormError):
    """SIGINT or SIGTERM arrived; what was collected so far is kept."""

    exit_code = Exit.INTERRUPTED
