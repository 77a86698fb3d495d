"""So many real writer processes on one queue, and one that drains it: what they did, for real."""

import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil

from bench.competitor import Order, Report
from harness.database import schema
from harness.history.store import collect_journal
from harness.plan import DatabasePlan, Deployment, FlusherPlan, MemcachedPlan, Plan
from harness.run_folder import write_atomically
from harness.services.mariadb import start_mariadb
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor

START_LIMIT_S: Final = 60.0
LEAD_NS: Final = 200_000_000
END_LIMIT_S: Final = 30.0  # a writer that waits for the lock does so for a second or little more
PLAN: Final = Plan(scenario="competition", flusher=FlusherPlan(interval_s=0.2))


class Observed(NamedTuple):
    """What was measured in one run."""

    writers: int
    start_ns: int
    lasts_s: float
    votes: int  # acknowledged
    writers_cpu_s: float
    memcached_cpu_s: float
    journal: Path  # Parquet


def compete(mode: str, writers: int, lasts_s: float, folder: Path) -> Observed:
    """Fresh services, unpinned, as many processes as cores can hold. Raises PollstormError."""
    folder.mkdir(parents=True)
    with Supervisor() as supervisor:
        memcached = start_memcached(supervisor, MemcachedPlan(), folder / "memcached.log")
        mariadb = start_mariadb(supervisor, DatabasePlan(), folder / "mariadb.log")
        schema.create(mariadb.url, PLAN.poll.poll())
        deployment = Deployment(
            plan=PLAN,
            mode=mode,
            memcached=(memcached.address,),
            database=mariadb.url,
            folder=str(folder),
        )
        orders = [
            Order(
                number=number,
                deployment=deployment,
                lasts_s=lasts_s,
                ready_file=str(folder / f"ready-{number}"),
                start_file=str(folder / "start"),
                report_file=str(folder / f"report-{number}.json"),
            )
            for number in range(writers + 1)
        ]
        children = []
        for order in orders:
            path = folder / f"order-{order.number}.json"
            path.write_bytes(msgspec.json.encode(order))
            argv = [sys.executable, "-m", "bench.competitor", str(path)]
            log = folder / f"competitor-{order.number}.log"
            children.append(supervisor.spawn(f"competitor {order.number}", argv, log=log))
        for order, child in zip(orders, children, strict=True):
            supervisor.wait_until_ready(child, Path(order.ready_file).exists, START_LIMIT_S)
        daemon = psutil.Process(memcached.child.pid)
        start_ns = time.monotonic_ns() + LEAD_NS
        before_s = sum(daemon.cpu_times()[:2])
        write_atomically(folder / "start", str(start_ns).encode())
        for child in children:
            child.wait(lasts_s + END_LIMIT_S)
        cpu_s = sum(daemon.cpu_times()[:2]) - before_s
    reports = [
        msgspec.json.decode(Path(order.report_file).read_bytes(), type=Report)
        for order in orders[1:]
    ]
    journal = folder / "journal.parquet"
    collect_journal(folder, journal)
    return Observed(
        writers=writers,
        start_ns=start_ns,
        lasts_s=lasts_s,
        votes=sum(report.votes for report in reports),
        writers_cpu_s=sum(report.cpu_s for report in reports),
        memcached_cpu_s=cpu_s,
        journal=journal,
    )
