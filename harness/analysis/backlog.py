"""How many acknowledged votes wait for their commit, and whether they become more and more.

A queue is emptied now and then, so its backlog is a sawtooth. What tells a queue that keeps up from
one that does not is its low points: if the lowest backlog of the load's last third is higher than
that of the middle third, by more than a small part of the votes that came meanwhile, the drain is
slower than the voters. The first third is left out: everything is being warmed up then.
"""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.history.ledger import RequestKind
from harness.history.store import quoted, reading, require_columns
from harness.protocol.commands import COMMAND_CODES, InsertBallots, Status
from harness.run_folder import TrialFacts, TrialFolder
from harness.vote import Outcome

Floats: TypeAlias = npt.NDArray[np.float64]

SAMPLES: Final = 600  # over the load: 10 ms apart in one of 6 s, far less than between two drains
GROWING: Final = 0.05  # of the votes that came: less is a few drains' jitter
NS_PER_S: Final = 1_000_000_000


class Backlog(NamedTuple):
    """Over the planned load; votes."""

    at_s: Floats
    waiting: Floats
    deepest: int
    growth_per_s: float  # of the low points, between the middle and the last third
    grows: bool


def backlog(trial: TrialFolder, facts: TrialFacts) -> Backlog:
    """The backlog of a trial; none where each vote is committed before it is acknowledged.

    Lost votes wait for ever. Raises HistoryError.
    """
    with reading(trial.ledger, trial.journal) as connection:
        require_columns(connection, trial.ledger, {"kind", "outcome", "answered_ns"})
        require_columns(connection, trial.journal, {"command", "status", "end_ns", "number"})
        answered = connection.execute(
            f"""SELECT answered_ns FROM {quoted(trial.ledger)}
            WHERE kind = {int(RequestKind.VOTE)} AND answered_ns > 0
                AND outcome = {int(Outcome.ACKNOWLEDGED)} ORDER BY answered_ns"""
        ).fetchnumpy()
        committed = connection.execute(
            f"""SELECT end_ns, number::BIGINT AS number FROM {quoted(trial.journal)}
            WHERE command = {COMMAND_CODES[InsertBallots]} AND status = {int(Status.OK)}
                AND end_ns > 0 ORDER BY end_ns"""
        ).fetchnumpy()
    return from_times(
        (np.asarray(answered["answered_ns"], np.float64) - facts.load_start_ns) / NS_PER_S,
        (np.asarray(committed["end_ns"], np.float64) - facts.load_start_ns) / NS_PER_S,
        np.asarray(committed["number"], np.float64),
        facts.duration_s,
    )


def from_times(
    acknowledged_s: Floats, committed_s: Floats, votes: Floats, duration_s: float
) -> Backlog:
    """The same from sorted times: of each acknowledgement, and of each commit with its votes."""
    at_s = np.linspace(0.0, duration_s, SAMPLES)
    came = np.searchsorted(acknowledged_s, at_s, side="right")
    counted = np.concatenate([[0.0], np.cumsum(votes)])
    left = counted[np.searchsorted(committed_s, at_s, side="right")]
    waiting = np.maximum(came - left, 0.0)
    third = SAMPLES // 3
    low_before, low_after = waiting[third : 2 * third].min(), waiting[2 * third :].min()
    growth_per_s = float(low_after - low_before) / (duration_s / 3)
    came_per_s = float(came[-1] - came[third]) / (duration_s * 2 / 3)
    return Backlog(
        at_s=at_s,
        waiting=waiting,
        deepest=int(waiting.max()),
        growth_per_s=growth_per_s,
        grows=growth_per_s > GROWING * came_per_s,
    )
