"""Every planned trouble in virtual time, and the coroner's word against what the accounts say."""

from collections import Counter

import numpy as np
import pytest

from harness.fault import Fault
from harness.history.journal import JOURNAL_DTYPE, Role
from harness.history.ledger import LEDGER_DTYPE, RequestKind, Trouble
from harness.modes.mode import find_mode
from harness.modes.queues import terms
from harness.plan import DatabasePlan, Plan, Voters
from harness.protocol.commands import Status
from harness.simulation.coroner import Coroner
from harness.simulation.faults import AFTER_COMMIT, BEFORE_COMMIT, FLUSHER_STEPS
from harness.simulation.world import Told, World
from harness.vote import Outcome, times_recast
from tests.test_simulation import TIMES, plan


def played(mode_name: str, of: Plan, seed: int = 1) -> tuple[World, Coroner]:
    mode = find_mode(mode_name)
    coroner = Coroner()
    told = Told(mode_name, mode.protocol(terms(of)), 0)
    world = World(of, told, TIMES, 2, (seed,), coroner)
    world.play()
    return world, coroner


def lost(world: World) -> set[int]:
    """The votes that were acknowledged and have no ballot."""
    ledger = np.frombuffer(bytes(world.records.ledger), LEDGER_DTYPE)
    told = ledger[
        (ledger["kind"] == RequestKind.VOTE) & (ledger["outcome"] == Outcome.ACKNOWLEDGED)
    ]
    return set(told["vote"].tolist()) - set(world.ballots.ballots()["vote"].tolist())


def doubled(world: World) -> set[int]:
    ballots = world.ballots.ballots()
    return set(ballots[ballots["deliveries"] > 1]["vote"].tolist())


SERVERS = ("memcached", "mariadb")
FAULTS = {
    "pause-holder": Fault(kind="pause", at_s=1.0, target="lock-holder", for_s=1.2),
    "kill-holder": Fault(kind="kill", at_s=1.0, target="lock-holder", for_s=0.5),
    "wipe": Fault(kind="wipe", at_s=1.0),
    "kill-site": Fault(kind="kill", at_s=1.0, target="site", for_s=0.5),
    "pause-site": Fault(kind="pause", at_s=1.0, target="site", for_s=1.5),
    "squeeze": Fault(kind="squeeze", at_s=1.0, target="memcached", for_s=1.0),
    **{
        f"{kind}-{target}": Fault(kind=kind, at_s=1.0, target=target, for_s=1.3)
        for kind in ("pause", "kill", "latency", "stall", "drop-request", "drop-reply", "cut")
        for target in SERVERS
    },
    **{f"reset-{target}": Fault(kind="reset", at_s=1.0, target=target) for target in SERVERS},
    **{
        f"{kind}-{step}": Fault(kind=kind, at_s=1.0, target="flusher", step=step, for_s=0.7)
        for kind in ("pause", "kill")
        for step in (*FLUSHER_STEPS, BEFORE_COMMIT, AFTER_COMMIT, "")
    },
    **{
        kind: Fault(kind=kind, at_s=1.0, target="mariadb", for_s=1.3)
        for kind in ("connections", "lock-table", "deadlock", "slow-commit", "full-disk")
    },
}


def causes_of_the_lost(world: World, coroner: Coroner) -> Counter[str]:
    """How many died of what; a lost vote without a cause is a KeyError."""
    causes = coroner.causes()
    return Counter(causes[vote] for vote in lost(world))


@pytest.mark.parametrize(
    ("mode", "fault", "cause"),
    [
        ("classic", "kill-holder", "skipped"),
        ("classic", "wipe", "wiped"),
        ("classic", "squeeze", "evicted"),
        ("classic", "kill-mariadb", "batch-rolled-back"),
        ("classic", "drop-reply-memcached", "skipped"),
        ("classic", "kill-between-read-and-reset", "skipped"),
        ("owned", "kill-between-reset-and-insert", "read-not-committed"),
        ("owned", "kill-between-insert-and-commit", "read-not-committed"),
        ("owned", "deadlock", "batch-rolled-back"),
        ("ticket", "kill-memcached", "wiped"),
        ("ticket", "squeeze", "evicted"),
    ],
)
def test_the_coroner_has_one_cause_for_what_a_fault_kills(
    mode: str, fault: str, cause: str
) -> None:
    world, coroner = played(mode, plan(FAULTS[fault]))
    found = causes_of_the_lost(world, coroner)
    assert found[cause] == found.total() > 0
    assert world.faults[0].hit
    assert world.drained


def test_a_vote_that_lies_in_its_slot_beyond_its_time_comes_again() -> None:
    world, coroner = played("owned", plan(FAULTS["kill-holder"]))
    assert doubled(world)
    assert {coroner.doubles()[vote] for vote in doubled(world)} == {"stale-slot"}


@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        ("direct", "kill-mariadb"),
        ("direct", "drop-reply-mariadb"),
        ("ticket", "kill-holder"),
        ("ticket", "kill-between-insert-and-commit"),
        ("ticket", "pause-memcached"),
        ("ticket", "drop-reply-memcached"),
        ("ticket", "lock-table"),
        ("ticket", "full-disk"),
        ("mirrored", "kill-memcached"),
        ("mirrored", "cut-memcached"),
    ],
)
def test_what_is_promised_is_kept(mode: str, fault: str) -> None:
    world, _ = played(mode, plan(FAULTS[fault]))
    assert world.faults[0].hit
    assert world.drained
    assert not lost(world)
    if mode != "direct":
        assert not doubled(world)


def test_what_a_dead_process_had_sent_stays_open_in_its_journal() -> None:
    world, _ = played("ticket", plan(FAULTS["kill-between-insert-and-commit"]))
    journal = np.frombuffer(bytes(world.records.journal), JOURNAL_DTYPE)
    open_records = journal[journal["end_ns"] == 0]
    assert len(open_records) == 1
    assert open_records["role"][0] == Role.FLUSHER
    killed = open_records["pid"][0]
    assert journal[journal["pid"] == killed]["begin_ns"].max() == open_records["begin_ns"][0]


def test_voters_of_a_killed_process_do_not_know_and_the_others_go_on() -> None:
    world, _ = played("direct", plan(FAULTS["kill-site"]))
    ledger = np.frombuffer(bytes(world.records.ledger), LEDGER_DTYPE)
    outcomes = Counter(ledger["outcome"].tolist())
    assert outcomes[Outcome.UNKNOWN] <= 16
    assert outcomes[Outcome.ACKNOWLEDGED] > 1000


@pytest.mark.parametrize("fault", ["kill-memcached", "latency-mariadb", "kill-site"])
def test_the_same_seed_gives_the_same_bytes_under_a_fault(fault: str) -> None:
    one, again = (played("classic", plan(FAULTS[fault]))[0] for _ in range(2))
    assert one.records.ledger == again.records.ledger
    assert one.records.journal == again.records.journal


def test_a_fault_that_meets_nobody_says_so() -> None:
    wipe = Fault(kind="wipe", at_s=1.2)
    world, _ = played("classic", plan(FAULTS["kill-memcached"], wipe))
    assert [world.faults[number].hit for number in (0, 1)] == [True, False]


def test_a_flusher_that_dies_between_commit_and_deletion_costs_nothing() -> None:
    for mode in ("ticket", "classic"):
        world, _ = played(mode, plan(FAULTS["kill-between-commit-and-delete"]))
        assert world.faults[0].hit
        assert not lost(world)
        assert not doubled(world)


def test_what_a_stall_held_back_is_carried_out_once_though_its_client_has_sent_another() -> None:
    stall = Fault(kind="stall", at_s=1.0, target="mariadb", for_s=1.5)
    voters = Voters(timeout_s=1.0, retries=2)
    database = DatabasePlan(timeout_s=0.4)
    world, _ = played("direct", plan(stall, voters=voters, database=database))
    ledger = np.frombuffer(bytes(world.records.ledger), LEDGER_DTYPE)
    tried = ledger[ledger["kind"] == RequestKind.VOTE]
    attempts = Counter(tried["vote"][tried["outcome"] != Outcome.REFUSED].tolist())
    ballots = world.ballots.ballots()
    assert len(ballots) == len(attempts)
    extra = [
        n
        for vote, n in zip(ballots["vote"], ballots["deliveries"], strict=True)
        if n > attempts[vote]
    ]
    assert not extra
    assert ballots["deliveries"].max() > 1


@pytest.mark.parametrize("kind", ["give-up", "revote"])
def test_hasty_voters_hang_up_and_send_the_same_vote_or_another_one(kind: str) -> None:
    stall = Fault(kind="stall", at_s=1.0, target="mariadb", for_s=0.8)
    hasty = Fault(kind=kind, at_s=0.5, target="voters", for_s=1.5, delay_s=0.2)
    world, _ = played("direct", plan(stall, hasty))
    ledger = np.frombuffer(bytes(world.records.ledger), LEDGER_DTYPE)
    given_up = ledger[(ledger["error"] == Trouble.TIMED_OUT) & (ledger["kind"] == RequestKind.VOTE)]
    assert len(given_up) > 100
    assert (given_up["answered_ns"] - given_up["sent_ns"]).max() == 200_000_000
    ballots = set(world.ballots.ballots()["vote"].tolist())
    cast_again = {vote for vote in ballots if times_recast(vote)}
    assert bool(cast_again) == (kind == "revote")
    assert world.faults[1].hit
    assert not lost(world)


def test_what_is_not_simulated_says_so() -> None:
    world, _ = played("direct", plan(Fault(kind="slow-read", at_s=1.0, for_s=0.5)))
    assert (world.faults[0].hit, world.faults[0].detail) == (False, "is not simulated")


def test_a_batch_whose_flusher_gave_up_is_rolled_back_and_a_single_vote_is_not() -> None:
    lock = Fault(kind="lock-table", at_s=1.0, target="mariadb", for_s=1.2)
    of = plan(lock, database=DatabasePlan(timeout_s=0.4))
    world, coroner = played("owned", of)
    found = causes_of_the_lost(world, coroner)
    assert found["batch-rolled-back"] == found.total() > 0
    direct, _ = played("direct", of)
    unheard = np.frombuffer(bytes(direct.records.journal), JOURNAL_DTYPE)
    unheard = unheard[(unheard["status"] == Status.LOST) & (unheard["vote"] > 0)]
    assert len(unheard) > 0
    assert set(unheard["vote"].tolist()) <= set(direct.ballots.ballots()["vote"].tolist())
