"""Offered, sent and acknowledged votes per second, over the load's planned duration."""

from collections.abc import Iterable
from typing import Final

from harness.history.ledger import RequestKind
from harness.history.store import quoted, reading, require_columns
from harness.result import Accounts, Rates
from harness.run_folder import TrialFacts, TrialFolder
from harness.vote import Outcome

NS_PER_S: Final = 1_000_000_000


def rates(trials: Iterable[TrialFolder], accounts: Accounts) -> Rates:
    """Rates of one trial, or of several: the mean over all, and the best second of any.

    `accounts` are those of all the trials together. Raises HistoryError.
    """
    facts_of = {trial: trial.read_facts() for trial in trials}
    duration_s = sum(facts.duration_s for facts in facts_of.values())
    return Rates(
        offered=accounts.planned / duration_s,
        sent=accounts.sent / duration_s,
        acknowledged=accounts.acknowledged / duration_s,
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


def _peak(trial: TrialFolder, facts: TrialFacts) -> float:
    """A vote that was acknowledged twice counts in both seconds; that is one in very many."""
    acknowledged = (
        f"kind = {int(RequestKind.VOTE)} AND outcome = {int(Outcome.ACKNOWLEDGED)} "
        "AND answered_ns > 0"
    )
    return float(busiest_second(trial, facts.load_start_ns, "answered_ns", acknowledged))
