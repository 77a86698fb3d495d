"""One simulated trial: a mode through a plan in virtual time, into the files of a real trial."""

from time import perf_counter
from typing import NamedTuple
from zlib import crc32

from harness.faults import voters
from harness.history.store import write_parquet
from harness.load.arrivals import planned_votes
from harness.modes.mode import find_mode, voided_by
from harness.modes.queues import terms
from harness.plan import Plan
from harness.run_folder import TrialFacts, TrialFolder, remove_raw
from harness.simulation.service_times import ServiceTimes
from harness.simulation.world import Told, World

NOT_DRAINED = "the queue was not found empty within limits.drain_s"


class Played(NamedTuple):
    """What a trial took, in numbers."""

    name: str
    votes: int
    commands: int  # those of protocols: of memcached and of the database
    events: int
    seconds: float  # of real time


class Machine(NamedTuple):
    """What is simulated: how long things take, on how many cores."""

    times: ServiceTimes
    cores: int


def play(
    plan: Plan, mode_name: str, repetition: int, machine: Machine, trial: TrialFolder
) -> Played:
    """Play it and write its folder. The same arguments give the same bytes.

    Raises PlanError for a mode that is none, RecordingError when there is no room.
    """
    mode = find_mode(mode_name)
    trial.create()
    began_s = perf_counter()
    life_of = getattr(mode, "totals_life_s", None)  # a mode of somebody else's may have none
    told = Told(mode.name, mode.protocol(terms(plan)), life_of(plan) if life_of else None)
    seed = (plan.seed, repetition, crc32(mode.name.encode()))
    world = World(plan, told, machine.times, machine.cores, seed)
    events = world.play()
    in_flight, inside = world.sampled()
    took_s = perf_counter() - began_s
    trial.write_facts(
        TrialFacts(
            mode=mode.name,
            promises=mode.promises,
            excuses=mode.excuses,
            void_by=voided_by(mode, plan),
            planned=planned_votes(plan),
            load_start_ns=world.start_ns,
            duration_s=plan.duration_s,
            drained=world.drained,
            partial=False,
            recasts=voters.most_recasts(plan.faults),
            once=plan.poll.once,
            votes_each=plan.voters.votes_each,
            notes=() if world.drained else (NOT_DRAINED,),
            in_flight_sampled=in_flight,
            site_in_flight=inside,
            faults=tuple(world.faults[number] for number in sorted(world.faults)),
        )
    )
    world.records.write(trial)
    write_parquet(world.ballots.ballots(), trial.ballots)
    if plan.poll.once:
        write_parquet(world.ballots.rejections(), trial.rejections)
    remove_raw(trial)
    votes = sum(planned_votes(plan).values())
    return Played(trial.name, votes, world.records.commands, events, took_s)
