"""A duet: both versions at once, under the same arrivals, slice by slice.

Both are started, warmed up and loaded well below what they can take; then the time is cut into
slices, and each figure of a slice is taken from both. That is done several times, each with both
started afresh, in the other order: what a process was dealt when it started it keeps, and whoever
was first may have the better place in the machine.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic_ns
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.analysis.validity import WAKE_LAG_P99_MS
from harness.gate.outcome import Votes, sum_of
from harness.gate.sites import RunningSite, starting
from harness.gate.versions import Version
from harness.history.ledger import LEDGER_DTYPE, RequestKind
from harness.load.fleet import Fleet
from harness.plan import Arrivals, Plan
from harness.services.processes import Supervisor
from harness.vote import Outcome

Rows: TypeAlias = npt.NDArray[np.void]

TAIL_S: Final = 0.5  # after the last slice, so that it is a whole one
REFUSED_SHARE: Final = 0.001  # of the votes: with more, the load was not well below what it takes
SIDES: Final = ("baseline", "candidate")


class Slices(NamedTuple):
    """Each figure of one side in one start, slice by slice; larger is worse."""

    p50_ms: list[float]
    p99_ms: list[float]
    cpu_ms: list[float]  # of all its services, per vote


class Duet(NamedTuple):
    """What was measured, start by start and by side; `doubts`: sentences, why it proves nothing."""

    starts: tuple[dict[str, Slices], ...]
    votes: dict[str, Votes]
    doubts: tuple[str, ...]


class Tempo(NamedTuple):
    """How a duet is played."""

    warm_up_s: float = 1.2  # threads connect, and the database's pages come into its memory
    slice_s: float = 0.8  # enough for a median of some hundred votes, short against the noise


USUAL: Final = Tempo()


class Moment(NamedTuple):
    """When the processor time of both sides was read, and how much each had used."""

    at_ns: int
    cpu_ns: tuple[int, int]


def play(
    versions: tuple[Version, Version],
    mode: str,
    starts: int,
    pairs: int,
    rate_per_s: float,
    seed: int,
    supervisor: Supervisor,
    logs: Path,
    tempo: Tempo = USUAL,
) -> Duet:
    """Both sides' slices: so many pairs or some more, dealt out to so many starts.

    Raises PollstormError.
    """
    each = -(-pairs // starts)
    return pooled(
        [
            _start(versions, mode, each, rate_per_s, seed + number, supervisor, logs, number, tempo)
            for number in range(starts)
        ]
    )


def pooled(duets: Sequence[Duet]) -> Duet:
    """All their starts and votes together."""
    return Duet(
        tuple(start for duet in duets for start in duet.starts),
        {side: sum_of([duet.votes[side] for duet in duets]) for side in SIDES},
        tuple(dict.fromkeys(doubt for duet in duets for doubt in duet.doubts)),
    )


def _start(
    versions: tuple[Version, Version],
    mode: str,
    slices: int,
    rate_per_s: float,
    seed: int,
    supervisor: Supervisor,
    logs: Path,
    number: int,
    tempo: Tempo,
) -> Duet:
    """Start both, in an order that the start's number decides, and load them together."""
    folder = supervisor.temporary_directory()
    order = SIDES if number % 2 == 0 else SIDES[::-1]
    ready: dict[str, Callable[[], RunningSite]] = {}
    with ExitStack() as ending:
        for side in order:
            log = logs / f"{mode}-{side}-{number + 1}.log"
            version = versions[SIDES.index(side)]
            ready[side] = ending.enter_context(starting(version, mode, supervisor, log))
            (folder / side).mkdir()
        sites = {side: ready[side]() for side in order}
        loaded = [sites[side].loaded(folder / side) for side in order]
        plan = Plan(
            scenario="duet",
            duration_s=tempo.warm_up_s + slices * tempo.slice_s + TAIL_S,
            seed=seed,
            arrivals=Arrivals(trickle_per_s=rate_per_s),
        )
        moments: list[Moment] = []

        def look(elapsed_s: float) -> None:
            due_s = tempo.warm_up_s + len(moments) * tempo.slice_s
            if elapsed_s >= due_s and len(moments) <= slices:
                used = tuple(sites[side].cpu_ns() for side in SIDES)
                moments.append(Moment(monotonic_ns(), (used[0], used[1])))

        report = Fleet(plan, supervisor, logs, *loaded).run(on_tick=look)
        ledgers = {side: _ledger(folder / side) for side in SIDES}
        votes = {side: _votes(sites[side], ledgers[side]) for side in SIDES}
        for site in sites.values():
            site.child.ask_to_end()  # together, which takes half as long
    supervisor.remove(folder)
    found = paired(
        {
            side: sliced(taken(ledgers[side]), [(at, cpu[n]) for at, cpu in moments])
            for n, side in enumerate(SIDES)
        }
    )
    doubts = [doubt for side in SIDES for doubt in _doubts(side, ledgers[side])]
    if report.partial:
        doubts.append("A load generator was killed, and its voters never came.")
    if report.short_of_users:
        doubts.append("The load generator had fewer users than the load takes; lower the rate.")
    if (measured := len(found["baseline"].p50_ms)) <= slices / 2:
        doubts.append(f"In a start only {measured} of {slices} slices could be measured.")
    return Duet((found,) if measured else (), votes, tuple(doubts))


def sliced(ledger: Rows, moments: Sequence[tuple[int, int]]) -> Slices:
    """The figures between each two moments, of the votes sent then and taken; NaN without any.

    A moment is a time and the processor time used up to it, in ns.
    """
    slices = Slices([], [], [])
    sent_ns, answered_ns = ledger["sent_ns"], ledger["answered_ns"]
    for (begin_ns, before_ns), (end_ns, after_ns) in itertools.pairwise(moments):
        here = (sent_ns >= begin_ns) & (sent_ns < end_ns)
        took_ms = (answered_ns[here] - sent_ns[here]) / 1e6
        sent = len(took_ms)
        slices.p50_ms.append(float(np.median(took_ms)) if sent else math.nan)
        slices.p99_ms.append(float(np.quantile(took_ms, 0.99)) if sent else math.nan)
        slices.cpu_ms.append((after_ns - before_ns) / 1e6 / sent if sent else math.nan)
    return slices


def paired(slices: dict[str, Slices]) -> dict[str, Slices]:
    """Only the slices that were measured on both sides.

    In some a side was sent no vote, or a thread ended and took its processor time with it.
    """
    figures = [figure for each in slices.values() for figure in each]
    whole = [
        number
        for number, values in enumerate(zip(*figures, strict=True))
        if all(value > 0 for value in values)
    ]
    return {
        side: Slices(*([figure[number] for number in whole] for figure in each))
        for side, each in slices.items()
    }


def taken(votes: Rows) -> Rows:
    """Those that were acknowledged: a refusal is quick, and costs little."""
    acknowledged: Rows = votes[votes["outcome"] == Outcome.ACKNOWLEDGED]
    return acknowledged


def _ledger(folder: Path) -> Rows:
    """All votes that were sent and answered."""
    files = sorted(folder.glob("ledger-*.bin"))  # none if its generator never began
    rows: Rows = np.concatenate(
        [np.zeros(0, LEDGER_DTYPE)] + [np.fromfile(f, LEDGER_DTYPE) for f in files]
    )
    votes: Rows = rows[(rows["answered_ns"] > 0) & (rows["kind"] == RequestKind.VOTE)]
    return votes


def _votes(site: RunningSite, ledger: Rows) -> Votes:
    """What became of them, by that version's own database."""
    acknowledged = set(taken(ledger)["vote"].tolist())
    ballots = site.settled_ballots(acknowledged)
    return Votes(
        sent=len(ledger),
        acknowledged=len(acknowledged),
        lost=len(acknowledged - ballots.keys()),
        doubled=sum(deliveries > 1 for deliveries in ballots.values()),
    )


def _doubts(side: str, ledger: Rows) -> list[str]:
    """Whether the generator was starved, or the load not well below what the baseline takes.

    A candidate that alone refuses votes is no doubt, but worse.
    """
    doubts = []
    woke_ns = ledger["sent_ns"] - np.maximum(ledger["planned_ns"], ledger["taken_ns"])
    late_ms = float(np.quantile(woke_ns, 0.99)) / 1e6 if len(woke_ns) else 0.0
    if late_ms > WAKE_LAG_P99_MS:
        doubts.append(
            f"The load generator was starved: beside the {side} free users woke {late_ms:.0f} ms "
            f"late (p99), {WAKE_LAG_P99_MS:.0f} ms are allowed."
        )
    took = len(taken(ledger))
    if side == SIDES[0] and len(ledger) - took > REFUSED_SHARE * len(ledger):
        doubts.append(
            f"The {side} took only {took:,} of {len(ledger):,} votes: the rate is too high for it."
        )
    return doubts
