"""The flusher: drains every queue at an interval, counts its votes, and refreshes the totals.

`python -m harness.flusher DEPLOYMENT [NUMBER]`. On SIGTERM it drains until every queue is empty and
ends with 0; if that cannot be done within the plan's drain limit, with 3. Several of a deployment
are numbered from 1 and take turns within the interval. POLLSTORM_MODE is another mode than the
deployment's, as for the site; in one without a queue there is nothing to do but to wait.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from harness.deployment import Deployment
from harness.errors import Exit, PollstormError
from harness.history.journal import Journal, Role
from harness.modes.mode import Mode, Unavailable, find_mode, require_memcached
from harness.protocol.queue import DrainEnd
from harness.vote import POLL_NAME

MODE_VARIABLE: Final = "POLLSTORM_MODE"
RETRY_S: Final = 0.05  # between the last drains: a dead memcached refuses at once
FULL_LOAD: Final = 10_000
"""Votes in one drain after which the queue is drained again at once. That is half of what a drain
takes at most: the rest may have been slots closed empty. Smaller ones can wait for the interval."""
STRAY_BYTES: Final = 80  # of a message that is no vote: enough to know whose it is
MOST_IN_A_ROW: Final = 32  # drains of one queue: half a million votes, then the others' turn
MOST_REFRESHED: Final = 100  # polls in one round: some 0.1 s, so that drains are not held up long
UNFIT: Final = {DrainEnd.NO_MEMCACHED, DrainEnd.NOT_COMMITTED}
"""Ends of drains after which totals need not be tried: they stand on what has just failed."""
LAST_TRIES: Final = 3  # to refresh totals at the end: the first may meet a connection that is gone


class Flusher:
    """One process's drains, until `finish` is set."""

    def __init__(
        self, deployment: Deployment, mode: Mode, finish: threading.Event, number: int = 1
    ) -> None:
        self._plan = deployment.plan
        folder = Path(deployment.folder)
        journal = Journal(folder, Role.FLUSHER) if self._plan.site.journal else None
        self._drain = mode.drain(deployment, journal)
        self._turn = number / self._plan.flusher.processes
        self._finish = finish
        # Whoever drained before may have died between a commit and the totals.
        self._all_due = True
        self._due: dict[str, None] = {}  # polls, in the order in which they are tried
        self._complained = False

    def run(self) -> bool:
        """Drain at the plan's interval until told to finish; whether the queues ended empty."""
        interval_s = self._plan.flusher.interval_s
        due_s = monotonic() + interval_s * self._turn
        while not self._finish.wait(max(0.0, due_s - monotonic())):
            self._drain_all()
            due_s = max(due_s + interval_s, monotonic())
        return self._drain_until_empty()

    def close(self) -> None:
        self._drain.close()

    def _drain_until_empty(self) -> bool:
        """Whatever the end of a drain, only one that found nothing says that the queue is empty."""
        give_up_s = monotonic() + self._plan.limits.drain_s
        while monotonic() < give_up_s:
            ends = self._drain_all()
            if ends == {DrainEnd.EMPTY}:
                self._refresh_at_last(give_up_s)
                return True
            if ends != {DrainEnd.COMMITTED}:
                sleep(RETRY_S)
        return False

    def _drain_all(self) -> set[DrainEnd]:
        """Drain each queue, a long one again at once; how they ended."""
        ends = {end for number in range(self._drain.queues) for end in self._drain_queue(number)}
        if not ends & UNFIT:
            self._refresh_totals()
        if DrainEnd.NOT_COMMITTED in ends:
            print("the database did not take a drain", file=sys.stderr, flush=True)
        return ends

    def _drain_queue(self, number: int) -> set[DrainEnd]:
        ends = set()
        for _ in range(MOST_IN_A_ROW):
            drained = self._drain.drain(number)
            ends.add(drained.end)
            self._due |= dict.fromkeys(sorted(polls_of(drained.messages)))
            if drained.strays:
                print(of_strays(drained.strays), file=sys.stderr, flush=True)
            if drained.end is not DrainEnd.COMMITTED or len(drained.messages) < FULL_LOAD:
                break
        return ends

    def _refresh_totals(self) -> bool:
        """Those of the first polls that are due; whether all went well. What fails stays due."""
        poll = ""
        try:
            if self._all_due:
                self._due |= dict.fromkeys(sorted(self._drain.polls()))
                self._all_due = False
            for poll in list(self._due)[:MOST_REFRESHED]:
                self._drain.refresh_totals(poll)
                del self._due[poll]
        except Unavailable as error:
            if poll in self._due:  # the others first, the next time
                self._due[poll] = self._due.pop(poll)
            if not self._complained:
                print(f"totals not refreshed: {error}", file=sys.stderr, flush=True)
            self._complained = True
            return False
        self._complained = False
        return True

    def _refresh_at_last(self, give_up_s: float) -> None:
        """All totals once more: some votes may have gone to the database without a drain."""
        self._all_due = True
        tries = LAST_TRIES
        while (self._all_due or self._due) and tries and monotonic() < give_up_s:
            if not self._refresh_totals():
                tries -= 1
                sleep(RETRY_S)


def polls_of(messages: Iterable[bytes]) -> set[str]:
    """The polls of these votes; a drain drops what is no vote."""
    words = {message.split(b" ", 3)[2] for message in messages if message.count(b" ") >= 3}
    names = {word.decode("ascii", "replace") for word in words}
    return {name for name in names if POLL_NAME.fullmatch(name)}


def of_strays(strays: Sequence[bytes]) -> str:
    """What to say of messages that are no votes: somebody else's, or votes that were altered."""
    number = f"{len(strays)} messages are" if len(strays) > 1 else "a message is"
    return (
        f"in the queue {number} no vote and not counted: {strays[0][:STRAY_BYTES]!r}; "
        "docs/interop.md says what a vote looks like"
    )


def ready_file(folder: Path, number: int = 1) -> Path:
    """Its existence says that the flusher of that number is at work; in it is the process id."""
    return folder / ("flusher.ready" if number == 1 else f"flusher-{number}.ready")


def main(arguments: list[str]) -> int:
    try:
        path, number = _read(arguments)
    except ValueError:
        print("usage: python -m harness.flusher DEPLOYMENT.(json|toml) [NUMBER]", file=sys.stderr)
        return Exit.USAGE
    try:
        deployment = Deployment.read(path)
        mode = find_mode(os.environ.get(MODE_VARIABLE) or deployment.mode)
        deployment.make_folder()
        finish = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: finish.set())
        signal.signal(signal.SIGINT, lambda *_: finish.set())
        ready = ready_file(Path(deployment.folder), number)
        if not mode.queues:
            print(f"flusher: mode {mode.name} has no queue to drain", flush=True)
            ready.write_text(str(os.getpid()))
            finish.wait()
            return Exit.OK
        require_memcached(mode, len(deployment.memcached), deployment.plan)
        flusher = Flusher(deployment, mode, finish, number)
        ready.write_text(str(os.getpid()))
        try:
            return Exit.OK if flusher.run() else Exit.INCONCLUSIVE
        finally:
            flusher.close()
    except PollstormError as error:
        print(f"flusher: {error}", file=sys.stderr)
        return error.exit_code


def _read(arguments: list[str]) -> tuple[Path, int]:
    """Deployment and number. Raises ValueError."""
    path, *rest = arguments
    (number,) = [int(each) for each in rest] or [1]
    if number < 1:
        raise ValueError(number)
    return Path(path), number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
