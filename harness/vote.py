"""Votes, polls and outcomes: the nouns that everything else speaks of."""

import re
from enum import IntEnum
from typing import Final, NamedTuple, NewType

VoteId = NewType("VoteId", int)
"""64 bit: the generator that minted it (upper 16) and its sequence number there (lower 48)."""

SEQUENCE_BITS: Final = 48
RECAST_BITS: Final = 40
"""Of the sequence: the bits above say how often the vote was cast again. A trillion are enough."""
POLL_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
VOTE_ID: Final = re.compile(r"[0-9a-f]{16}")
VOTER_NAME: Final = re.compile(r"[!-~]{1,64}")  # visible ASCII, so that a message is one line
MAX_CHOICES: Final = 100


def mint(generator: int, sequence: int) -> VoteId:
    """The id of a generator's vote number `sequence`, counted from 0; generators count from 1.

    So no vote has the id 0, by which the journal says that a command carried none.
    """
    return VoteId(generator << SEQUENCE_BITS | sequence)


def recast(vote_id: VoteId) -> VoteId:
    """The id under which a voter casts again what she cast under that id."""
    return VoteId(vote_id + (1 << RECAST_BITS))


def times_recast(vote_id: VoteId) -> int:
    """How often the vote had been cast before."""
    return (vote_id & ((1 << SEQUENCE_BITS) - 1)) >> RECAST_BITS


class Vote(NamedTuple):
    """One wish to be counted. `choice` counts from 1."""

    vote_id: VoteId
    poll: str
    choice: int
    voter: str

    def to_message(self) -> bytes:
        """One line, as it lies in a queue slot: id in hex, choice, poll, voter."""
        return b"%016x %d %s %s" % (
            self.vote_id,
            self.choice,
            self.poll.encode(),
            self.voter.encode(),
        )

    @classmethod
    def from_message(cls, message: bytes) -> "Vote":
        """Reads what `to_message` wrote. Raises ValueError for anything else."""
        vote_id, choice, poll, voter = message.decode("ascii").split(" ")
        vote = cls(VoteId(int(vote_id, 16)), poll, int(choice), voter)
        names_fit = POLL_NAME.fullmatch(poll) and VOTER_NAME.fullmatch(voter)
        if not (VOTE_ID.fullmatch(vote_id) and 1 <= vote.choice <= MAX_CHOICES and names_fit):
            raise ValueError(f"no vote: {message[:80]!r}")
        return vote


class Poll(NamedTuple):
    """A question with its choices; a vote names a choice by its number, from 1."""

    name: str
    question: str
    choices: tuple[str, ...]
    once: bool = False  # each voter is counted once at most
    closed: bool = False  # takes no votes any more


class Outcome(IntEnum):
    """What a voter was told about one attempt."""

    UNKNOWN = 0  # time-out, broken connection, 504: it may or may not be counted
    ACKNOWLEDGED = 1  # stored or queued: the site promised to count it
    REFUSED = 2  # definitely written nowhere
