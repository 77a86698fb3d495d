"""What a check of two made-up versions found, to be judged."""

from random import Random

import msgspec

from harness.gate.check import MARGINS, Findings, Order, judge
from harness.gate.duet import SIDES, Duet, Slices
from harness.gate.outcome import Counts, ModeCheck, Votes

COUNTS = Counts(
    memcached_commands=3,
    memcached_round_trips=2,
    sql_statements=0,
    sql_round_trips=0,
    votes=Votes(sent=251, acknowledged=251, lost=0, doubled=0),
)
KEPT = Votes(sent=8000, acknowledged=8000, lost=0, doubled=0)
STARTS = 8


def order(**margins: float) -> Order:
    return Order(["ticket"], 40, 200.0, MARGINS | margins, seed=1, starts=STARTS)


def duet(
    slower: float = 0.0, *, noise: float = 0.01, doubts: tuple[str, ...] = (), starts: int = STARTS
) -> Duet:
    random = Random(1)
    played = []
    for _ in range(starts):
        slices = {side: Slices([], [], []) for side in SIDES}
        for _ in range(5):
            machine = random.uniform(1.0, 2.0)
            for side in SIDES:
                factor = 1 + slower if side == "candidate" else 1.0
                for figure in slices[side]:
                    figure.append(machine * factor * random.lognormvariate(0, noise))
        played.append(slices)
    return Duet(tuple(played), dict.fromkeys(SIDES, KEPT), doubts)


def of_candidate(votes: Votes) -> Duet:
    return duet()._replace(votes={"baseline": KEPT, "candidate": votes})


def judged(found: Findings, mode: str = "ticket", **margins: float) -> ModeCheck:
    return judge({mode: found}, order(**margins))[mode]


def counts(**changes: float | Votes) -> dict[str, Counts]:
    return {"baseline": COUNTS, "candidate": msgspec.structs.replace(COUNTS, **changes)}
