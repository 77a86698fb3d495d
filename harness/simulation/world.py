"""A whole deployment in virtual time: voters, site, flushers, memcached, database, faults.

`World(...).play()` runs one mode through a plan. Nothing here touches a file, a socket or a clock.
"""

from collections import Counter
from functools import partial
from random import Random
from typing import Final, NamedTuple

import msgspec
import numpy as np

from harness.fault import VOTERS, Fault, target_of
from harness.faults import voters
from harness.faults.timetable import applicable
from harness.history.journal import Role
from harness.load.arrivals import NS_PER_S, schedule
from harness.load.conduct import conducts
from harness.modes.queues import queues
from harness.plan import Plan
from harness.protocol.commands import Status
from harness.protocol.queue import VotingProtocol
from harness.result import FaultRecord
from harness.simulation.cores import Cores
from harness.simulation.coroner import Coroner
from harness.simulation.daemons import CommitLog, Costs, Database, MemcachedDaemon
from harness.simulation.database import SimulatedDatabase
from harness.simulation.events import Events
from harness.simulation.faults import HASTY, NOT_SIMULATED, Trouble
from harness.simulation.flusher import SimulatedFlusher
from harness.simulation.lines import Author, Line, Server, Weather
from harness.simulation.memcached import SimulatedMemcached
from harness.simulation.performer import Armed, Connection, Habits, Performer
from harness.simulation.process import Process
from harness.simulation.records import Records, ThreadJournal
from harness.simulation.service_times import Draws, ServiceTimes
from harness.simulation.site import Front, Work, Worker, totals_key
from harness.simulation.voters import Crowd

BEGIN_NS: Final = NS_PER_S
"""When the world begins: not at 0, which in a record says that there is none."""
LEAD_NS: Final = NS_PER_S  # until the load starts; the flushers are at work by then
SAMPLE_NS: Final = 25_000_000  # as a real trial samples its gauges
FIRST_PID: Final = 1000
MEMCACHED: Final = ("memcached", "memcached-2")
MARIADB: Final = "mariadb"


class Told(NamedTuple):
    """What a mode is, to a world: the protocol, and how long totals are kept in memcached."""

    name: str
    protocol: VotingProtocol
    totals_life_s: int | None


class World:
    """One mode under one plan, once."""

    def __init__(
        self,
        plan: Plan,
        mode: Told,
        times: ServiceTimes,
        cores: int,
        seed: tuple[int, ...],
        coroner: Coroner | None = None,
    ) -> None:
        """`coroner`: sees all that the stores do."""
        self.plan = plan
        self.mode = mode
        self.events = Events(BEGIN_NS)
        self.records = Records(journal=plan.site.journal)
        self.start_ns = BEGIN_NS + LEAD_NS
        self.end_ns = self.start_ns + round(plan.duration_s * NS_PER_S)
        self.faults: dict[int, FaultRecord] = {}
        self.samples: list[tuple[int, int]] = []
        """Requests under way and inside the site, at each sampled moment of the load."""
        self.drained = False
        self.healed = False
        """Whether the load is over, and all troubles with it."""
        self._draws = draws = Draws(seed)
        self._times = times
        events = self.events
        self._cores = Cores(events, cores, draws.of("wake", times.wake_ns), times.switch_each_ns)
        self.armed = Armed()
        self.random = Random(int(draws.generator("faults").integers(2**63)))
        """Of whatever a fault leaves to chance."""
        self.coroner = coroner
        self._applicable = applicable(
            plan.faults, mode.name, mode.protocol.drain is not None, mode.protocol.daemons
        )
        self._on_lines = coroner is not None or not all(map(_is_harmless, self._applicable))
        self._troubles: list[Trouble] = []
        self._pids = FIRST_PID
        self._habits = Habits(
            events,
            draws.of("client", times.client_ns),
            times.call_each_ns,
            draws.of("awakened", times.awakened_ns),
            draws.of("oversleep", times.oversleep_ns),
            round(plan.queue.patience_s * NS_PER_S),
            self.armed,
        )
        self._build_daemons()
        self._build_site()
        self._build_flushers()
        self._build_crowds()

    def play(self) -> int:
        """From the first drain to the last; the number of events."""
        for number, flusher in enumerate(self.flushers, start=1):
            flusher.start(number / len(self.flushers))
        for crowd in self.crowds:
            crowd.start(self.start_ns)
        for number, fault in enumerate(self._applicable):
            if target_of(fault) != VOTERS:
                self._plan_fault(number, fault)
        self.events.at(self.start_ns, self._sample)
        # Whatever goes wrong, nothing lasts longer than that after the load.
        limits = self.plan.limits
        most_s = self.plan.voters.timeout_s * (self.plan.voters.retries + 2)
        most_s += limits.drain_s + limits.grace_s + limits.start_s + self.plan.queue.patience_s
        happened = self.events.run(self.end_ns + round(most_s * NS_PER_S))
        self._tell_of_voters()
        return happened

    # Building.

    def _build_daemons(self) -> None:
        plan, times, draws = self.plan, self._times, self._draws
        each_ns = draws.of("memcached", times.memcached_ns)
        pipelined_ns = draws.of("pipelined", times.pipelined_ns)
        self.memcached = [
            MemcachedDaemon(
                self._cores,
                SimulatedMemcached(plan.memcached.memory_mib, evict=plan.memcached.evict),
                each_ns,
                pipelined_ns,
            )
            for _ in range(self.mode.protocol.daemons)
        ]
        self.ballots = SimulatedDatabase()
        costs = Costs(
            draws.of("insert", times.insert_ns),
            draws.of("row", times.row_ns),
            draws.of("count", times.count_row_ns),
        )
        commit_ns = draws.of("commit", times.commit_ns)
        log = CommitLog(self.events, commit_ns, plan.database.commit_wait_us * 1000)
        self.database = Database(self._cores, self.ballots, costs, log)
        self.stores = dict(
            zip(MEMCACHED, (daemon.store for daemon in self.memcached), strict=False)
        )
        """The memcached daemons by the names of targets."""
        machines = dict(zip(MEMCACHED, self.memcached, strict=False))
        self.servers = {
            name: Server(daemon, Status.UNREACHABLE, self._weather(name))
            for name, daemon in machines.items()
        }
        self.servers[MARIADB] = Server(self.database, Status.REFUSED, self._weather(MARIADB))
        if self.coroner:
            prefixes = {number: queue.prefix for number, queue in enumerate(queues(plan))}
            for number, daemon in enumerate(self.memcached):
                told = partial(self.coroner.evicted, number, prefixes)
                daemon.store.on_eviction = told

    def _weather(self, name: str) -> Weather:
        seed = int(self._draws.generator(f"weather {name}").integers(2**63))
        return Weather(self.events, Random(seed))

    def _performer(self, process: Process, role: Role, thread: int) -> Performer:
        journal = ThreadJournal(self.records, process.number, thread, role)
        lines = self._lines(process, journal) if self._on_lines else []
        memcached: list[Connection] = [line.ask for line in lines[:-1]]
        if not lines:
            memcached = [daemon.connect() for daemon in self.memcached]
        database = lines[-1].ask if lines else self.database.connect()
        return Performer(
            self._cores, process, role, self._habits, memcached, database, journal, lines
        )

    def _lines(self, process: Process, journal: ThreadJournal) -> list[Line]:
        """One to each memcached, and at last that to the database."""
        plan = self.plan
        lines = []
        for name, server in self.servers.items():
            timeout_s = (plan.database if name == MARIADB else plan.memcached).timeout_s
            store = self.stores.get(name)
            lines.append(
                Line(
                    self.events,
                    server,
                    process,
                    lambda: Author(*journal.operation),
                    store.execute if store else self.database.execute,
                    round(timeout_s * NS_PER_S),
                    self.coroner,
                )
            )
        return lines

    def _process(self, threads: int = 1) -> Process:
        self._pids += 1
        return Process(self._pids, threads)

    def _build_site(self) -> None:
        plan, times = self.plan, self._times
        http_ns = self._draws.of("http", times.http_ns)
        python_ns = self._draws.of("python", times.python_ns)
        key = totals_key(plan.queue.prefix, plan.poll.name)
        work = Work(self.mode.protocol, queues(plan), key, self.mode.totals_life_s)
        self.workers = [
            Worker(
                self.events,
                plan.site,
                partial(self._process, plan.site.threads),
                work,
                lambda pass_on: Front(self._cores, http_ns, pass_on),
                lambda process: [
                    self._performer(process, Role.SITE, thread)
                    for thread in range(plan.site.threads)
                ],
                python_ns,
                self._site_finished,
            )
            for _ in range(plan.site.workers)
        ]

    def _build_flushers(self) -> None:
        number = self.plan.flusher.processes if self.mode.protocol.drain else 0
        self.flushers = [self._flusher() for _ in range(number)]
        self._flushers_left = len(self.flushers)

    def _flusher(self) -> SimulatedFlusher:
        plan, drain = self.plan, self.mode.protocol.drain
        assert drain
        return SimulatedFlusher(
            self.events,
            self._performer(self._process(), Role.FLUSHER, 0),
            drain,
            queues(plan),
            totals_key(plan.queue.prefix, plan.poll.name),
            interval_ns=round(plan.flusher.interval_s * NS_PER_S),
            limit_ns=round(plan.limits.drain_s * NS_PER_S),
            ended=self._flusher_ended,
        )

    def _build_crowds(self) -> None:
        plan = self.plan
        self.crowds = [
            Crowd(
                self.events,
                schedule(plan, generator, plan.voters.generators),
                generator,
                plan.poll,
                plan.voters,
                self.workers,
                self.records,
                self._draws.of(f"wake lag {generator}", self._times.wake_lag_ns),
                self._draws.of(f"way {generator}", self._times.way_ns),
                Random(int(self._draws.generator(f"dealing {generator}").integers(2**63))),
                self._crowd_over,
                conducts(self._applicable),
            )
            for generator in range(1, plan.voters.generators + 1)
        ]
        self._crowds_left = len(self.crowds)
        self._told_to_finish = False

    # The way of a trial.

    def _crowd_over(self) -> None:
        self._crowds_left -= 1
        if not self._crowds_left:
            self.events.at(max(self.events.now_ns, self.end_ns), self._load_over)

    def _load_over(self) -> None:
        """All voters are through: what is still wrong is mended."""
        self.healed = True
        self.armed.steps.clear()
        for trouble in self._troubles:
            trouble.end()
        self.database.hindrances.clear()  # those that wait for a flusher's transaction
        self._site_finished()

    def _site_finished(self) -> None:
        """When all voters are through and the site is empty, the flushers drain what is left."""
        if self._told_to_finish or self._crowds_left or self.events.now_ns < self.end_ns:
            return
        if any(worker.inside for worker in self.workers):
            return
        self._told_to_finish = True
        self.armed.steps.clear()
        self.drained = not self.flushers
        for flusher in self.flushers:
            flusher.finish()

    def _flusher_ended(self) -> None:
        self._flushers_left -= 1
        if not self._flushers_left:
            self.drained = all(flusher.empty for flusher in self.flushers)

    def _sample(self) -> None:
        under_way = sum(crowd.in_flight for crowd in self.crowds)
        inside = sum(worker.inside for worker in self.workers)
        self.samples.append((under_way, inside))
        again_ns = self.events.now_ns + SAMPLE_NS
        if again_ns < self.end_ns:
            self.events.at(again_ns, self._sample)

    def sampled(self) -> tuple[float, float]:
        """The means of both gauges."""
        under_way, inside = np.mean(self.samples, axis=0)
        return float(under_way), float(inside)

    # Faults.

    def _tell_of_voters(self) -> None:
        """How many behaved as a fault has it is known at the end."""
        met: Counter[int] = sum((crowd.met for crowd in self.crowds), Counter())
        told = iter(voters.records(self._applicable, met, self.plan.duration_s))
        for number, fault in enumerate(self._applicable):
            if target_of(fault) == VOTERS:
                record = next(told)
                if fault.kind not in HASTY:
                    record = msgspec.structs.replace(record, detail=NOT_SIMULATED)
                self.faults[number] = record

    def _plan_fault(self, number: int, fault: Fault) -> None:
        def record(met: FaultRecord) -> None:
            self.faults[number] = met

        trouble = Trouble(self, fault, record)
        self._troubles.append(trouble)
        self.events.at(self.start_ns + round(fault.at_s * NS_PER_S), trouble.start)

    def kill(self, process: Process) -> None:
        """A process of the site or a flusher dies; what it had sent stays sent."""
        process.die()
        for flusher in self.flushers:
            if flusher.process is process:
                flusher.leave_open()
        for worker in self.workers:
            if worker.process is process:
                for thread in worker.threads:
                    thread.leave_open()
        if self.coroner:
            self.coroner.died(process.number)

    def restart_flusher(self, dead: Process) -> None:
        """Another flusher takes the place of one that has died."""
        for number, flusher in enumerate(self.flushers):
            if flusher.process is dead:
                self.flushers[number] = again = self._flusher()
                again.start(0.0)
                if self._told_to_finish:
                    again.finish()

    def forgotten(self, target: str) -> None:
        """A memcached has lost everything."""
        if self.coroner and target in self.stores:
            self.coroner.wiped(MEMCACHED.index(target))

    def seconds(self, moment_ns: int) -> float:
        """After the load's start."""
        return round((moment_ns - self.start_ns) / NS_PER_S, 4)


def _is_harmless(fault: Fault) -> bool:
    """Whether every command is answered under it, however late: then no line is needed."""
    return (
        target_of(fault) == VOTERS
        or fault.kind == "wipe"
        or (fault.kind == "pause" and target_of(fault) == "lock-holder")
    )
