"""Random schedules: the same from the same seed, and small when they lose."""

import json
from random import Random

from click.testing import CliRunner

from harness.cli import pollstorm
from harness.errors import Exit
from harness.exploration.bounds import DRAWN, Bounds
from harness.exploration.chance import Chance, Drawn
from harness.exploration.space import Space
from harness.protocol import classic, ticket

MANY = Bounds(writers=6, readers=3, takeovers=2)


def drawn(seed: int, runs: int = 50) -> Drawn:
    return Chance(Space(classic.protocol, MANY, DRAWN)).run(runs, seed)


def test_the_same_seed_draws_the_same_schedule_and_another_seed_another():
    assert drawn(7).finding.path == drawn(7).finding.path
    assert len({drawn(seed).finding.path for seed in range(8)}) > 1


def test_the_seed_of_the_schedule_that_lost_finds_it_at_once():
    found = drawn(3)
    assert found.finding.verdict == "loses"
    alone = drawn(found.seed, runs=1)
    assert alone.finding.path == found.finding.path


def test_a_schedule_is_made_so_small_that_no_step_can_be_left_out():
    chance = Chance(Space(classic.protocol, MANY, DRAWN))
    played = next(filter(None, (chance._play(Random(seed)) for seed in range(50))))
    smallest = chance._shrunk(played)
    assert len(smallest.choices) < len(played.choices)
    assert smallest.judgement.is_bad
    for left_out in range(len(smallest.choices)):
        without = [c for at, c in enumerate(smallest.choices) if at != left_out]
        assert chance._smaller(smallest, without) is smallest


def test_ticket_loses_in_none_of_many_random_schedules_with_all_troubles_at_once():
    troubles = dict.fromkeys(("wipe", "evict_pointer", "expire_tombstones", "lost_reply"), True)
    bounds = Bounds(writers=3, readers=2, drains=2, cold=True, crash="reader", **troubles)
    found = Chance(Space(ticket.protocol, bounds, DRAWN)).run(200, seed=1)
    assert (found.finding.verdict, found.runs) == ("unfinished", 200)


def test_a_loss_by_chance_prints_the_command_that_repeats_it():
    flags = "explore classic --writers 6 --readers 3 --drains 1 --takeovers 1 --random 50 --seed 3"
    result = CliRunner().invoke(pollstorm, flags.split(), standalone_mode=False)
    assert result.return_value == Exit.BROKEN_PROMISE
    again = " ".join(result.stdout.split()).partition("again: pollstorm ")[2].split()
    assert "--random 1 --seed" in " ".join(again)
    repeated = CliRunner().invoke(pollstorm, [*again, "--json"], standalone_mode=False)
    first = CliRunner().invoke(pollstorm, [*flags.split(), "--json"], standalone_mode=False)
    assert json.loads(repeated.stdout)["schedule"] == json.loads(first.stdout)["schedule"]


def test_no_loss_by_chance_proves_nothing_and_says_so_by_exit_code_3():
    flags = "explore classic --takeovers 0 --random 20 --seed 1"
    result = CliRunner().invoke(pollstorm, flags.split(), standalone_mode=False)
    assert result.return_value == Exit.INCONCLUSIVE
    assert "no loss in 20 random schedules, seed 1" in " ".join(result.stdout.split())
