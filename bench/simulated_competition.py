"""What `bench.writers` measures for real, in virtual time, with the parts of the simulator."""

from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from bench.writers import PLAN
from harness.history.journal import JOURNAL_DTYPE, Role
from harness.modes.mode import find_mode
from harness.modes.queues import queues, terms
from harness.protocol.queue import Receipt
from harness.simulation.cores import Cores
from harness.simulation.daemons import CommitLog, Costs, Database, MemcachedDaemon
from harness.simulation.database import SimulatedDatabase
from harness.simulation.events import Events
from harness.simulation.flusher import SimulatedFlusher
from harness.simulation.memcached import SimulatedMemcached
from harness.simulation.performer import Armed, Habits, Performer
from harness.simulation.process import Process
from harness.simulation.records import Records, ThreadJournal
from harness.simulation.service_times import Draws, Quantiles, ServiceTimes, constant
from harness.simulation.site import totals_key
from harness.vote import Vote, mint

NS_PER_S: Final = 1_000_000_000
BEGIN_NS: Final = NS_PER_S
NOTHING: Final = constant(0.0)


class Played(NamedTuple):
    """What was played until the end of the window."""

    votes: int  # acknowledged
    commands: int
    records: Records
    busy: float  # cores that were computing, on average


class Competition:
    """So many writers in a closed loop, and one that drains."""

    def __init__(
        self,
        mode: str,
        writers: int,
        times: ServiceTimes,
        cores: int,
        seed: int,
        *,
        drains: bool = True,
        journal: bool = True,
        between_ns: Quantiles = NOTHING,
    ) -> None:
        """`between_ns`: what a writer computes between two votes beyond what it does between two
        commands."""
        self.events = Events(BEGIN_NS)
        self.records = Records(journal=journal)
        self.votes = 0
        draws = Draws((seed,))
        self._between_ns = draws.of("between", between_ns)
        self._cores = Cores(
            self.events, cores, draws.of("wake", times.wake_ns), times.switch_each_ns
        )
        self._daemon = MemcachedDaemon(
            self._cores,
            SimulatedMemcached(PLAN.memcached.memory_mib),
            draws.of("memcached", times.memcached_ns),
            draws.of("pipelined", times.pipelined_ns),
        )
        costs = Costs(
            draws.of("insert", times.insert_ns),
            draws.of("row", times.row_ns),
            lambda: 0,  # here no drain refreshes totals
        )
        log = CommitLog(self.events, draws.of("commit", times.commit_ns), 0)
        self._database = Database(self._cores, SimulatedDatabase(), costs, log)
        self._habits = Habits(
            self.events,
            draws.of("client", times.client_ns),
            times.call_each_ns,
            draws.of("awakened", times.awakened_ns),
            draws.of("oversleep", times.oversleep_ns),
            round(PLAN.queue.patience_s * NS_PER_S),
            Armed(),
        )
        self._protocol = find_mode(mode).protocol(terms(PLAN))
        self._queue = queues(PLAN)[0]
        assert self._protocol.drain
        self._flusher = SimulatedFlusher(
            self.events,
            self._performer(0, Role.FLUSHER),
            self._protocol.drain,
            [self._queue],
            totals_key(PLAN.queue.prefix, PLAN.poll.name),
            interval_ns=round(PLAN.flusher.interval_s * NS_PER_S),
            limit_ns=0,
            ended=lambda: None,
        )
        self._drains = drains
        self._writers = [self._performer(n, Role.SITE) for n in range(1, writers + 1)]

    def play(self, lasts_s: float) -> Played:
        if self._drains:
            self._flusher.start(0.0)
        for number, writer in enumerate(self._writers, start=1):
            self._vote(writer, number, 0)
        self.events.run(BEGIN_NS + round(lasts_s * NS_PER_S))
        busy = self._cores.busy_ns / (lasts_s * NS_PER_S)
        return Played(self.votes, self.records.commands, self.records, busy)

    def _performer(self, number: int, role: Role) -> Performer:
        return Performer(
            self._cores,
            Process(number),
            role,
            self._habits,
            [self._daemon.connect()],
            self._database.connect(),
            ThreadJournal(self.records, number, 0, role),
        )

    def _vote(self, writer: Performer, number: int, sequence: int) -> None:
        vote_id = mint(number, sequence)
        vote = Vote(vote_id, PLAN.poll.name, 1, f"v{vote_id:016x}")

        def done(receipt: Receipt) -> None:
            self.votes += receipt in (Receipt.QUEUED, Receipt.STORED)
            self._vote(writer, number, sequence + 1)

        machine = self._protocol.vote(self._queue, vote.to_message())
        writer.perform(machine, done, prologue_ns=self._between_ns())


def journal_of(records: Records) -> pd.DataFrame:
    journal = np.frombuffer(records.journal, JOURNAL_DTYPE)
    return pd.DataFrame({name: journal[name] for name in JOURNAL_DTYPE.names or ()})
