"""A once-only poll's accounts against what the database itself says, before and after tampering."""

from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from harness.audit.accounts import settle
from harness.database.ballots import read_ballots
from harness.database.connections import connect
from harness.database.voters import read_rejections
from harness.deployment import Deployment
from harness.history.store import write_parquet
from harness.modes.mode import Answer
from harness.result import Accounts
from harness.services.memcached import MemcachedServer
from harness.vote import Outcome, Vote, mint, voter_of
from tests.deployed import POLL, session
from tests.histories import attempt, make_trial
from tests.stuffers import deployed
from tests.test_once_for_real import drain

pytestmark = pytest.mark.services

VOTERS, EACH = 12, 3
TOLD = {
    Answer.STORED: Outcome.ACKNOWLEDGED,
    Answer.QUEUED: Outcome.ACKNOWLEDGED,
    Answer.ALREADY_VOTED: Outcome.REFUSED,
}


def cast(deployment: Deployment, number: int) -> dict[int, Outcome]:
    """Every voter casts her vote of that number: vote → what she was told."""
    told = {}
    with session(deployment, deployment.mode) as site:
        for voter in range(VOTERS):
            vote = mint(1, voter * EACH + number)
            name = voter_of(vote, EACH)
            told[vote] = TOLD[site.accept(Vote(vote, POLL.name, 1, name, once=True))]
    return told


def asked(deployment: Deployment, sql: str) -> int:
    with closing(connect(deployment.database, 5.0)) as database, database.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        database.commit()
    return int(row[0]) if row else 0


def require_agreement(folder: Path, deployment: Deployment, told: dict[int, Outcome]) -> Accounts:
    """Settle what is in the database now; SQL and pandas have to count the same."""
    trial = make_trial(
        folder,
        [attempt(vote & 0xFFFF, outcome) for vote, outcome in told.items()],
        rejections=[],
        votes_each=EACH,
        planned={1: VOTERS * EACH},
    )
    ballots = read_ballots(deployment.database, 5.0)
    rejections = read_rejections(deployment.database, 5.0)
    write_parquet(ballots, trial.ballots)
    write_parquet(rejections, trial.rejections)
    accounts = settle(trial, trial.read_facts())

    of_voter = "FROM pollstorm_ballots GROUP BY voter"
    assert accounts.counted == asked(deployment, "SELECT COUNT(*) FROM pollstorm_ballots")
    assert accounts.voters_counted == asked(
        deployment, "SELECT COUNT(DISTINCT voter) FROM pollstorm_ballots"
    )
    assert accounts.overvotes == asked(
        deployment, f"SELECT COUNT(*) FROM (SELECT voter {of_voter} HAVING COUNT(*) > 1) AS twice"
    )
    acknowledged = [vote for vote, outcome in told.items() if outcome is Outcome.ACKNOWLEDGED]
    missing = pd.DataFrame({"vote": acknowledged})
    missing = missing[~missing["vote"].isin(ballots["vote"])]
    found = missing.merge(rejections, on="vote")
    excused = found["voter"].isin(ballots["voter"])
    assert accounts.rejected == excused.sum()
    assert accounts.lost == len(missing) - excused.sum()
    assert accounts.acknowledged == len(acknowledged)
    assert accounts.refused == len(told) - len(acknowledged)
    assert accounts.voters == VOTERS
    return accounts


@pytest.mark.parametrize("mode", ["direct", "classic", "ticket"])
def test_the_accounts_are_what_the_database_says(
    two_daemons: Deployment, memcached: MemcachedServer, tmp_path: Path, mode: str
):
    here = deployed(two_daemons, mode)
    told = cast(here, 0)
    drain(here)
    memcached.wipe()  # nobody at the door remembers who has voted
    told |= cast(here, 1)
    told |= cast(here, 2)
    drain(here)
    whole = require_agreement(tmp_path / "whole", here, told)
    rejected = 0 if mode == "direct" else VOTERS
    assert (whole.counted, whole.rejected, whole.overvotes) == (VOTERS, rejected, 0)
    assert whole.refused == 2 * VOTERS - rejected

    # Behind the back of the key: the first voter is counted twice, and the second one not at all.
    again = f"{mint(1, 1)}, poll, choice, voter, deliveries"
    asked(
        here,
        f"INSERT INTO pollstorm_ballots SELECT {again} FROM pollstorm_ballots "
        f"WHERE vote = {mint(1, 0)}",
    )
    told[mint(1, 1)] = Outcome.ACKNOWLEDGED
    asked(here, f"DELETE FROM pollstorm_ballots WHERE vote = {mint(1, EACH)}")
    tampered = require_agreement(tmp_path / "tampered", here, told)
    assert (tampered.overvotes, tampered.voters_counted) == (1, VOTERS - 1)
    assert tampered.lost == 1 + (mode != "direct")  # with it goes what excused the rejected one
