"""One voter, one vote: a guard at the door, around what any protocol does with a vote.

Theory of operation
    A vote that is its voter's only one says so in its message. Before it is taken in, the voter's
    key is made with `add`, and in it lies the vote's id. Whoever finds the key there reads it: with
    his own id he is a voter who tries again, and goes on; with another id he has voted already, and
    is told so without a word to the queue or the database. An attempt that then has certainly
    written the vote nowhere gives the key back, so that the voter may come with another one, if
    it was the one that made it: an earlier attempt of the same vote may be under way. If the
    database says that another vote counts, this one never will, and its key goes in any case.

    The guard is not the judge. The key of a voter may be lost, refused or not readable, and then
    the vote goes on: the database has a row for each voter, made together with the ballot, and
    whoever is second there is not counted. Votes that went straight to the database are told; of
    those that were queued the drain finds out, and keeps them as rejected.

Invariant
    Of a voter's votes in a once-only poll one at most has a ballot. As long as memcached keeps the
    voter's key, one at most is taken in, too.

What it survives
    Any number of attempts at once, from any number of processes; replies that get lost; a
    memcached that is dead, wiped, or full. What it lets through then is found when it is counted.

What it cannot survive
    * A voter whose key was lost may be told that another vote was queued, which then is rejected.
    * A process that dies, or hears nothing, between the key and the vote: the key is there, and
      perhaps no vote. With the same id the voter is let in, with another one she has voted, until
      the key expires.
    * A vote that was acknowledged and lost in the queue: its voter has voted, for all the key says.
"""

from functools import partial
from typing import Final

from harness.protocol.commands import Add, Delete, Get, Key, Machine, Reply, Status
from harness.protocol.queue import Queue, Receipt, VotingProtocol
from harness.vote import is_once

LIFE_S: Final = 3600
"""Who comes again within an hour is told at the door. Longer would keep memory for those who do not
come again, and a voter whose key has no vote for as long from voting with another id."""
WRITTEN_NOWHERE: Final = (Receipt.REFUSED, Receipt.OUT_OF_PATIENCE, Receipt.NO_MEMCACHED)


def guarded(protocol: VotingProtocol) -> VotingProtocol:
    """The protocol, with the guard before each vote that is its voter's only one."""
    return protocol._replace(vote=partial(vote, protocol), needs_memcached=True)


def vote(protocol: VotingProtocol, queue: Queue, message: bytes) -> Machine[Receipt]:
    """The machine of a vote: the protocol's own, if the voter has any number of votes."""
    take_in = protocol.vote(queue, message)
    return guard(queue, message, take_in) if is_once(message) else take_in


def guard(queue: Queue, message: bytes, take_in: Machine[Receipt]) -> Machine[Receipt]:
    """Take the vote in unless the voter's key says that another one was."""
    vote_id, _, poll, voter, _ = message.split(b" ")
    key = queue.voter(poll.decode(), voter.decode())
    made = yield Add(key, vote_id, LIFE_S)
    if made.status is Status.EXISTS:
        found = yield Get(key)
        if found.status is Status.OK and found.value != vote_id:
            return Receipt.ALREADY_VOTED
    receipt = yield from take_in
    another_counts = receipt is Receipt.ALREADY_VOTED
    if another_counts or (receipt in WRITTEN_NOWHERE and made.status is not Status.EXISTS):
        yield from give_back(key, vote_id, made)
    return receipt


def give_back(key: Key, vote_id: bytes, made: Reply) -> Machine[None]:
    """Remove the item with this vote's id, if it is there."""
    item = made
    if made.status is not Status.OK:
        item = yield Get(key)
        if item.value != vote_id:
            return
    yield Delete(key, item.cas)
