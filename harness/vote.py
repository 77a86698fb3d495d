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
MAX_TEXT: Final = 1000  # characters of a question or a choice; people read a line or two
NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of a pair that no UTF-8 can hold."""
ONCE: Final = b" once"  # ends the message of a vote that is its voter's only one
_SEQUENCE: Final = (1 << RECAST_BITS) - 1
FIRST_CAST: Final = ~((1 << SEQUENCE_BITS) - 1 ^ _SEQUENCE)
"""And with an id: the one under which the vote was cast first."""


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


def voter_number(vote_id: int, votes_each: int, generators: int) -> int:
    """What a load's voter is called after.

    If each has one vote, its id when it was cast first. Otherwise voters are numbered from 0, and
    have so many votes that follow one another, dealt out to the generators as the arrivals are:
    those of one voter come from several processes at about the same time.
    """
    if votes_each == 1:
        return vote_id & FIRST_CAST
    place = (vote_id & _SEQUENCE) * generators + (vote_id >> SEQUENCE_BITS) - 1
    return place // votes_each


def voter_of(vote_id: int, votes_each: int = 1, generators: int = 1) -> str:
    """The name of the voter who casts that vote of a load.

    `votes_each`, `generators`: as in the plan's `voters`.
    """
    return f"v{voter_number(vote_id, votes_each, generators):016x}"


def is_once(message: bytes) -> bool:
    """Whether a message says that the vote is its voter's only one; voters may be named `once`."""
    return message.endswith(ONCE) and message.count(b" ") == 4


class Vote(NamedTuple):
    """One wish to be counted. `choice` counts from 1."""

    vote_id: VoteId
    poll: str
    choice: int
    voter: str
    once: bool = False  # her only one: at most one of the voter's in this poll is counted

    def to_message(self) -> bytes:
        """One line, as it lies in a queue slot: id in hex, choice, poll, voter; then maybe `once`.

        So whoever drains need not know the poll.
        """
        return b"%016x %d %s %s%s" % (
            self.vote_id,
            self.choice,
            self.poll.encode(),
            self.voter.encode(),
            ONCE if self.once else b"",
        )

    @classmethod
    def from_message(cls, message: bytes) -> "Vote":
        """Reads what `to_message` wrote. Raises ValueError for anything else."""
        once = is_once(message)
        words = message[: -len(ONCE)] if once else message
        vote_id, choice, poll, voter = words.decode("ascii").split(" ")
        vote = cls(VoteId(int(vote_id, 16)), poll, int(choice), voter, once)
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


def flaw(poll: Poll) -> str | None:
    """The first thing that keeps a poll from being voted on, its field first; None if nothing."""
    if not POLL_NAME.fullmatch(poll.name):
        return f"name {poll.name!r} must be like 'town-hall-2'"
    if not 2 <= len(poll.choices) <= MAX_CHOICES:
        return f"choices needs 2 to {MAX_CHOICES} entries"
    if len(set(poll.choices)) < len(poll.choices):
        return "choices has the same text twice"
    for field, text in [("question", poll.question), *(("choices", text) for text in poll.choices)]:
        if not text.strip():
            return f"{field} has an empty text"
        if len(text) > MAX_TEXT:
            return f"{field} has a text of {len(text)} characters, and {MAX_TEXT} are allowed"
        if NO_TEXT.search(text):
            return f"{field} has a line break or another control character in {text[:40]!r}"
    return None


class Outcome(IntEnum):
    """What a voter was told about one attempt."""

    UNKNOWN = 0  # time-out, broken connection, 504: it may or may not be counted
    ACKNOWLEDGED = 1  # stored or queued: the site promised to count it
    REFUSED = 2  # definitely written nowhere
