"""The audit's certificates against the coroner's: the same dead, and no false accusation.

The audit has only the records that a real run leaves; the coroner saw all as it happened.
"""

from pathlib import Path

import pandas as pd
import pytest

from harness.audit.certificates import certify
from harness.history.store import write_parquet
from harness.load.arrivals import planned_votes
from harness.plan import Plan, find_scenario, read_plan
from harness.run_folder import TrialFacts, TrialFolder
from harness.simulation.campaign import draw
from harness.simulation.world import World
from tests.test_simulated_faults import FAULTS, doubled, lost, played
from tests.test_simulation import plan

DISASTERS = [  # with how many losses at least, that it shows something
    ("classic", "pause-holder", 1),
    ("classic", "kill-holder", 1),
    ("classic", "kill-before-read", 30),
    ("classic", "kill-between-insert-and-commit", 200),
    ("classic", "kill-mariadb", 500),
    ("classic", "kill-memcached", 200),
    ("classic", "drop-reply-memcached", 20),
    ("owned", "wipe", 200),
    ("owned", "kill-between-reset-and-insert", 200),
    ("owned", "kill-holder", 0),
    ("owned", "deadlock", 500),
    ("ticket", "wipe", 200),
    ("ticket", "squeeze", 500),
]


def certified(world: World, of: Plan, folder: Path, mode: str) -> pd.DataFrame:
    """The certificates of what the world has recorded."""
    trial = TrialFolder(folder / mode).create()
    trial.write_facts(
        TrialFacts(
            mode=mode,
            promises=False,
            planned=planned_votes(of),
            load_start_ns=world.start_ns,
            duration_s=of.duration_s,
            drained=world.drained,
            partial=False,
        )
    )
    world.records.write(trial)
    write_parquet(world.ballots.ballots(), trial.ballots)
    return certify(trial, trial.read_facts())


@pytest.mark.parametrize(("mode", "fault", "least"), DISASTERS)
def test_certificates_name_the_same_dead_of_the_same_cause_as_the_coroner(
    tmp_path: Path, mode: str, fault: str, least: int
) -> None:
    of = plan(FAULTS[fault], per_s=500.0)
    world, coroner = played(mode, of)
    frame = certified(world, of, tmp_path, mode)
    dead = frame[frame["fate"] == "lost"].set_index("vote")
    truth = pd.Series(coroner.causes(), dtype=object)
    assert set(dead.index) == lost(world)
    assert len(dead) >= least
    accused = dead[dead["cause"] != truth.reindex(dead.index)]
    assert not accused["certain"].any()
    assert len(accused) <= len(dead) // 20  # of those that the audit says are only probable
    twice = frame[frame["fate"] != "lost"].set_index("vote")["cause"].to_dict()
    assert twice == {vote: coroner.doubles()[vote] for vote in doubled(world)}


@pytest.mark.parametrize("mode", ["classic", "owned", "ticket"])
def test_nor_is_anybody_accused_wrongly_under_faults_that_nobody_thought_of(
    tmp_path: Path, mode: str
) -> None:
    scenario = read_plan(find_scenario("controversial-poll"))
    deaths = 0
    for drawn in draw(scenario, (mode,), 8, 5000):
        world, coroner = played(mode, drawn.plan)
        gone = lost(world)
        if not gone:
            continue
        folder = tmp_path / str(drawn.seed)
        dead = certified(world, drawn.plan, folder, mode).query("fate == 'lost'").set_index("vote")
        truth = pd.Series(coroner.causes(), dtype=object).reindex(dead.index)
        accused = dead[dead["cause"] != truth]
        assert set(dead.index) == gone, drawn.plan.faults
        assert not accused["certain"].any(), drawn.plan.faults
        deaths += len(dead)
    assert deaths or mode == "ticket"
