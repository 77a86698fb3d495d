"""The flusher: drains every queue at an interval, counts its votes, and refreshes the totals.

`python -m harness.flusher DEPLOYMENT`. On SIGTERM it drains until every queue is empty and ends
with 0; if that cannot be done within the plan's drain limit, with 3.
"""

import signal
import sys
import threading
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import pymysql
from pymemcache.exceptions import MemcacheError

from harness.errors import Exit, PollstormError
from harness.history.journal import Journal, Role
from harness.modes.mode import find_mode
from harness.modes.queued import QueuedDrain
from harness.modes.totals import counted_now, totals_key
from harness.plan import Deployment
from harness.protocol.queue import DrainEnd

READY_FILE: Final = "flusher.ready"
RETRY_S: Final = 0.05  # between the last drains: a dead memcached refuses at once


class Flusher:
    """One process's drains. `finish` may be set from a signal handler."""

    def __init__(self, deployment: Deployment) -> None:
        self._plan = deployment.plan
        folder = Path(deployment.folder)
        journal = Journal(folder, Role.FLUSHER) if self._plan.site.journal else None
        self._drain = QueuedDrain(deployment, journal)
        self._poll = self._plan.poll.poll()
        self.finish = threading.Event()

    def run(self) -> bool:
        """Drain at the plan's interval until told to finish; whether the queues ended empty."""
        interval_s = self._plan.flusher.interval_s
        due_s = monotonic() + interval_s
        while not self.finish.wait(max(0.0, due_s - monotonic())):
            self._drain_all()
            due_s = max(due_s + interval_s, monotonic())
        return self._drain_until_empty()

    def close(self) -> None:
        self._drain.close()

    def _drain_until_empty(self) -> bool:
        give_up_s = monotonic() + self._plan.limits.drain_s
        while monotonic() < give_up_s:
            if self._drain_all() == {DrainEnd.EMPTY}:
                self._refresh_totals()
                return True
            sleep(RETRY_S)
        return False

    def _drain_all(self) -> set[DrainEnd]:
        """Drain each queue once; how they ended."""
        ends = {self._drain.drain(number).end for number in range(len(self._drain.queues))}
        if DrainEnd.COMMITTED in ends:
            self._refresh_totals()
        if DrainEnd.NOT_COMMITTED in ends:
            print("a batch was read from the queue and not committed", file=sys.stderr, flush=True)
        return ends

    def _refresh_totals(self) -> None:
        """Best effort: a results page that finds no totals counts them itself."""
        try:
            totals = counted_now(self._drain.ballots, self._poll)
            key = totals_key(self._plan.queue, self._poll.name)
            self._drain.client.set(key, totals, noreply=False)
        except (pymysql.MySQLError, OSError, MemcacheError) as error:
            print(f"totals not refreshed: {error}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m harness.flusher DEPLOYMENT.(json|toml)", file=sys.stderr)
        return Exit.USAGE
    try:
        deployment = Deployment.read(Path(arguments[0]))
        if not find_mode(deployment.mode).queues:
            print(f"flusher: mode {deployment.mode} has no queue to drain", file=sys.stderr)
            return Exit.USAGE
        flusher = Flusher(deployment)
        signal.signal(signal.SIGTERM, lambda *_: flusher.finish.set())
        signal.signal(signal.SIGINT, lambda *_: flusher.finish.set())
        (Path(deployment.folder) / READY_FILE).touch()
        try:
            return Exit.OK if flusher.run() else Exit.INCONCLUSIVE
        finally:
            flusher.close()
    except PollstormError as error:
        print(f"flusher: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
