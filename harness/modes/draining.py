"""The flusher's side of a mode that queues."""

from pathlib import Path

import pymysql

from harness.database.polls import find_poll, name_polls
from harness.deployment import Deployment
from harness.errors import RecordingError
from harness.history.journal import Journal, Role
from harness.history.recorder import note_recording_failed
from harness.modes.hands import Hands
from harness.modes.mode import Unavailable
from harness.modes.queues import queues
from harness.modes.totals import KeptTotals
from harness.protocol.commands import Command, Reply
from harness.protocol.drive import drive
from harness.protocol.queue import Drained, VotingProtocol


class QueueDrain:
    """Drains one queue at a time, and counts its votes."""

    def __init__(
        self,
        protocol: VotingProtocol,
        deployment: Deployment,
        journal: Journal | None,
        *,
        breakers: bool,
    ) -> None:
        assert protocol.drain is not None, "nothing is queued in this mode"
        self._drain = protocol.drain
        self._journal = journal
        self._folder = Path(deployment.folder)
        self._hands = Hands(
            deployment, Role.FLUSHER, journal, breakers=breakers, daemons=protocol.daemons
        )
        self._link = self._hands.ballots.link
        self._totals = KeptTotals(self._hands, deployment.plan)
        self._queues = queues(deployment.plan)

    @property
    def queues(self) -> int:
        return len(self._queues)

    def drain(self, number: int) -> Drained:
        try:
            if self._journal:
                self._journal.start_operation(number)
        except RecordingError as error:
            self._stop_recording(error)
        drained = drive(self._drain(self._queues[number]), self._execute)
        return drained._replace(strays=self._hands.take_strays())

    def polls(self) -> list[str]:
        try:
            return name_polls(self._link)
        except pymysql.MySQLError as error:
            raise Unavailable(str(error)) from error

    def refresh_totals(self, poll: str) -> None:
        try:
            found = find_poll(self._link, poll)
        except pymysql.MySQLError as error:
            raise Unavailable(str(error)) from error
        if found:
            self._totals.refresh(found)

    def close(self) -> None:
        self._hands.close()

    def _execute(self, command: Command) -> Reply:
        try:
            return self._hands.execute(command)
        except RecordingError as error:
            # Raised before the command was sent. A drain broken off here would lose what it has
            # read, and that would be our doing, not the mode's: go on without a journal.
            self._stop_recording(error)
            return self._hands.execute(command)

    def _stop_recording(self, error: RecordingError) -> None:
        note_recording_failed(self._folder, error)
        self._journal = None
        self._hands.stop_recording()
