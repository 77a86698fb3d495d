"""A random campaign in virtual time: many short trials, each with a timetable of its own.

The seeds of a campaign are counted from the one that was given, and a trial depends on its own seed
and mode only: what went wrong with seed 4711 goes wrong again in a campaign of one with that seed.
"""

from collections.abc import Iterator, Sequence
from os import sched_getaffinity
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import msgspec

from harness.audit.accounts import settle
from harness.audit.certificate import UNKNOWN
from harness.audit.certificates import certify
from harness.audit.verdict import BREAKS_PROMISE, judge_votes, promise_kept
from harness.campaign import random_faults
from harness.fault import describe
from harness.plan import Plan
from harness.result import FaultRecord
from harness.run_folder import TrialFolder
from harness.simulation.faults import SIMULATED
from harness.simulation.pool import processes
from harness.simulation.trial import Machine, play

DURATION_S: Final = 4.0
MOST_PER_S: Final = 150.0  # enough that there is always something under way
CHUNK: Final = 4  # trials that a process is given at once


class Drawn(NamedTuple):
    """One trial that is to be played."""

    mode: str
    seed: int
    plan: Plan


class Game(NamedTuple):
    """One trial that was played."""

    mode: str
    seed: int
    plan: Plan
    faults: tuple[FaultRecord, ...]
    sent: int
    bad: dict[str, int]
    """Of the accounts that a promise keeps at zero: those that are not."""
    kept: bool | None
    """Whether the promise was; None: there is none, or it is void."""
    unexplained: int
    drained: bool

    @property
    def is_violation(self) -> bool:
        """A promise broken, the mode's or the poll's; a death unexplained; a queue never empty."""
        broken = self.kept is False or "overvotes" in self.bad
        return broken or self.unexplained > 0 or not self.drained

    def describe(self) -> str:
        """One line: what went wrong, and under what."""
        wrong = [f"{number} {name}" for name, number in self.bad.items()]
        if self.unexplained:
            wrong.append(f"{self.unexplained} unexplained")
        if not self.drained:
            wrong.append("never empty")
        under = "; ".join(describe(fault) for fault in self.plan.faults)
        return f"{self.mode} seed {self.seed}: {', '.join(wrong)} under {under}"


def draw(plan: Plan, modes: Sequence[str], trials: int, seed: int) -> Iterator[Drawn]:
    """So many trials of each mode, with the seeds from `seed` on."""
    for number in range(trials):
        for mode in modes:
            yield Drawn(mode, seed + number, _plan_of(plan, mode, seed + number))


def play_all(drawn: Sequence[Drawn], machine: Machine) -> Iterator[Game]:
    """Each trial when it and those before it have been played, by as many processes as can be."""
    at_once = min(len(drawn), len(sched_getaffinity(0)))
    if at_once < 2:
        yield from (play_one(each, machine) for each in drawn)
        return
    machines = [machine] * len(drawn)
    with processes(at_once) as pool:
        yield from pool.map(play_one, drawn, machines, chunksize=CHUNK)


def play_one(drawn: Drawn, machine: Machine) -> Game:
    """Play it, and settle its accounts."""
    with TemporaryDirectory(prefix="pollstorm-campaign-") as folder:
        trial = TrialFolder(Path(folder) / drawn.mode)
        play(drawn.plan, drawn.mode, 1, machine, trial)
        facts = trial.read_facts()
        accounts = settle(trial, facts)
        bad = {name: number for name in BREAKS_PROMISE if (number := getattr(accounts, name))}
        unexplained = 0
        if accounts.lost or accounts.altered or accounts.duplicated:
            unexplained = int((certify(trial, facts)["cause"] == UNKNOWN).sum())
        return Game(
            mode=drawn.mode,
            seed=drawn.seed,
            plan=drawn.plan,
            faults=facts.faults,
            sent=accounts.sent,
            bad=bad,
            kept=promise_kept(facts, accounts, judge_votes(accounts, facts).votes),
            unexplained=unexplained,
            drained=facts.drained,
        )


def _plan_of(plan: Plan, mode: str, seed: int) -> Plan:
    """The scenario in short, its settings shaken, its faults drawn."""
    rng = Random(f"{mode} {seed}")
    faults = random_faults(rng, mode, DURATION_S, kinds=SIMULATED)
    arrivals = msgspec.structs.replace(
        plan.arrivals, curve="trickle", trickle_per_s=rng.uniform(20.0, MOST_PER_S)
    )
    replace = msgspec.structs.replace
    return replace(
        plan,
        scenario=f"campaign-{mode}-{seed}",
        modes=(mode,),
        duration_s=DURATION_S,
        seed=seed,
        repeat=1,
        slo=(),
        arrivals=arrivals,
        voters=replace(
            plan.voters, retries=rng.choice((0, 0, 2)), timeout_s=rng.choice((1.0, 5.0))
        ),
        site=replace(plan.site, workers=rng.choice((1, 2, 3)), threads=rng.choice((2, 8, 16))),
        flusher=replace(
            plan.flusher, processes=rng.choice((1, 1, 2, 3)), interval_s=rng.choice((0.1, 0.5))
        ),
        queue=replace(plan.queue, queues=rng.choice((1, 1, 3)), patience_s=rng.choice((0.2, 1.0))),
        memcached=replace(
            plan.memcached, timeout_s=rng.choice((0.2, 1.0)), evict=rng.random() < 0.7
        ),
        database=replace(plan.database, timeout_s=rng.choice((1.0, 5.0))),
        faults=faults,
    )
