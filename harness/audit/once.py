"""The rule of a once-only poll, found from the files alone: who was counted, and who twice.

The database keeps the rule by a unique key on the voter's name, and the site by a guard in
memcached. Neither is believed here. Whose a vote is follows from its id, as far as the trial
planned it, and from the name that the row bears otherwise: a name that was cut or mixed up on its
way would deceive the key. A vote that the count turned away is excused by the ballot of another
vote of its voter, never by its entry among the rejections alone.
"""

from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import duckdb

from harness.history.ledger import RequestKind
from harness.history.store import columns, quoted, require_columns
from harness.run_folder import TrialFacts
from harness.vote import RECAST_BITS, SEQUENCE_BITS

Connection: TypeAlias = duckdb.DuckDBPyConnection

NEEDS: Final = {"vote", "poll", "voter"}

_SEQUENCE: Final = (1 << RECAST_BITS) - 1
_FIRST_CAST: Final = (1 << 64) - (1 << SEQUENCE_BITS) | _SEQUENCE


class Electorate(NamedTuple):
    """Numbers of voters."""

    voters: int  # who sent a vote
    voters_counted: int  # who have a ballot
    overvotes: int  # who have more than one


def turned_away(connection: Connection, ballots: Path, rejections: Path, facts: TrialFacts) -> str:
    """An SQL expression over `vote`: whether the count turned it away, and its voter has a ballot.

    That is another vote's, unless this one has been counted itself. Raises HistoryError.
    """
    require_columns(connection, ballots, NEEDS)
    require_columns(connection, rejections, NEEDS)
    voter = owner(facts)
    connection.execute(
        f"""CREATE TEMP TABLE turned_away AS
        SELECT DISTINCT rejected.vote
        FROM (SELECT vote, poll, {voter} AS owner FROM {quoted(rejections)}) AS rejected
        JOIN (SELECT vote, poll, {voter} AS owner FROM {quoted(ballots)}) AS counted
        USING (poll, owner)"""
    )
    return "vote IN (FROM turned_away)"


def electorate(
    connection: Connection, ledger: Path, ballots: Path, facts: TrialFacts
) -> Electorate:
    """Count the voters. One whose votes bear two names, or whose name two bear, is found as well.

    Several rows of one vote are one ballot; somebody else's may bear no name. Raises HistoryError.
    """
    require_columns(connection, ballots, NEEDS)
    counted, twice = _by_ballots(connection, ballots, owner(facts))
    _, named_twice = _by_ballots(connection, ballots, "voter", "WHERE voter <> ''")
    return Electorate(_senders(connection, ledger, facts), counted, max(twice, named_twice))


def counted_with(connection: Connection, ballots: Path, vote: int, facts: TrialFacts) -> int | None:
    """The vote with which the voter of a planned vote was counted; None if she was not."""
    its = f"SELECT {owner(facts, 'NULL')} FROM (SELECT {vote}::UBIGINT AS vote)"
    row = connection.execute(
        f"SELECT min(vote) FROM {quoted(ballots)} WHERE {owner(facts)} = ({its})"
    ).fetchone()
    return row[0] if row else None


def owner(facts: TrialFacts, named: str = "voter") -> str:
    """An SQL expression over `vote` and the name that its row bears: whose vote it is.

    Those of planned ids are named as `vote.voter_of` has it.
    """
    if not facts.planned:
        return named
    sequence = f"(vote::UBIGINT & {_SEQUENCE})"
    generator = f"(vote::UBIGINT >> {SEQUENCE_BITS})"
    number = f"(vote::UBIGINT & {_FIRST_CAST}::UBIGINT)"
    if facts.votes_each > 1:
        generators = len(facts.planned)
        number = f"(({sequence} * {generators} + {generator} - 1) // {facts.votes_each})"
    planned = " ".join(f"WHEN {g} THEN {sequence} < {n}" for g, n in facts.planned.items())
    name = f"'v' || lpad(lower(to_hex({number})), 16, '0')"
    return f"CASE WHEN CASE {generator} {planned} ELSE false END THEN {name} ELSE {named} END"


def _by_ballots(
    connection: Connection, ballots: Path, voter: str, which: str = ""
) -> tuple[int, int]:
    """How many voters have a ballot, and how many have several."""
    row = connection.execute(
        f"""SELECT count(*), count_if(first <> last) FROM (
            SELECT min(vote) AS first, max(vote) AS last FROM {quoted(ballots)} {which}
            GROUP BY poll, {voter})"""
    ).fetchone()
    counted, several = row or (0, 0)
    return int(counted), int(several or 0)


def _senders(connection: Connection, ledger: Path, facts: TrialFacts) -> int:
    """By the ledger; 0 if neither its ids nor a column `voter` say whose the votes are."""
    known = columns(connection, ledger)
    votes = f"WHERE kind = {int(RequestKind.VOTE)}" if "kind" in known else ""
    voter = owner(facts, "voter" if "voter" in known else "NULL")
    row = connection.execute(
        f"SELECT count(DISTINCT {voter}) FROM {quoted(ledger)} {votes}"
    ).fetchone()
    return int(row[0]) if row else 0
