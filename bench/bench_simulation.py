"""The simulator's speed: against SimPy on the same queueing model, and on a large spike.

The model is `classic` in a closed loop: writers who compute, ask memcached, and nap, on two cores.
Both sides run the same protocol machines against the same simulated memcached, draw the same times
and have the same queues: for cores, and for memcached's threads. Neither keeps a journal.
"""

import gc
from collections.abc import Generator
from time import process_time
from typing import Any, Final

import msgspec
import simpy

from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from bench.simulated_competition import Competition
from bench.writers import PLAN
from harness.modes.mode import find_mode
from harness.modes.queues import queues, terms
from harness.plan import Arrivals, Plan, Site
from harness.protocol.commands import Patience, Reply, Sleep, Status
from harness.simulation.daemons import MEMCACHED_THREADS
from harness.simulation.memcached import SimulatedMemcached
from harness.simulation.service_times import Draws, ServiceTimes, constant, shipped
from harness.simulation.world import Told, World
from harness.vote import Vote, mint

ROUNDS: Final = 5  # of some seconds
WRITERS: Final = 16
CORES: Final = 2
LASTS_S: Final = 1.0  # of virtual time: some 40,000 commands
PATIENCE_NS: Final = 1_000_000_000
US: Final = 1_000
NEXT, LATER = 0, 1  # places in the queue for a core

# A site of 1,000 worker processes with a queue of its own for each eight, and a minute's spike.
SPIKE: Final = Plan(
    scenario="spike",
    modes=("ticket",),
    duration_s=60.0,
    arrivals=Arrivals(
        curve="spike", trickle_per_s=3.5, peak_per_s=2_000.0, starts_s=5.0, peak_at_s=20.0,
        rise_s=3.0, decay_s=10.0,
    ),
    site=Site(workers=64, threads=16),
)  # fmt: skip
SPIKE_WORKERS: Final = 1_000
SPIKE_CORES: Final = 500


def times() -> ServiceTimes:
    """Round numbers of this kind of machine: figures do not change when it is measured anew."""
    return msgspec.structs.replace(
        shipped(),
        client_ns=constant(14 * US),
        call_each_ns=10 * US,
        memcached_ns=constant(9 * US),
        awakened_ns=constant(30 * US),
        oversleep_ns=constant(80 * US),
        wake_ns=constant(0),
        switch_each_ns=0,
    )


def against_simpy() -> list[Figure]:
    rounds = in_turn(ours_per_s, simpy_per_s, ROUNDS)
    target = Target("ratio", ">=", 3.0)
    other = "SimPy, the same queueing model"
    return [figure("simulation.commands", "commands/s", other, rounds, target)]


def ours_per_s() -> float:
    model = Competition("classic", WRITERS, times(), CORES, seed=1, drains=False, journal=False)
    began_s = begin()
    played = model.play(LASTS_S)
    return played.commands / (process_time() - began_s)


def simpy_per_s() -> float:
    model = SimpyModel(times())
    began_s = begin()
    model.environment.run(until=round(LASTS_S * 1e9))
    return model.commands / (process_time() - began_s)


def begin() -> float:
    gc.collect()  # what the other one left behind is not this one's work
    return process_time()


class SimpyModel:
    """The same, as one would write it with SimPy."""

    def __init__(self, of: ServiceTimes) -> None:
        draws = Draws((1,))
        self.commands = 0
        self.environment = simpy.Environment()
        self._cores = [simpy.PriorityResource(self.environment) for _ in range(CORES)]
        self._last_core = [number % CORES for number in range(MEMCACHED_THREADS + WRITERS)]
        self._threads = [simpy.Resource(self.environment) for _ in range(MEMCACHED_THREADS)]
        self._store = SimulatedMemcached()
        self._client_ns = draws.of("client", of.client_ns)
        self._awakened_ns = draws.of("awakened", of.awakened_ns)
        self._memcached_ns = draws.of("memcached", of.memcached_ns)
        self._oversleep_ns = draws.of("oversleep", of.oversleep_ns)
        self._vote = find_mode("classic").protocol(terms(PLAN)).vote
        self._queue = queues(PLAN)[0]
        for number in range(1, WRITERS + 1):
            self.environment.process(self._writer(number))

    def _writer(self, number: int) -> Generator[simpy.Event, Any, None]:
        thread = number % MEMCACHED_THREADS
        writer = MEMCACHED_THREADS + number - 1
        sequence = 0
        while True:  # until the environment ends
            vote_id = mint(number, sequence)
            vote = Vote(vote_id, PLAN.poll.name, 1, f"v{vote_id:016x}")
            machine = self._vote(self._queue, vote.to_message())
            sequence += 1
            try:
                command = next(machine)
                while True:
                    if type(command) is Patience:
                        over = command.slept_ns >= PATIENCE_NS
                        reply = Reply(Status.OVER if over else Status.OK)
                    elif type(command) is Sleep:
                        reply = yield from self._nap(writer, command)
                    else:
                        reply = yield from self._ask(writer, thread, command)
                    command = machine.send(reply)
            except StopIteration:
                continue

    def _nap(self, writer: int, command: Sleep) -> Generator[simpy.Event, Any, Reply]:
        """A nap parts the client's computing in two, and caches are cold after it."""
        began_ns = self.environment.now
        yield self.environment.timeout(command.duration_ns + self._oversleep_ns())
        with self._core_for(writer).request(LATER) as core:
            yield core
            slept_ns = self.environment.now - began_ns
            yield self.environment.timeout(self._awakened_ns())
        return Reply(Status.OK, slept_ns)

    def _core_for(self, who: int) -> simpy.PriorityResource:
        """Its last core, or another if only that one is idle."""
        last = self._last_core[who]
        if self._cores[last].count:
            idle = (n for n, core in enumerate(self._cores) if not core.count)
            last = self._last_core[who] = next(idle, last)
        return self._cores[last]

    def _ask(self, writer: int, thread: int, command: Any) -> Generator[simpy.Event, Any, Reply]:
        with self._core_for(writer).request(LATER) as core:
            yield core
            yield self.environment.timeout(self._client_ns())
        with self._threads[thread].request() as turn:
            yield turn
            with self._core_for(thread).request(NEXT) as core:
                yield core
                yield self.environment.timeout(self._memcached_ns())
        self.commands += 1
        return self._store.execute(command, self.environment.now)


def spike() -> list[Figure]:
    """Votes simulated per second; against it, what the spike takes in real time."""
    return [
        figure(
            "simulation.spike",
            "votes/s",
            "the same spike on real machines",
            [spike_votes_per_s() for _ in range(ROUNDS)],
        )
    ]


def spike_votes_per_s() -> tuple[float, float]:
    # More workers than a plan allows on one machine: this one is no machine's.
    plan = msgspec.structs.replace(
        SPIKE, site=msgspec.structs.replace(SPIKE.site, workers=SPIKE_WORKERS)
    )
    mode = find_mode("ticket")
    world = World(plan, Told("ticket", mode.protocol(terms(plan)), 0), shipped(), SPIKE_CORES, (1,))
    began_s = begin()
    world.play()
    votes = sum(crowd.planned_votes for crowd in world.crowds)
    return votes / (process_time() - began_s), votes / plan.duration_s


MEASUREMENTS: Final = (
    Measurement(("simulation.commands",), against_simpy),
    Measurement(("simulation.spike",), spike),
)
