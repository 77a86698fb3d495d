"""Offered, sent and acknowledged votes per second, over the load's planned duration.

Only what happened in that time counts. A site that is saturated goes on to answer after the last
voter has come; those answers, divided by a time that they are not of, would make it look faster.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from harness.history.ledger import RequestKind
from harness.history.store import quoted, reading, require_columns
from harness.result import Accounts, Rates
from harness.run_folder import TrialFacts, TrialFolder
from harness.vote import Outcome

NS_PER_S: Final = 1_000_000_000


class _InWindow(NamedTuple):
    """Votes of one trial by what happened in the load's planned duration."""

    sent: int
    acknowledged: int


def rates(trials: Iterable[TrialFolder], accounts: Accounts) -> Rates:
    """Rates of one trial, or of several: the mean over all, and the best second of any.

    `accounts` are those of all the trials together. A vote is sent with its first attempt. Raises
    HistoryError.
    """
    facts_of = {trial: trial.read_facts() for trial in trials}
    duration_s = sum(facts.duration_s for facts in facts_of.values())
    found = [_in_window(trial, facts) for trial, facts in facts_of.items()]
    return Rates(
        offered=accounts.planned / duration_s,
        sent=sum(votes.sent for votes in found) / duration_s,
        acknowledged=sum(votes.acknowledged for votes in found) / duration_s,
        acknowledged_peak=max(_peak(trial, facts) for trial, facts in facts_of.items()),
    )


def busiest_second(trial: TrialFolder, start_ns: int, time: str, condition: str) -> int:
    """The most rows that meet the condition with `time` in one whole second after the start."""
    with reading(trial.ledger) as connection:
        require_columns(connection, trial.ledger, {"kind", "outcome", "planned_ns", "answered_ns"})
        row = connection.execute(
            f"""SELECT coalesce(max(rows), 0) FROM (
                SELECT count(*) AS rows FROM {quoted(trial.ledger)} WHERE {condition}
                GROUP BY ({time} - {start_ns}) // {NS_PER_S})"""
        ).fetchone()
    return int(row[0]) if row else 0


def _in_window(trial: TrialFolder, facts: TrialFacts) -> _InWindow:
    """A vote that was acknowledged twice counts twice, here and in `_peak`: one in very many."""
    start_ns = facts.load_start_ns
    end_ns = start_ns + round(facts.duration_s * NS_PER_S)
    with reading(trial.ledger) as connection:
        columns = {"kind", "outcome", "attempt", "sent_ns", "answered_ns"}
        require_columns(connection, trial.ledger, columns)
        row = connection.execute(
            f"""SELECT
                count_if(attempt = 1 AND sent_ns >= {start_ns} AND sent_ns < {end_ns}),
                count_if(outcome = {int(Outcome.ACKNOWLEDGED)}
                    AND answered_ns >= {start_ns} AND answered_ns < {end_ns})
                FROM {quoted(trial.ledger)} WHERE kind = {int(RequestKind.VOTE)}"""
        ).fetchone()
    sent, acknowledged = row or (0, 0)
    return _InWindow(sent or 0, acknowledged or 0)


def _peak(trial: TrialFolder, facts: TrialFacts) -> float:
    """The best whole second, also after the last voter has come."""
    acknowledged = (
        f"kind = {int(RequestKind.VOTE)} AND outcome = {int(Outcome.ACKNOWLEDGED)} "
        "AND answered_ns > 0"
    )
    return float(busiest_second(trial, facts.load_start_ns, "answered_ns", acknowledged))
