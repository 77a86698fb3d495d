"""What a killed run left: its records lie in `raw/`, whole up to the last moment, in no Parquet.

Ballots were only in the database, and that is gone. So rates, latencies and the lock's story can
be had of such a trial, and no account of its votes.
"""

from harness.history.store import collect_journal, collect_ledger
from harness.run_folder import TrialFolder


def recover(trial: TrialFolder) -> None:
    """Collect ledger and journal of a trial that was killed; leave any other as it is.

    Ballots are collected last and the raw records removed only then. Until that `raw/` stays the
    truth and is left in place, so that this can be done again, even beside a run that goes on.
    Raises RecordingError when there is no room.
    """
    if trial.raw.is_dir() and not trial.ballots.exists():
        collect_ledger(trial.raw, trial.ledger)
        collect_journal(trial.raw, trial.journal)
