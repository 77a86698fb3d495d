"""Executes a protocol's commands on the real database; ballots and heads journal each of them."""

from collections.abc import Iterable
from typing import Final

from harness.database.ballots import STATUSES, Ballots
from harness.database.heads import Heads
from harness.database.link import Failure
from harness.protocol.commands import (
    COMMAND_CODES,
    DatabaseCommand,
    InsertBallot,
    InsertBallots,
    IssueEpoch,
    ReadHeads,
    Reply,
    Status,
)
from harness.vote import Vote

READ_HEADS: Final = COMMAND_CODES[ReadHeads]
ISSUE_EPOCH: Final = COMMAND_CODES[IssueEpoch]

REPLIES: Final = {delivery: Reply(status) for delivery, status in STATUSES.items()}

FAILED: Final = {
    Failure.REFUSED: Reply(Status.REFUSED),
    Failure.UNKNOWN: Reply(Status.LOST),
}


class DatabaseExecutor:
    """One thread's ballots and heads, over the ballots' connection and with their journal."""

    def __init__(self, ballots: Ballots, rows_per_statement: int) -> None:
        self._ballots = ballots
        self._heads = Heads(ballots.link)
        self._rows_per_statement = rows_per_statement
        self._strays: list[bytes] = []

    def stop_recording(self) -> None:
        """Go on without a journal."""
        self._ballots.stop_recording()

    def take_strays(self) -> list[bytes]:
        """The messages of batches that were no votes, since this was asked last."""
        strays, self._strays = self._strays, []
        return strays

    def close(self) -> None:
        """Drop the connection, whatever state it is in."""
        self._ballots.close()

    def execute(self, command: DatabaseCommand) -> Reply:
        """Do it, and say how it ended; never raises for what the database does.

        Raises RecordingError, before anything is sent, when it cannot be recorded.
        """
        if isinstance(command, InsertBallot):
            return self._insert(command)
        if isinstance(command, InsertBallots):
            votes = votes_in(command.messages)
            if len(votes) < len(command.messages):
                self._strays += [each for each in command.messages if not votes_in([each])]
            delivery = self._ballots.insert_batch(
                votes,
                self._rows_per_statement,
                command.moves,
                copies=command.copies,
            )
            return REPLIES[delivery]
        if isinstance(command, ReadHeads):
            return self._read_heads(command)
        if isinstance(command, IssueEpoch):
            return self._issue_epoch(command)
        raise TypeError(f"the database cannot execute {command!r}")

    def _insert(self, command: InsertBallot) -> Reply:
        try:
            vote = Vote.from_message(command.message)
        except ValueError:
            return Reply(Status.REFUSED)  # no vote, so there is nothing to count
        return REPLIES[self._ballots.insert(vote, copy=command.copy)]

    def _read_heads(self, command: ReadHeads) -> Reply:
        journal = self._ballots.journal
        if journal:
            journal.open(READ_HEADS)
        heads = self._heads.read(command.queue, command.current)
        if isinstance(heads, Failure):
            reply = FAILED[heads]
        else:
            reply = Reply(Status.OK, parts=tuple(Reply(Status.OK, head) for head in heads))
        if journal:
            journal.close(reply.status, len(reply.parts))
        return reply

    def _issue_epoch(self, command: IssueEpoch) -> Reply:
        journal = self._ballots.journal
        if journal:
            journal.open(ISSUE_EPOCH)
        epoch = self._heads.issue(command.queue)
        reply = FAILED[epoch] if isinstance(epoch, Failure) else Reply(Status.OK, epoch)
        if journal:
            journal.close(reply.status, reply.number)
        return reply


def votes_in(messages: Iterable[bytes]) -> list[Vote]:
    """The votes among the messages; whatever else lies in a slot is no vote of ours."""
    votes = []
    for message in messages:
        try:
            votes.append(Vote.from_message(message))
        except ValueError:
            continue
    return votes
