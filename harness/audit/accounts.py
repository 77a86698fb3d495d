"""Settle the accounts: each vote sent is in exactly one of them, and none is a remainder.

A vote is what its voter was told best: acknowledged if any attempt was, else unknown if any was,
else refused. It has a ballot or not. Each account is a condition of its own on these, so that
their sum can differ from the votes sent; if it does, nothing is proven and HistoryError says so.

Ledger and ballots may come from elsewhere. Needed are `vote`, `outcome`, `choice` and `vote`,
`choice`; a missing `kind` means that all rows are votes, missing `deliveries` mean 1 each. Rows
of ballots with the same vote id are one ballot with all their deliveries: the database that they
came from counted the vote that often.

In a once-only poll a vote may have no ballot because another one of its voter has (`rejected`): see
`once`. One whose outcome its voter never learned is `absent` all the same, since nobody promised
to count it.

Voters may have cast again what they had given up on, under an id made from the first
(`vote.recast`): that is a vote of its own, `recast`, and planned if the first was.

What a lost ledger would have said is unknown: planned ids of a generator in
`facts.missing_generators` without a ledger row are sent, outcome unknown. So is any planned id
that has a ballot but no ledger row, since it evidently was sent. Both are `unrecorded`.
"""

from pathlib import Path
from typing import Final, TypeAlias

import duckdb

from harness.audit.once import Electorate, electorate, turned_away
from harness.errors import HistoryError
from harness.history.ledger import RequestKind
from harness.history.store import columns, quoted, reading, require_columns
from harness.result import Accounts
from harness.run_folder import TrialFacts, TrialFolder
from harness.vote import RECAST_BITS, SEQUENCE_BITS, Outcome

PARTS: Final = (
    "counted",
    "lost",
    "altered",
    "resurrected",
    "recovered",
    "absent",
    "refused",
    "pending",
    "rejected",
)
"""The accounts that partition `sent`."""

LEDGER_NEEDS: Final = {"vote", "outcome", "choice"}
BALLOTS_NEED: Final = {"vote", "choice"}
ACKNOWLEDGED: Final = int(Outcome.ACKNOWLEDGED)
UNKNOWN: Final = int(Outcome.UNKNOWN)
REFUSED: Final = int(Outcome.REFUSED)
LARGEST_CHOICE: Final = 126  # choices are bits of a number of 127 bits; a poll has at most 100
LARGEST_CHOICE_OF_64_BITS: Final = 63

_SEQUENCE: Final = f"(vote::UBIGINT & {(1 << RECAST_BITS) - 1})"
_RECASTS: Final = f"((vote::UBIGINT >> {RECAST_BITS}) & {(1 << SEQUENCE_BITS - RECAST_BITS) - 1})"
_RECAST_MASK: Final = (1 << SEQUENCE_BITS) - (1 << RECAST_BITS)

NOBODY: Final = "false"  # is excused
_MISSING: Final = "acknowledged AND NOT has_ballot AND NOT excused"
_ALTERED: Final = "acknowledged AND has_ballot AND NOT as_cast"

Connection: TypeAlias = duckdb.DuckDBPyConnection
Counts: TypeAlias = dict[str, int]


def settle(trial: TrialFolder, facts: TrialFacts) -> Accounts:
    """The accounts of a trial. Raises HistoryError when its files prove nothing."""
    rejections = trial.rejections if facts.once else None
    return settle_files(trial.ledger, trial.ballots, facts, rejections)


def settle_files(
    ledger: Path, ballots: Path, facts: TrialFacts, rejections: Path | None = None
) -> Accounts:
    """The accounts of a ledger and ballots, wherever they lie.

    `rejections` are those of a once-only poll, for which ballots have to name poll and voter.
    10 million votes take about 3 s and 1.5 GiB on two cores. Raises HistoryError.
    """
    # Ordered, the aggregates would keep the files' order for nobody, at a quarter of the speed.
    with reading(ledger, ballots, ordered=False) as connection:
        require_columns(connection, ledger, LEDGER_NEEDS)
        require_columns(connection, ballots, BALLOTS_NEED)
        excused = turned_away(connection, ballots, rejections, facts) if rejections else NOBODY
        votes = _votes(connection, ledger, ballots, excused, grouped=False)
        counts = _count(connection, votes, facts)
        if _repeats(connection, ledger, counts):
            votes = _votes(connection, ledger, ballots, excused, grouped=True)
            counts = _count(connection, votes, facts)
        if facts.recasts:
            counts["counted_again"] = _count_again(connection, votes)
        if facts.once:
            counts |= electorate(connection, ledger, ballots, facts)._asdict()
    _require_sums(counts, ledger)
    return _accounts(counts, facts)


def condemned(trial: TrialFolder, facts: TrialFacts) -> list[tuple[int, str]]:
    """The ids of all lost, altered and doubled votes, each with its fate. Raises HistoryError.

    The conditions are those of the accounts `lost`, `altered` and `duplicated`; a vote that is
    altered and doubled is there twice.
    """
    conditions = {
        "lost": _MISSING if facts.drained else "false",
        "altered": _ALTERED,
        "doubled": "recorded AND extra > 0",
    }
    with reading(trial.ledger, trial.ballots) as connection:
        excused = NOBODY
        if facts.once:
            excused = turned_away(connection, trial.ballots, trial.rejections, facts)
        votes = _votes(connection, trial.ledger, trial.ballots, excused, grouped=True)
        parts = [
            f"SELECT vote::UBIGINT AS vote, '{fate}' AS fate FROM votes WHERE {condition}"
            for fate, condition in conditions.items()
        ]
        sql = (
            f"WITH votes AS MATERIALIZED ({votes}) {' UNION ALL '.join(parts)} ORDER BY fate, vote"
        )
        return connection.execute(sql).fetchall()


def nothing_known(facts: TrialFacts) -> Accounts:
    """Accounts of a trial whose histories cannot be read: all zero but what was planned."""
    planned = sum((facts.planned or {}).values())
    zeros = dict.fromkeys(Accounts.__struct_fields__, 0)
    return Accounts(**zeros | {"planned": planned})


def _mask_type(connection: Connection, ledger: Path, ballots: Path) -> str:
    """The SQL type in which each choice can be one bit. Raises HistoryError."""
    largest = 0
    for parquet in (ledger, ballots):
        found = _counts(
            connection,
            f"""SELECT coalesce(min(choice), 0) AS low, coalesce(max(choice), 0) AS high,
                    count_if(vote IS NULL) AS nameless
                FROM {quoted(parquet)}""",
        )
        low, high = found["low"], found["high"]
        if found["nameless"]:
            raise HistoryError(f"{parquet}: {found['nameless']} rows have no vote id")
        if not 0 <= low <= high <= LARGEST_CHOICE:
            raise HistoryError(f"{parquet}: choices {low} to {high}; 0 to {LARGEST_CHOICE} can be")
        largest = max(largest, high)
    return "UBIGINT" if largest <= LARGEST_CHOICE_OF_64_BITS else "HUGEINT"


def _only_votes(connection: Connection, ledger: Path) -> str:
    """The condition for ledger rows that are votes."""
    has_kind = "kind" in columns(connection, ledger)
    return f"WHERE kind = {int(RequestKind.VOTE)}" if has_kind else ""


def _repeats(connection: Connection, ledger: Path, counts: Counts) -> bool:
    """Whether ballots that were not grouped have a vote id twice.

    Such a vote came out of the join twice, and with it its attempts, or else its unrecorded id.
    """
    only_votes = _only_votes(connection, ledger)
    rows = _counts(connection, f"SELECT count(*) AS rows FROM {quoted(ledger)} {only_votes}")
    unrecorded = counts["phantom"] + counts["orphans"]
    return counts["attempts"] != rows["rows"] or counts["unrecorded_ids"] != unrecorded


def _votes(
    connection: Connection, ledger: Path, ballots: Path, excused: str, *, grouped: bool
) -> str:
    """A query with a row for each vote id in ledger or ballots.

    Ballots are `grouped` by id only if need be: nearly always each id has one row, and to group
    them takes a quarter of the time. `told` has bit n set if an attempt's outcome was n;
    `may_have_arrived` is a number of attempts. `as_cast`: every ballot row has a choice that an
    acknowledged attempt cast. `excused` is the condition on `vote` for one that has no ballot since
    another vote of its voter has.
    """
    only_votes = _only_votes(connection, ledger)
    has_deliveries = "deliveries" in columns(connection, ballots)
    deliveries = "coalesce(deliveries, 1)" if has_deliveries else "1"
    mask = _mask_type(connection, ledger, ballots)
    choice = f"1::{mask} << choice::{mask}"
    held = f"SELECT vote, {deliveries}::BIGINT AS deliveries, {choice} AS held_choices"
    group = ""
    if grouped:
        held = f"""SELECT vote, sum({deliveries})::BIGINT AS deliveries,
                bit_or({choice}) AS held_choices"""
        group = "GROUP BY vote"
    # CASE and bits where FILTER and bool_or would read better: they take two thirds of the time.
    return f"""
        WITH attempted AS (
            SELECT vote,
                bit_or(1::UTINYINT << outcome::UTINYINT) AS told,
                count(*) AS attempts,
                count(nullif(outcome, {REFUSED})) AS may_have_arrived,
                bit_or(CASE WHEN outcome = {ACKNOWLEDGED} THEN {choice} END) AS cast_choices
            FROM {quoted(ledger)} {only_votes} GROUP BY vote
        ), held AS (
            {held} FROM {quoted(ballots)} {group}
        )
        SELECT coalesce(attempted.vote, held.vote) AS vote,
            attempted.vote IS NOT NULL AS recorded,
            attempts,
            held.vote IS NOT NULL AS has_ballot,
            told & (1 << {ACKNOWLEDGED}) > 0 AS acknowledged,
            told & (1 << {ACKNOWLEDGED}) = 0 AND told & (1 << {UNKNOWN}) > 0 AS unknown,
            told = 1 << {REFUSED} AS refused,
            held_choices & ~cast_choices = 0 AS as_cast,
            {excused} AS excused,
            greatest(0, deliveries - greatest(1, may_have_arrived)) AS extra
        FROM attempted FULL JOIN held USING (vote)"""


def _count(connection: Connection, votes: str, facts: TrialFacts) -> Counts:
    """How many votes are in each account, and what stands beside the accounts.

    `orphans` have a ballot and were planned, yet have no ledger row; `strangers` have a ledger
    row and were never planned; `of_missing` are known ids of generators whose ledger is missing.
    """
    drained = str(facts.drained).lower()
    # Ids that nobody here minted need be no numbers.
    recast = f"count_if(was_planned AND {_RECASTS} > 0)" if facts.recasts else "0"
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE generators "
        "(generator UBIGINT, planned UBIGINT, missing BOOLEAN)"
    )
    if facts.planned is None:
        source, was_planned, missing = votes, "recorded", "false"
    else:
        rows = [(g, n, g in facts.missing_generators) for g, n in facts.planned.items()]
        if rows:
            connection.executemany("INSERT INTO generators VALUES (?, ?, ?)", rows)
        source = (
            f"SELECT * FROM ({votes}) LEFT JOIN generators "
            f"ON vote::UBIGINT >> {SEQUENCE_BITS} = generator"
        )
        was_planned = f"coalesce({_SEQUENCE} < planned AND {_RECASTS} <= {facts.recasts}, false)"
        missing = f"missing AND {_RECASTS} = 0"
    return _counts(
        connection,
        f"""
        SELECT
            count_if(recorded) AS recorded,
            coalesce(sum(attempts), 0) AS attempts,
            count(DISTINCT CASE WHEN NOT recorded THEN vote END) AS unrecorded_ids,
            count_if(acknowledged) AS acknowledged,
            count_if(acknowledged AND has_ballot AND as_cast) AS counted,
            count_if({_MISSING} AND {drained}) AS lost,
            count_if({_ALTERED}) AS altered,
            count_if(refused AND has_ballot) AS resurrected,
            count_if(unknown AND has_ballot) AS recovered,
            count_if(unknown AND NOT has_ballot) AS absent,
            count_if(refused AND NOT has_ballot) AS refused,
            count_if({_MISSING} AND NOT {drained}) AS pending,
            count_if(acknowledged AND NOT has_ballot AND excused) AS rejected,
            count_if(NOT recorded AND NOT was_planned) AS phantom,
            count_if(NOT recorded AND was_planned) AS orphans,
            count_if(recorded AND NOT was_planned) AS strangers,
            count_if(was_planned AND {missing}) AS of_missing,
            count_if(recorded AND extra > 0) AS duplicated,
            coalesce(sum(CASE WHEN recorded THEN extra END), 0) AS extra_deliveries,
            {recast} AS recast
        FROM (SELECT *, {was_planned} AS was_planned FROM ({source}))""",
    )


def _count_again(connection: Connection, votes: str) -> int:
    """Voters of whom several votes have a ballot, one of them cast again."""
    counts = _counts(
        connection,
        f"""
        SELECT count(*) AS voters FROM (
            SELECT 1 FROM ({votes}) WHERE has_ballot
            GROUP BY vote::UBIGINT & ~({_RECAST_MASK}::UBIGINT)
            HAVING count(DISTINCT vote) > 1)""",
    )
    return counts["voters"]


def _require_sums(counts: Counts, ledger: Path) -> None:
    """The checks that an account of its own kind makes possible. Raises HistoryError."""
    parts = sum(counts[name] for name in PARTS)
    if parts != counts["recorded"]:
        raise HistoryError(
            f"{ledger}: the accounts do not sum: {parts} votes in accounts, {counts['recorded']} "
            "sent; an outcome or a choice is missing or none that exists"
        )
    if counts["strangers"]:
        raise HistoryError(
            f"{ledger}: {counts['strangers']} votes were never planned; "
            "the ledger belongs to another run than trial.json"
        )


def _accounts(counts: Counts, facts: TrialFacts) -> Accounts:
    """Add what the ledger should have and has not."""
    planned_of = facts.planned or {}
    of_missing = sum(planned_of.get(generator, 0) for generator in facts.missing_generators)
    silent = of_missing - counts["of_missing"]
    sent = counts["recorded"] + counts["orphans"] + silent
    planned = sent if facts.planned is None else sum(planned_of.values())
    parts = {name: counts[name] for name in PARTS}
    parts["recovered"] += counts["orphans"]
    parts["absent"] += silent
    return Accounts(
        planned=planned,
        unsent=planned + counts["recast"] - sent,
        sent=sent,
        acknowledged=counts["acknowledged"],
        **parts,
        phantom=counts["phantom"],
        duplicated=counts["duplicated"],
        extra_deliveries=counts["extra_deliveries"],
        recast=counts["recast"],
        counted_again=counts.get("counted_again", 0),
        **{name: counts.get(name, 0) for name in Electorate._fields},
        unrecorded=counts["orphans"] + silent,
    )


def _counts(connection: Connection, sql: str) -> Counts:
    """The one row of a query, by column name; `count_if` of no rows at all is NULL."""
    result = connection.execute(sql)
    names = [column[0] for column in result.description or ()]
    row = result.fetchone() or ()
    return {name: int(value or 0) for name, value in zip(names, row, strict=True)}
