"""The ballots, heads and epochs as plain data: commands and the time go in, replies come out.

It answers as `database.executor` does over a MariaDB that is always there. A command is carried
out whole and at once, as if it were alone; what waiting for another's locks costs is a matter of
time, and that is not kept here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

import pandas as pd

from harness.database.executor import votes_in
from harness.database.heads import REMEMBERED_S
from harness.history.store import BALLOT_COLUMNS, REJECTION_COLUMNS
from harness.protocol.commands import (
    DatabaseCommand,
    InsertBallot,
    InsertBallots,
    IssueEpoch,
    Move,
    ReadHeads,
    Reply,
    Status,
)
from harness.protocol.ticket import epoch_of, first_of
from harness.vote import Vote

REMEMBERED_NS: Final = REMEMBERED_S * 10**9
DONE: Final = Reply(Status.OK)
REFUSED: Final = Reply(Status.REFUSED)
EXISTS: Final = Reply(Status.EXISTS)
ALREADY_VOTED: Final = Reply(Status.ALREADY_VOTED)


class Ballot:
    """A vote as counted, and how often it arrived."""

    __slots__ = ("deliveries", "vote")

    def __init__(self, vote: Vote) -> None:
        self.vote = vote
        self.deliveries = 1

    def is_as_in(self, vote: Vote) -> bool:
        return self.vote.choice == vote.choice and self.vote.poll == vote.poll


class Epoch:
    """How far an epoch is drained, and since when it has not been the current one."""

    __slots__ = ("head", "superseded_ns")

    def __init__(self, head: int) -> None:
        self.head = head
        self.superseded_ns: int | None = None

    def is_remembered(self, now_ns: int) -> bool:
        return self.superseded_ns is None or self.superseded_ns > now_ns - REMEMBERED_NS


class SimulatedDatabase:
    """Starts without a ballot or an epoch."""

    def __init__(self) -> None:
        self._ballots: dict[int, Ballot] = {}  # by vote id
        self._voters: dict[tuple[str, str], int] = {}  # poll and voter: the vote that is counted
        self._rejections: dict[int, Vote] = {}
        self._epochs: defaultdict[str, dict[int, Epoch]] = defaultdict(dict)  # by queue
        self._carry_out: Final[dict[type[DatabaseCommand], Callable[[Any, int], Reply]]] = {
            InsertBallot: self._insert_ballot,
            InsertBallots: self._insert_ballots,
            ReadHeads: self._read_heads,
            IssueEpoch: self._issue_epoch,
        }

    def execute(self, command: DatabaseCommand, now_ns: int) -> Reply:
        """Carry it out, and answer as the database's executor does."""
        return self._carry_out[type(command)](command, now_ns)

    def ballots(self) -> pd.DataFrame:
        """All ballots in the order of their ids, with the columns of `BALLOT_COLUMNS`."""
        rows = [
            (vote_id, ballot.vote.poll, ballot.vote.choice, ballot.vote.voter, ballot.deliveries)
            for vote_id, ballot in sorted(self._ballots.items())
        ]
        return pd.DataFrame(rows, columns=list(BALLOT_COLUMNS)).astype(BALLOT_COLUMNS)

    def rejections(self) -> pd.DataFrame:
        """All rejected votes in the order of their ids, with the columns of `REJECTION_COLUMNS`."""
        rows = [
            (vote_id, vote.poll, vote.choice, vote.voter)
            for vote_id, vote in sorted(self._rejections.items())
        ]
        return pd.DataFrame(rows, columns=list(REJECTION_COLUMNS)).astype(REJECTION_COLUMNS)

    def _insert_ballot(self, command: InsertBallot, _now_ns: int) -> Reply:
        for vote in votes_in([command.message]):
            if not self._is_free(vote):
                return ALREADY_VOTED
            ballot = self._ballots.get(vote.vote_id)
            if ballot is not None and not ballot.is_as_in(vote):
                return EXISTS
            self._claim(vote)
            self._count(vote, copy=command.copy)
            return DONE
        return REFUSED

    def _insert_ballots(self, command: InsertBallots, _now_ns: int) -> Reply:
        """Counted is what another choice is in already, too: the batch has nobody to tell."""
        if not self._move(command.moves):
            return EXISTS
        for vote in votes_in(command.messages):
            if self._is_free(vote):
                self._claim(vote)
                self._count(vote, copy=command.copies)
            else:
                self._rejections.setdefault(vote.vote_id, vote)
        return DONE

    def _is_free(self, vote: Vote) -> bool:
        """Whether no other vote keeps this one from being counted."""
        counted_with = self._voters.get((vote.poll, vote.voter), vote.vote_id)
        return not vote.once or counted_with == vote.vote_id

    def _claim(self, vote: Vote) -> None:
        if vote.once:
            self._voters[vote.poll, vote.voter] = vote.vote_id

    def _count(self, vote: Vote, *, copy: bool) -> None:
        ballot = self._ballots.get(vote.vote_id)
        if ballot is None:
            self._ballots[vote.vote_id] = Ballot(vote)
        elif not copy:
            ballot.deliveries += 1

    def _move(self, moves: Iterable[Move]) -> bool:
        """Move all heads or none; one that is not where it should be, or would stay, stops all."""
        moved: dict[tuple[str, int], int] = {}
        for queue, old, new in sorted(moves):
            number = epoch_of(old)
            epoch = self._epochs[queue].get(number)
            if epoch is None or moved.get((queue, number), epoch.head) != old or new == old:
                return False
            moved[queue, number] = new
        for (queue, number), head in moved.items():
            self._epochs[queue][number].head = head
        return True

    def _read_heads(self, command: ReadHeads, now_ns: int) -> Reply:
        epochs = self._epochs[command.queue]
        if command.current and command.current not in epochs:
            epochs[command.current] = Epoch(first_of(command.current))
        current = epochs.get(command.current)
        heads = [
            epoch.head
            for _, epoch in sorted(epochs.items())
            if epoch is current or epoch.is_remembered(now_ns)
        ]
        if command.current:
            for epoch in epochs.values():
                if epoch is current:
                    epoch.superseded_ns = None
                elif epoch.superseded_ns is None:
                    epoch.superseded_ns = now_ns
        return Reply(Status.OK, parts=tuple(Reply(Status.OK, head) for head in heads))

    def _issue_epoch(self, command: IssueEpoch, _now_ns: int) -> Reply:
        epochs = self._epochs[command.queue]
        number = max(epochs, default=0) + 1
        epochs[number] = Epoch(first_of(number))
        return Reply(Status.OK, number)
