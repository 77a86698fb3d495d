"""A whole deployment in virtual time: voters, site, flushers, memcached, database, faults.

`World(...).play()` runs one mode through a plan. Nothing here touches a file, a socket or a clock.
"""

from functools import partial
from random import Random
from typing import Final, NamedTuple

import numpy as np

from harness.fault import Fault, target_of
from harness.faults import pause
from harness.faults.timetable import applicable
from harness.history.journal import Role
from harness.load.arrivals import NS_PER_S, schedule
from harness.modes.queues import queues
from harness.plan import Plan
from harness.protocol.queue import VotingProtocol
from harness.result import FaultRecord
from harness.simulation.cores import Cores
from harness.simulation.daemons import CommitLog, Costs, Database, MemcachedDaemon
from harness.simulation.database import SimulatedDatabase
from harness.simulation.events import Events
from harness.simulation.flusher import SimulatedFlusher
from harness.simulation.memcached import SimulatedMemcached
from harness.simulation.performer import Armed, Habits, Performer
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


class Told(NamedTuple):
    """What a mode is, to a world: the protocol, and how long totals are kept in memcached."""

    name: str
    protocol: VotingProtocol
    totals_life_s: int | None


class World:
    """One mode under one plan, once."""

    def __init__(
        self, plan: Plan, mode: Told, times: ServiceTimes, cores: int, seed: tuple[int, ...]
    ) -> None:
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
        self._draws = draws = Draws(seed)
        self._times = times
        events = self.events
        self._cores = Cores(events, cores, draws.of("wake", times.wake_ns), times.switch_each_ns)
        self._armed = Armed()
        self._pids = FIRST_PID
        self._habits = Habits(
            events,
            draws.of("client", times.client_ns),
            times.call_each_ns,
            draws.of("awakened", times.awakened_ns),
            draws.of("oversleep", times.oversleep_ns),
            round(plan.queue.patience_s * NS_PER_S),
            self._armed,
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
        planned = enumerate(applicable(self.plan.faults, self.mode.name, bool(self.flushers)))
        for number, fault in planned:
            self._plan_fault(number, fault)
        self.events.at(self.start_ns, self._sample)
        # Whatever goes wrong, nothing lasts longer than that after the load.
        limits = self.plan.limits
        most_s = self.plan.voters.timeout_s * (self.plan.voters.retries + 2)
        most_s += limits.drain_s + limits.grace_s + limits.start_s + self.plan.queue.patience_s
        return self.events.run(self.end_ns + round(most_s * NS_PER_S))

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
        self._database = Database(self._cores, self.ballots, costs, log)

    def _performer(self, process: Process, role: Role, thread: int) -> Performer:
        return Performer(
            self._cores,
            process,
            role,
            self._habits,
            [daemon.connect() for daemon in self.memcached],
            self._database.connect(),
            ThreadJournal(self.records, process.number, thread, role),
        )

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
                self._process(plan.site.threads),
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
        plan, drain = self.plan, self.mode.protocol.drain
        self.flushers: list[SimulatedFlusher] = []
        for _ in range(plan.flusher.processes if drain else 0):
            assert drain
            performer = self._performer(self._process(), Role.FLUSHER, 0)
            self.flushers.append(
                SimulatedFlusher(
                    self.events,
                    performer,
                    drain,
                    queues(plan),
                    totals_key(plan.queue.prefix, plan.poll.name),
                    interval_ns=round(plan.flusher.interval_s * NS_PER_S),
                    limit_ns=round(plan.limits.drain_s * NS_PER_S),
                    ended=self._flusher_ended,
                )
            )
        self._flushers_left = len(self.flushers)

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
            )
            for generator in range(1, plan.voters.generators + 1)
        ]
        self._crowds_left = len(self.crowds)
        self._told_to_finish = False

    # The way of a trial.

    def _crowd_over(self) -> None:
        self._crowds_left -= 1
        if not self._crowds_left:
            self.events.at(max(self.events.now_ns, self.end_ns), self._site_finished)

    def _site_finished(self) -> None:
        """When all voters are through and the site is empty, the flushers drain what is left."""
        if self._told_to_finish or self._crowds_left or self.events.now_ns < self.end_ns:
            return
        if any(worker.inside for worker in self.workers):
            return
        self._told_to_finish = True
        self._armed.steps.clear()
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

    def _plan_fault(self, number: int, fault: Fault) -> None:
        due_ns = self.start_ns + round(fault.at_s * NS_PER_S)
        planned = target_of(fault)

        def note(
            start_ns: int, end_ns: int, detail: str, *, target: str = planned, hit: bool = True
        ) -> None:
            self.faults[number] = FaultRecord(
                kind=fault.kind,
                target=target,
                start_s=self._seconds(start_ns),
                end_s=self._seconds(end_ns),
                hit=hit,
                detail=detail,
            )

        def wipe() -> None:
            self.memcached[0].store.wipe()
            note(self.events.now_ns, self.events.now_ns, "memcached emptied")

        def stop(at: int, process: Process) -> None:
            began_ns = self.events.now_ns
            self._armed.steps.clear()
            process.stopped = True
            target, detail = pause.met(at, process.number)

            def heal() -> None:
                process.go_on()
                note(began_ns, self.events.now_ns, detail, target=target)

            self.events.at(began_ns + round(fault.for_s * NS_PER_S), heal)

        def arm() -> None:
            self._armed.steps |= {each: partial(stop, each) for each in pause.STEPS}

        note(due_ns, self.end_ns, "did not meet its target", hit=False)
        self.events.at(due_ns, {"wipe": wipe, "pause": arm}[fault.kind])

    def _seconds(self, moment_ns: int) -> float:
        return round((moment_ns - self.start_ns) / NS_PER_S, 4)
