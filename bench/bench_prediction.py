"""Does the simulator predict what was not measured? `classic` in a closed loop, on all cores.

From journals of 4 and 16 real writer processes it is told how long things take; what 8, 24 and 32
do it predicts, and these are measured as well, all in one session and interleaved. The settings
below were fixed before anything was measured.
"""

from os import sched_getaffinity
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.table import Table

from bench.figure import Figure, Measurement, Target, figure
from bench.simulated_competition import BEGIN_NS, Competition, journal_of
from bench.writers import Writers, WritersResult, started_writers
from harness.history.journal import Role
from harness.history.store import collect_journal, connect, quoted
from harness.protocol.commands import COMMAND_CODES, Incr, KeyKind
from harness.simulation.calibration import (
    WARM_NS,
    failed_tries,
    from_journals,
    times_from,
    with_naps_of,
)
from harness.simulation.service_times import Quantiles, ServiceTimes, quantiles

CALIBRATED_AT: Final = (4, 16)
PREDICTED_AT: Final = (8, 24, 32)
ROUNDS: Final = 5  # of some 15 s
LASTS_S: Final = 2.0
RATE_WITHIN: Final = 0.15
WAIT_WITHIN: Final = 0.25
TRY: Final = COMMAND_CODES[Incr]
MS: Final = 1e6


class Observed(NamedTuple):
    """One round of so many writers, real or simulated."""

    votes_per_s: float
    wait_p50_ms: float  # from the first try for the lock to the answer that lets in
    wait_p99_ms: float


def prediction() -> list[Figure]:
    names = {"rate": "votes/s", "wait-p50": "ms", "wait-p99": "ms"}
    real: dict[int, list[Observed]] = {n: [] for n in (*CALIBRATED_AT, *PREDICTED_AT)}
    journals: list[pd.DataFrame] = []
    crowded: list[pd.DataFrame] = []  # of the most writers that are calibrated with
    cpu_s = 0.0
    with started_writers(ahead=True) as pool:
        for number in range(ROUNDS):
            order = sorted(real) if number % 2 else sorted(real, reverse=True)
            for writers in order:
                result, observed, journal = measured(pool, writers)
                real[writers].append(observed)
                if writers in CALIBRATED_AT:
                    journals.append(journal)
                if writers == max(CALIBRATED_AT):
                    crowded.append(journal)
                    cpu_s += result.writers_cpu_s
    found = from_journals(journals)
    between_ns = between_votes(journals)
    client_ns, each_ns = float(np.median(found["client_ns"])), float(np.mean(between_ns))
    found = with_naps_of(nap_ns(cpu_s, crowded, client_ns, each_ns), found)
    origin = f"measured with {' and '.join(map(str, CALIBRATED_AT))} writers"
    times = times_from(found, origin, len(sched_getaffinity(0)))
    figures = []
    shown = Table(title="predicted and measured, medians of the rounds", title_justify="left")
    for heading in ("writers", "figure", "predicted", "measured", "error"):
        shown.add_column(heading, justify="right")
    for writers in sorted(real):
        seeds = range(1, ROUNDS + 1)
        played = [simulated(writers, times, seed, quantiles(between_ns)) for seed in seeds]
        for index, (name, unit) in enumerate(names.items()):
            predicted = median(each[index] for each in played)
            true = median(each[index] for each in real[writers])
            error = f"{predicted / true - 1:+.0%}"
            note = " (calibrated here)" if writers in CALIBRATED_AT else ""
            cells = (f"{writers}{note}", name, f"{predicted:,.4g}", f"{true:,.4g}", error)
            shown.add_row(*cells)
            if writers in PREDICTED_AT:
                rounds = [(predicted, each[index]) for each in real[writers]]
                figures.append(
                    figure(f"prediction.{name}-{writers}", unit, "measured", rounds, TARGETS[name])
                )
    Console(width=100).print(shown)
    return figures


TARGETS: Final = {
    "rate": Target("ratio", "within", RATE_WITHIN),
    "wait-p50": Target("ratio", "within", WAIT_WITHIN),
    "wait-p99": None,
}


def nap_ns(cpu_s: float, journals: list[pd.DataFrame], client_ns: float, vote_ns: float) -> float:
    """The processor time of a nap: what writers used beyond their commands and between votes."""
    sites = [journal[journal.role == int(Role.SITE)] for journal in journals]
    naps = sum(int(failed_tries(site).sum()) for site in sites)
    votes = sum(len(site.groupby(["pid", "operation"])) for site in sites)
    known_ns = client_ns * sum(map(len, sites)) + vote_ns * votes
    return max(cpu_s * 1e9 - known_ns, 0.0) / naps


def between_votes(journals: list[pd.DataFrame]) -> npt.NDArray[np.float64]:
    """From a vote's last answer to the next one's first command, in ns, less the usual pause
    between two commands: what runs once for each vote finds its caches cold.

    Pauses of `WARM_NS` or more are of writers that had lost their core.
    """
    between: list[npt.NDArray[np.float64]] = []
    within: list[npt.NDArray[np.float64]] = []
    for journal in journals:
        site = journal[(journal.role == int(Role.SITE)) & (journal.end_ns > 0)]
        site = site.sort_values(["pid", "begin_ns"], kind="stable")
        last = site.groupby("pid", sort=False)
        pause_ns = site.begin_ns - last.end_ns.shift(1)
        same = site.operation == last.operation.shift(1)
        short = pause_ns < WARM_NS
        between.append(pause_ns[short & ~same].to_numpy(np.float64))
        napped = failed_tries(site).shift(1, fill_value=False)
        within.append(pause_ns[short & same & ~napped].to_numpy(np.float64))
    usual_ns = float(np.median(np.concatenate(within)))
    return np.maximum(np.concatenate(between) - usual_ns, 0.0)


def measured(pool: Writers, writers: int) -> tuple[WritersResult, Observed, pd.DataFrame]:
    with TemporaryDirectory(prefix="pollstorm-") as folder:
        result = pool.measure("classic", writers, LASTS_S, Path(folder))
        parquet = Path(folder) / "journal.parquet"
        collect_journal(Path(folder), parquet)
        with connect() as connection:
            journal = connection.execute(f"SELECT * FROM {quoted(parquet)}").df()
    return result, observed_in(journal, result.start_ns, result.votes_per_s), journal


def simulated(writers: int, times: ServiceTimes, seed: int, between_ns: Quantiles) -> Observed:
    competition = Competition("classic", writers, times, times.cores, seed, between_ns=between_ns)
    played = competition.play(LASTS_S)
    return observed_in(journal_of(played.records), BEGIN_NS, played.votes / LASTS_S)


def observed_in(journal: pd.DataFrame, start_ns: int, votes_per_s: float) -> Observed:
    """With the waits of those who began to wait in the time."""
    is_try = (journal.command == TRY) & (journal.key == int(KeyKind.LOCK)) & (journal.end_ns > 0)
    tries = journal[is_try & (journal.role == int(Role.SITE))]
    each = tries.groupby(["pid", "operation"])
    began_ns, let_in_ns = each.begin_ns.min(), each.end_ns.max()
    in_time = (began_ns >= start_ns) & (began_ns < start_ns + round(LASTS_S * 1e9))
    waits_ms = (let_in_ns - began_ns)[in_time].to_numpy() / MS
    p50, p99 = np.quantile(waits_ms, [0.5, 0.99])
    return Observed(votes_per_s, float(p50), float(p99))


MEASUREMENTS: Final = (
    Measurement(
        tuple(f"prediction.{name}-{writers}" for name in TARGETS for writers in PREDICTED_AT),
        prediction,
    ),
)
