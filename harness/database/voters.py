"""Voters of once-only polls: who is counted, with which vote, and which votes were too many.

The table's key is the arbiter: whoever's row is there first is counted, whatever memcached says.
A row is made in the transaction that makes its ballot, so there is neither without the other. It is
a table of its own, and no further key of the ballots, because a batch of votes in a poll without
that limit would pay for the key, too: a quarter more of the database's time.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from typing import Final

import pandas as pd
from pymysql.cursors import Cursor, SSCursor

from harness.database.connections import connect
from harness.history.store import REJECTION_COLUMNS
from harness.vote import Vote

CLAIM: Final = """
INSERT INTO pollstorm_voters (poll, voter, vote) VALUES (%s, %s, %s)
ON DUPLICATE KEY UPDATE vote = vote"""
"""It waits for whoever has the voter's row in a transaction that is not over."""
COUNTED_WITH: Final = "SELECT vote FROM pollstorm_voters WHERE poll = %s AND voter = %s"
CLAIMED: Final = "SELECT voter, vote FROM pollstorm_voters WHERE poll = %s AND voter IN %s"
REJECT: Final = """
INSERT INTO pollstorm_rejections (vote, poll, choice, voter) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE vote = vote"""


def claim(cursor: Cursor, vote: Vote) -> bool:
    """Whether the voter is counted with this vote, if its transaction is committed."""
    if cursor.execute(CLAIM, (vote.poll, vote.voter, vote.vote_id)):
        return True
    cursor.execute(COUNTED_WITH, (vote.poll, vote.voter))
    return cursor.fetchone() == (vote.vote_id,)


def admit(cursor: Cursor, votes: Sequence[Vote], rows_per_statement: int) -> list[Vote]:
    """Those of a batch that may be counted; the others are kept as rejected.

    Of several that a voter has in the batch the first counts. Voters are claimed in the order of
    their names, so that two batches with the same voters wait for each other, and neither for ever.
    """
    only = sorted((vote for vote in votes if vote.once), key=_voter)
    winners: set[tuple[str, str, int]] = set()
    for start in range(0, len(only), rows_per_statement):
        some = only[start:][:rows_per_statement]
        cursor.executemany(CLAIM, [(vote.poll, vote.voter, vote.vote_id) for vote in some])
        winners |= _claimed(cursor, some)
    admitted: list[Vote] = []
    rejected: list[Vote] = []
    for vote in votes:
        is_in = not vote.once or (vote.poll, vote.voter, vote.vote_id) in winners
        (admitted if is_in else rejected).append(vote)
    for start in range(0, len(rejected), rows_per_statement):
        some = rejected[start:][:rows_per_statement]
        cursor.executemany(REJECT, [(v.vote_id, v.poll, v.choice, v.voter) for v in some])
    return admitted


def read_rejections(url: str, timeout_s: float) -> pd.DataFrame:
    """All votes that were too many, with the columns of `history.store.REJECTION_COLUMNS`.

    Raises pymysql.MySQLError.
    """
    with closing(connect(url, timeout_s)) as connection, connection.cursor(SSCursor) as cursor:
        cursor.execute("SELECT vote, poll, choice, voter FROM pollstorm_rejections")
        found = pd.DataFrame(cursor.fetchall(), columns=list(REJECTION_COLUMNS))
        return found.astype(REJECTION_COLUMNS)


def _voter(vote: Vote) -> tuple[str, str]:
    return vote.poll, vote.voter


def _claimed(cursor: Cursor, votes: Sequence[Vote]) -> set[tuple[str, str, int]]:
    """Poll, voter, and the vote that is counted, of all the voters of these votes."""
    voters = defaultdict(set)
    for vote in votes:
        voters[vote.poll].add(vote.voter)
    found = set()
    for poll, names in voters.items():
        cursor.execute(CLAIMED, (poll, sorted(names)))
        found |= {(poll, voter, vote) for voter, vote in cursor.fetchall()}
    return found
