"""Random campaigns: what is drawn, that a seed repeats it, and that a broken mode is found out."""

import json
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from harness.campaign import SETTLED_S, forgets, random_faults
from harness.cli.simulate import simulate
from harness.errors import Exit
from harness.fault import check_fault, overlap
from harness.plan import check, find_scenario, read_plan
from harness.protocol import ticket
from harness.protocol.commands import Machine as Running
from harness.protocol.queue import Queue, Terms
from harness.simulation import campaign
from harness.simulation.campaign import Game, draw, play_one
from harness.simulation.service_times import shipped
from harness.simulation.trial import Machine

MACHINE = Machine(shipped(), 1)
MODES = ("direct", "cached", "classic", "owned", "ticket", "mirrored")


@pytest.mark.parametrize("mode", MODES)
def test_drawn_faults_are_what_a_plan_may_have(mode: str) -> None:
    kinds = set()
    for seed in range(200):
        faults = random_faults(Random(seed), mode, 4.0)
        assert faults
        for fault in faults:
            check_fault(fault, mode)
            assert fault.at_s < 4.0
        assert not any(overlap(*pair) for pair in combinations(faults, 2))
        kinds |= {fault.kind for fault in faults}
    assert len(kinds) >= 10


def test_of_two_daemons_no_two_forget_before_the_queue_was_drained_in_between() -> None:
    twice = 0
    for seed in range(500):
        faults = random_faults(Random(seed), "mirrored", 8.0)
        forgetting = [fault for fault in faults if forgets(fault)]
        assert len(forgetting) <= 2
        if len(forgetting) == 2:
            one, other = forgetting
            assert other.at_s - one.at_s - one.for_s >= SETTLED_S
            assert len(faults) == 2
            twice += 1
    assert twice


def test_the_same_seed_draws_the_same_plans_and_another_one_others() -> None:
    plan = read_plan(find_scenario("controversial-poll"))
    one, again, other = (list(draw(plan, MODES, 3, seed)) for seed in (1, 1, 100))
    assert one == again
    assert not {each.plan.faults for each in one} & {each.plan.faults for each in other}
    for each in one:
        check(each.plan, each.mode)


def test_a_trial_that_is_repeated_ends_as_it_did() -> None:
    plan = read_plan(find_scenario("controversial-poll"))
    (drawn,) = draw(plan, ("classic",), 1, 3)
    assert play_one(drawn, MACHINE) == play_one(drawn, MACHINE)


def run_verb(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(simulate, list(arguments), standalone_mode=False)
    if outcome.exception:
        raise outcome.exception
    return outcome.return_value, outcome.stdout


def test_a_mode_that_keeps_its_promise_passes(tmp_path: Path) -> None:
    code, printed = run_verb(
        "controversial-poll", "--modes", "ticket", "--campaign", "3", "--seed", "2",
        "--cores", "1", "--json", "--out", str(tmp_path / "kept"),
    )  # fmt: skip
    found = json.loads(printed)
    assert code == Exit.OK
    assert found["modes"]["ticket"]["played"] == 3
    assert found["violations"] == []
    assert not (tmp_path / "kept").exists()


def test_a_broken_mode_is_found_out_and_its_plan_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(queue: Queue, message: bytes, terms: Terms) -> Running[object]:  # noqa: ARG001
        yield from ()
        return ticket.Receipt.QUEUED

    monkeypatch.setattr(ticket, "enqueue", forgetful)
    monkeypatch.setattr(campaign, "sched_getaffinity", lambda _: {0})  # in this process
    code, printed = run_verb(
        "controversial-poll", "--modes", "ticket", "--campaign", "1", "--seed", "2",
        "--cores", "1", "--json", "--out", str(tmp_path),
    )  # fmt: skip
    found = json.loads(printed)
    assert code == Exit.BROKEN_PROMISE
    (violation,) = found["violations"]
    assert violation["seed"] == 2
    again = read_plan(Path(violation["plan"]))
    assert again.seed == 2
    assert again.modes == ("ticket",)
    assert again.faults


def test_a_voter_counted_twice_is_a_violation_also_where_nothing_is_promised() -> None:
    plan = read_plan(find_scenario("ballot-stuffing"))

    def game(**bad: int) -> Game:
        return Game("classic", 1, plan, (), 100, bad, None, 0, drained=True)

    assert game(overvotes=1).is_violation
    assert "1 overvotes under" in game(overvotes=1).describe()
    assert not game(lost=1).is_violation
