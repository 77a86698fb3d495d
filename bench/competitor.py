"""One process that votes, or drains, in a closed loop: `python -m bench.competitor ORDER`.

ORDER is a JSON file. The process connects, says that it is ready, waits for the start, works until
the end, and leaves its journal and a report.
"""

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from harness.history.journal import Journal, Role
from harness.modes.hands import Hands
from harness.modes.mode import find_mode
from harness.modes.queues import queues, terms
from harness.plan import Deployment
from harness.protocol.drive import drive
from harness.protocol.queue import DrainEnd, Receipt
from harness.run_folder import write_atomically
from harness.vote import Vote, mint

LOOK_S: Final = 0.001
NS_PER_S: Final = 1_000_000_000


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Writers are numbered from 1; 0 drains."""

    number: int
    deployment: Deployment
    lasts_s: float
    ready_file: str
    start_file: str  # holds the start, CLOCK_MONOTONIC in ns
    report_file: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the process did between start and end."""

    votes: int  # acknowledged, or drained
    cpu_s: float


def main(path: str) -> int:
    order = msgspec.json.decode(Path(path).read_bytes(), type=Order)
    role = Role.SITE if order.number else Role.FLUSHER
    journal = Journal(Path(order.deployment.folder), role)
    with closing(Hands(order.deployment, role, journal, breakers=False)) as hands:
        hands.clients[0].version()
        hands.ballots.is_reachable()
        start_ns = wait_for_start(order)
        end_ns = start_ns + round(order.lasts_s * NS_PER_S)
        begin_cpu_s = time.process_time()
        work = vote_until if order.number else drain_until
        votes = work(order, hands, journal, end_ns)
        report = Report(votes=votes, cpu_s=time.process_time() - begin_cpu_s)
    write_atomically(Path(order.report_file), msgspec.json.encode(report))
    return 0


def wait_for_start(order: Order) -> int:
    Path(order.ready_file).touch()
    start = Path(order.start_file)
    while not start.exists():  # whoever started us ends us
        time.sleep(LOOK_S)
    start_ns = int(start.read_bytes())
    time.sleep(max(0, start_ns - time.monotonic_ns()) / NS_PER_S)
    return start_ns


def vote_until(order: Order, hands: Hands, journal: Journal, end_ns: int) -> int:
    """The next vote as soon as the last one is acknowledged."""
    plan = order.deployment.plan
    protocol = find_mode(order.deployment.mode).protocol(terms(plan))
    queue = queues(plan)[0]
    sequence = acknowledged = 0
    while time.monotonic_ns() < end_ns:
        vote_id = mint(order.number, sequence)
        vote = Vote(vote_id, plan.poll.name, 1, f"v{vote_id:016x}")
        journal.start_operation(0)
        receipt = drive(protocol.vote(queue, vote.to_message()), hands.execute)
        acknowledged += receipt in (Receipt.QUEUED, Receipt.STORED)
        sequence += 1
    return acknowledged


def drain_until(order: Order, hands: Hands, journal: Journal, end_ns: int) -> int:
    """A drain at each interval, as the flusher does."""
    plan = order.deployment.plan
    protocol = find_mode(order.deployment.mode).protocol(terms(plan))
    assert protocol.drain
    queue = queues(plan)[0]
    interval_ns = round(plan.flusher.interval_s * NS_PER_S)
    votes = 0
    due_ns = time.monotonic_ns()
    while (now_ns := time.monotonic_ns()) < end_ns:
        if now_ns < due_ns:
            time.sleep((due_ns - now_ns) / NS_PER_S)
            continue
        journal.start_operation(0)
        drained = drive(protocol.drain(queue), hands.execute)
        votes += len(drained.messages) if drained.end is DrainEnd.COMMITTED else 0
        due_ns = max(due_ns + interval_ns, time.monotonic_ns())
    return votes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
