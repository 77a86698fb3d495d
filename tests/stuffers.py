"""A process that races others for the one vote of some voters, in several modes.

`python -m tests.stuffers DEPLOYMENT NUMBER`: for each mode named on standard input, all at the
same moment, it casts a vote of its own for each voter; then it prints what it was told.
"""

import json
import sys
import time
from pathlib import Path

import msgspec

from harness.deployment import Deployment
from harness.modes.mode import find_mode
from harness.plan import QueuePlan
from harness.vote import Vote, mint

VOTERS = 20
MODES = ["direct", "cached", "classic", "owned", "ticket", "mirrored"]


def deployed(deployment: Deployment, mode: str) -> Deployment:
    """The mode with a queue of its own, and voters who wait until they are let in."""
    plan = msgspec.structs.replace(
        deployment.plan, queue=QueuePlan(prefix=f"stuffed-{mode}", patience_s=5.0)
    )
    return msgspec.structs.replace(deployment, plan=plan, mode=mode)


def vote(process: int, mode: str, voter: int) -> Vote:
    number = MODES.index(mode) * VOTERS + voter
    return Vote(mint(process, number), f"poll-{mode}", 1 + voter % 3, f"v{voter}", once=True)


def main(path: str, process: int) -> None:
    deployment = Deployment.read(Path(path))
    sessions = {m: find_mode(m).session(deployed(deployment, m), None) for m in MODES}
    print("ready", flush=True)
    start_s = float(sys.stdin.readline())
    told: dict[str, list[str]] = {}
    for number, (mode, session) in enumerate(sessions.items()):
        time.sleep(max(0.0, start_s + number * 0.2 - time.monotonic()))
        voters = range(VOTERS) if process % 2 else reversed(range(VOTERS))
        answers = {voter: session.accept(vote(process, mode, voter)).name for voter in voters}
        told[mode] = [answers[voter] for voter in range(VOTERS)]
        session.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
