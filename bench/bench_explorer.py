"""The explorer: how quickly it visits states, and what it takes to visit them all.

All of cold `classic` with 3 writers, 2 readers and one takeover is what a plain search of this kind
does not come to the end of in reasonable time. Here neither search stops at the first loss.
"""

import subprocess
import sys
from collections import deque
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from harness.exploration.bounds import ALL, PLAIN, Bounds
from harness.exploration.search import Search
from harness.exploration.space import Space, State
from harness.protocol import classic

WHOLE: Final = Bounds(writers=3, readers=2, takeovers=1, cold=True)
SMALL: Final = Bounds(writers=2, readers=2, takeovers=1, cold=True)
VISIT_ROUNDS: Final = 5  # of some 10 s, nearly all of it the other's
EXHAUST_ROUNDS: Final = 3  # of some 5 s; the other takes minutes, and is measured once
LIMIT_S: Final = 900.0  # for one search of all; the slowest took 160 s
TARGET_S: Final = 60.0
TARGET_GIB: Final = 4.0


class Exhausted(msgspec.Struct, frozen=True):
    """What one search of all took, in a process of its own."""

    states: int
    seconds: float
    peak_gib: float


def visits() -> list[Figure]:
    """The same states, without any reduction."""
    rounds = in_turn(visited_per_s, visited_by_hand_per_s, VISIT_ROUNDS)
    return [figure("explorer.states", "states/s", "a set and a queue of tuples", rounds)]


def visited_per_s() -> float:
    finding = Search(Space(classic.protocol, SMALL, PLAIN), to_the_end=True).run()
    return finding.states / finding.seconds


def visited_by_hand_per_s() -> float:
    """As one would write it: it judges no state and keeps no path."""
    begin_s = perf_counter()
    space = Space(classic.protocol, SMALL, PLAIN)
    start = space.start()
    seen: set[State] = {start}
    ahead = deque([start])
    while ahead:  # the space is finite
        for state, _ in space.successors(ahead.popleft()):
            if state not in seen:
                seen.add(state)
                ahead.append(state)
    return len(seen) / (perf_counter() - begin_s)


def exhaustion() -> list[Figure]:
    plain = exhausted("plain")
    ours = [exhausted("reduced") for _ in range(EXHAUST_ROUNDS)]
    other = "without reductions"
    return [
        figure(
            "explorer.exhaust",
            "s",
            other,
            [(each.seconds, plain.seconds) for each in ours],
            Target("value", "<", TARGET_S),
        ),
        figure(
            "explorer.memory",
            "GiB",
            other,
            [(each.peak_gib, plain.peak_gib) for each in ours],
            Target("value", "<", TARGET_GIB),
        ),
        figure("explorer.space", "states", other, [(each.states, plain.states) for each in ours]),
    ]


def exhausted(search: str) -> Exhausted:
    command = [sys.executable, "-m", "bench.bench_explorer", search]
    output = subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S).stdout
    return msgspec.json.decode(output, type=Exhausted)


def exhaust(search: str) -> Exhausted:
    """Visit all states, in this process."""
    reductions = {"reduced": ALL, "plain": PLAIN}[search]
    finding = Search(Space(classic.protocol, WHOLE, reductions), to_the_end=True).run()
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory too
    peak_gib = int(status.split("VmHWM:")[1].split()[0]) / 2**20
    return Exhausted(finding.states, finding.seconds, peak_gib)


MEASUREMENTS: Final = (
    Measurement(("explorer.states",), visits),
    Measurement(("explorer.exhaust", "explorer.memory", "explorer.space"), exhaustion),
)

if __name__ == "__main__":
    print(msgspec.json.encode(exhaust(sys.argv[1])).decode())
