"""The generator processes of one load: started together, watched, never waited for without end."""

import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from harness.errors import Exit, RecordingError, ServiceError
from harness.load.order import MasterOrder, transfer_s
from harness.load.request import ALLOW_TARGET
from harness.load.shard import CANNOT_RECORD, GeneratorReport, Shard
from harness.plan import Plan, host_of
from harness.run_folder import write_atomically
from harness.services.cores import share_cores
from harness.services.processes import Child, Supervisor

CEILING_S: Final = 1.0  # tens of thousands of requests: enough for a rate within a few per cent
LEAD_NS: Final = 100_000_000  # ten looks at the start file fit in before the load starts
REMOTE_LEAD_NS: Final = 1_000_000_000  # and the start's way to another continent, thrice
TICK_S: Final = 0.1
MASTER_S: Final = 10.0  # beyond the plan's limit, so that the master can say who has not come
# A generator that was told to stop closes its rows in milliseconds, unless its core is hogged.
STOP_S: Final = 5.0


class LoadedSite(NamedTuple):
    """A site to load, and where the ledgers of its voters go."""

    host: str
    port: int
    ledger_folder: Path


class FleetReport(NamedTuple):
    """How the load went, as far as the generators can tell."""

    start_ns: int  # CLOCK_MONOTONIC of the plan's second 0
    reports: dict[int, GeneratorReport]  # by number, from 1; of several sites, one after the other
    ended_early: tuple[int, ...]  # died: their ledgers are whole up to then, unless lost
    lost: tuple[int, ...] = ()  # of those: on another machine, and their ledgers with them

    @property
    def partial(self) -> bool:
        return bool(self.ended_early)

    @property
    def in_flight_mean(self) -> float | None:
        """Requests in flight on average, over all generators; None when one did not say."""
        means = [report.in_flight for report in self.reports.values()]
        known = [mean for mean in means if mean is not None]
        return sum(known) if len(known) == len(means) and not self.partial else None

    @property
    def short_of_users(self) -> bool:
        """Whether a generator had fewer users than its share of the load takes."""
        return any(report.users < report.users_wanted for report in self.reports.values())

    @property
    def longest_block_ms(self) -> float | None:
        """How long nothing could run in a generator at worst; None when none has said."""
        return max((report.longest_block_ms for report in self.reports.values()), default=None)

    @property
    def clock_within_ms(self) -> float | None:
        """How far the times of other machines may be off ours at worst; None without any."""
        return max((r.clock_within_ms for r in self.reports.values()), default=0.0) or None

    @property
    def met(self) -> Counter[int]:
        """By number of a fault in the plan: how many voters behaved as it says."""
        return sum((Counter(report.met) for report in self.reports.values()), Counter[int]())


class Fleet:
    """Plays a plan's load against a site, or the same load against several at once."""

    def __init__(self, plan: Plan, supervisor: Supervisor, logs: Path, *sites: LoadedSite) -> None:
        self._plan = plan
        self._supervisor = supervisor
        self._sites = sites
        self._logs = logs
        self.children: list[Child] = []
        """The generators under way, or the last ones."""

    def measure_ceiling(self) -> float:
        """Requests per second that the generators can send to a route that does nothing.

        Their ledgers are on, and thrown away. Raises PollstormError.
        """
        folder = self._supervisor.temporary_directory()
        try:
            sites = [site._replace(ledger_folder=folder) for site in self._sites]
            report = self._play(folder, sites, CEILING_S, lambda _: None, lambda _: None)
        finally:
            self._supervisor.remove(folder)
        if report.partial:
            raise ServiceError(f"a generator died while its ceiling was measured; see {self._logs}")
        return sum(r.answered / r.elapsed_s for r in report.reports.values())

    def run(
        self,
        on_start: Callable[[int], None] = lambda _: None,
        on_tick: Callable[[float], None] = lambda _: None,
    ) -> FleetReport:
        """Play the load to its end.

        `on_start` gets the start (CLOCK_MONOTONIC, ns), just before it; `on_tick` the seconds
        since, about ten times a second. A generator that is killed is reported as ended early.
        Raises PollstormError when one gives up, and passes on what interrupts it; none runs on.
        """
        folder = self._supervisor.temporary_directory()
        try:
            return self._play(folder, self._sites, 0.0, on_start, on_tick)
        finally:
            self._supervisor.remove(folder)

    def _play(
        self,
        folder: Path,
        sites: Sequence[LoadedSite],
        void_for_s: float,
        on_start: Callable[[int], None],
        on_tick: Callable[[float], None],
    ) -> FleetReport:
        generators = range(1, self._plan.voters.generators + 1)
        plan = self._plan.for_generators()
        shares = enumerate(itertools.product(sites, generators), start=1)
        shards = {
            number: Shard(
                plan=plan,
                generator=generator,
                generators=self._plan.voters.generators,
                host=site.host,
                port=site.port,
                ledger_folder=str(site.ledger_folder),
                ready_file=str(folder / f"ready-{number}"),
                start_file=str(folder / "start"),
                report_file=str(folder / f"report-{number}.json"),
                void_for_s=void_for_s,
            )
            for number, (site, generator) in shares
        }
        lasts_s = void_for_s or self._plan.duration_s
        start_s = self._plan.limits.start_s
        if self._plan.voters.master:
            start_s += MASTER_S
            master = self._spawn_master(tuple(shards.values()), lasts_s, folder)
            children = self.children = [master]
        else:
            children = self.children = [self._spawn(*share, folder) for share in shards.items()]
        try:
            for shard, child in zip(shards.values(), itertools.cycle(children), strict=False):
                is_ready = Path(shard.ready_file).exists
                self._supervisor.wait_until_ready(child, is_ready, start_s)
            lead_ns = REMOTE_LEAD_NS if self._plan.voters.master else LEAD_NS
            start_ns = time.monotonic_ns() + lead_ns
            write_atomically(folder / "start", str(start_ns).encode())
            on_start(start_ns)
            self._watch(children, start_ns, lasts_s, on_tick)
        finally:
            for child in children:
                child.stop(STOP_S)
        for child in children:
            require_no_failure(child)
        found = {n: GeneratorReport.read(Path(shard.report_file)) for n, shard in shards.items()}
        reports = {number: report for number, report in found.items() if report}
        ended_early = tuple(sorted(found.keys() - reports.keys()))
        # Who could not tell why it has no report has not told anything.
        lost = tuple(n for n in ended_early if not Path(shards[n].report_file).exists())
        lost = lost if self._plan.voters.master else ()
        return FleetReport(start_ns, reports, ended_early, lost)

    def _spawn_master(self, shards: tuple[Shard, ...], lasts_s: float, folder: Path) -> Child:
        """What has workers on other machines play the shards. Raises PlanError."""
        plan = self._plan
        order = MasterOrder(
            shards=shards,
            host=host_of(plan.voters.master, "voters.master"),
            port=int(plan.voters.master.rpartition(":")[2]),
            patience_s=plan.limits.start_s,
            lasts_s=lasts_s + plan.voters.timeout_s + plan.limits.grace_s,
            transfer_s=transfer_s(plan),
        )
        path = folder / "master.json"
        write_atomically(path, msgspec.json.encode(order))
        return self._supervisor.spawn(
            "master of the workers",
            [sys.executable, "-m", "harness.load.master", str(path)],
            log=self._logs / "master.log",
            cpus=share_cores().generator,
        )

    def _spawn(self, number: int, shard: Shard, folder: Path) -> Child:
        path = folder / f"shard-{number}.json"
        shard.write(path)
        allowed = os.environ.get(ALLOW_TARGET)
        return self._supervisor.spawn(
            f"generator {number}",
            [sys.executable, "-m", "harness.load.generator", str(path)],
            log=self._logs / f"generator-{number}.log",
            cpus=share_cores().generator,
            env={ALLOW_TARGET: allowed} if allowed else None,
        )

    def _watch(
        self,
        children: list[Child],
        start_ns: int,
        lasts_s: float,
        on_tick: Callable[[float], None],
    ) -> None:
        """Until all have ended by themselves, or have had all the time that the plan gives them."""
        plan = self._plan
        limit_s = lasts_s + plan.voters.timeout_s + plan.limits.grace_s + STOP_S
        if plan.voters.master:
            limit_s += MASTER_S + transfer_s(plan)
        elapsed_s = 0.0
        while elapsed_s < limit_s and any(child.poll() is None for child in children):
            time.sleep(TICK_S)
            elapsed_s = (time.monotonic_ns() - start_ns) / 1e9
            on_tick(max(0.0, elapsed_s))


def require_no_failure(child: Child) -> None:
    """Raises the error that a generator ended with; one that was killed has none."""
    code = child.poll()
    if code == CANNOT_RECORD:
        raise RecordingError(child.log_tail().removeprefix("generator: "))
    if code is not None and code > 0 and code != Exit.INTERRUPTED:
        raise ServiceError(f"{child.name}: {child.log_tail()} ({child.log})")
