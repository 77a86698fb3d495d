"""A mode at work on real services, without a site around it."""

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec

from harness.armed import ArmedPage
from harness.database.ballots import read_ballots
from harness.deployment import Deployment
from harness.faults.fault import Reach
from harness.modes.mode import Session, find_mode
from harness.plan import Plan, QueuePlan
from harness.services.flusher import Flushers
from harness.services.memcached import MemcachedServer
from harness.services.stack import Stack
from harness.vote import Vote, mint

PLAN = Plan(scenario="test", queue=QueuePlan(prefix="test-queue", patience_s=0.05))
POLL = PLAN.poll.poll()


def vote(number: int, choice: int = 1) -> Vote:
    return Vote(mint(0, number), POLL.name, choice, "v")


def session(deployment: Deployment, mode: str) -> "closing[Session]":
    return closing(find_mode(mode).session(deployment, None))


def counted(deployment: Deployment) -> dict[int, int]:
    frame = read_ballots(deployment.database, 5.0)
    return dict(zip(frame["vote"].tolist(), frame["deliveries"].tolist(), strict=True))


def flush(deployment: Deployment, mode: str = "classic") -> int:
    """Run a real flusher until it has seen the queue empty; its exit code."""
    deployment.make_folder()
    path = Path(deployment.folder) / "flusher.json"
    msgspec.structs.replace(deployment, mode=mode).write(path)
    ready = Path(deployment.folder) / "flusher.ready"
    ready.unlink(missing_ok=True)
    flusher = subprocess.Popen([sys.executable, "-m", "harness.flusher", str(path)])
    until_s = time.monotonic() + 10
    while not ready.exists() and time.monotonic() < until_s:
        time.sleep(0.01)
    flusher.terminate()
    return flusher.wait(20)


def voter(deployment: Deployment, mode: str, folder: Path) -> "subprocess.Popen[bytes]":
    """A process that casts vote 1 and prints the answer.

    From a thread beside the main one, on one core, as in the site: a stop that another thread has
    to carry out comes after the voter has gone on.
    """
    path = folder / "voter.json"
    deployment.write(path)
    program = (
        "import os, sys, threading; from pathlib import Path\n"
        "from harness.deployment import Deployment\n"
        "from harness.modes.mode import find_mode; from harness.vote import Vote, mint\n"
        "deployment = Deployment.read(Path(sys.argv[1]))\n"
        "vote = Vote(mint(0, 1), deployment.plan.poll.name, 1, 'v')\n"
        "session = find_mode(sys.argv[2]).session(deployment, None)\n"
        "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
        "voter = threading.Thread(target=lambda: print(session.accept(vote).name))\n"
        "voter.start(); voter.join()"
    )
    return subprocess.Popen([sys.executable, "-c", program, path, mode], stdout=subprocess.PIPE)


def reach(deployment: Deployment, page: ArmedPage, *memcached: MemcachedServer) -> Reach:
    """Of a fault in a trial that has these daemons, and neither site nor flusher."""
    return Reach(Stack(deployment, None, Flushers(()), memcached, None, page))


def await_hit(page: ArmedPage) -> None:
    until_s = time.monotonic() + 10
    while not page.hits() and time.monotonic() < until_s:
        time.sleep(0.005)
