"""Service times measured in the histories of a real run.

What is estimated from what. A command is *alone* if no other command of anybody was under way,
and *warm* if its thread had another answered less than `WARM_NS` before: everybody is awake then,
nobody queues, and its time is the computing of both sides.

    memcached_ns, client_ns   alone and warm commands of memcached. The journal sees their sum; it
                              is shared out by `DAEMON_SHARE`. The client has the time between
                              two commands of one operation besides.
    pipelined_ns              commands of pipelines: their whole time over their number.
    oversleep_ns              from a failed try for the lock to the next one that is alone, less the
                              nap, but at most what the kernel's timers allow themselves.
    awakened_ns               what the pause was longer than that, and by how much the try then took
                              longer than usual. (A core that sleeps takes long to wake, and caches
                              are cold.) Where the processor time of naps is known, that much of it
                              is computing, and the rest belongs to `oversleep_ns`.
    insert_ns, commit_ns      ballots inserted alone; computing is what the database's processor
                              time comes to for each insert and count, the rest is waiting. It is
                              read off the trials in which nothing else was asked of it.
    row_ns                    batches: what a ballot more costs.
    http_ns, python_ns        requests that were alone: what is left of the time from sent to
                              answered without the commands. Computing, half and half, is as much of
                              it as the site's processor time comes to for each request without what
                              its commands and naps take.
    way_ns                    the rest of that.
    wake_lag_ns               how late free voters sent.

What else the machine had to do meanwhile is contained in all of these. What a run cannot tell it
does not: `switch_each_ns` and `wake_ns` are contained in the times that are measured, and are 0
beside them; `count_row_ns`, and all for which the run has fewer than `ENOUGH` cases, are taken from
the service times that come with pollstorm. `origin` names them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.errors import HistoryError, PlanError
from harness.history.journal import JOURNAL_DTYPE, Role
from harness.history.ledger import LEDGER_DTYPE, RequestKind
from harness.history.store import quoted, reading, require_columns
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    Delete,
    Get,
    Incr,
    InsertBallot,
    KeyKind,
    Set,
    Status,
)
from harness.protocol.queue import NAP_NS
from harness.run_folder import RunFolder, TrialFacts, TrialFolder
from harness.simulation.service_times import (
    PROBABILITIES,
    Quantiles,
    ServiceTimes,
    constant,
    quantiles,
    shipped,
)

Values = npt.NDArray[np.float64]

ENOUGH: Final = 50  # cases for a distribution whose 95 % quantile has some five beyond it
FEW: Final = 10  # one nap for so many requests makes no difference to what these take
LONG_PIPELINE: Final = 10  # commands, among which the first and the last make no difference
WARM_NS: Final = 100_000
TIMER_SLACK_NS: Final = 50_000
"""By how much the kernel lets a timer strike late, so that several strike together (its default,
man PR_SET_TIMERSLACK). What a nap lasts longer than that is computing."""
LONGEST_NAP_NS: Final = 10 * NAP_NS  # more is a stall or the end of another story
MEDIAN: Final = PROBABILITIES.index(0.5)
DAEMON_SHARE: Final = 0.45
"""Of a command's time, the daemon's. By the processor time that the kernel accounted to both: 12.1
and 15.2 µs a command, one writer alone on two cores (`writers_cpu_s`, `memcached_cpu_s` of
bench/writers.py)."""
MEMCACHED: Final = tuple(COMMAND_CODES[kind] for kind in (Get, Set, Add, Incr, Delete))
INSERT: Final = COMMAND_CODES[InsertBallot]


def calibrate(folder: RunFolder) -> ServiceTimes:
    """The service times of the run. Raises PlanError when it has no trial to measure in."""
    trials = [trial for found in folder.trials().values() for trial in found]
    try:
        journals = [_journal(trial) for trial in trials]
        overheads = [_overheads(trial) for trial in trials]
        lags = [_wake_lags(trial) for trial in trials]
        facts = [trial.read_facts() for trial in trials]
        requests = [_requests(trial) for trial in trials]
    except HistoryError as error:
        raise PlanError(f"{folder.path} cannot be calibrated with: {error}") from error
    if all(journal.empty for journal in journals):
        raise PlanError(f"{folder.path} has no journal to calibrate with; run it without errors")
    measured = from_journals(journals)
    used = [Used(*each) for each in zip(facts, journals, requests, strict=True)]
    request_ns, nap_ns = _site_ns(used, float(np.median(measured["client_ns"])))
    computing, waiting = parted(np.concatenate(overheads), request_ns)
    measured |= {
        "http_ns": computing / 2,
        "python_ns": computing / 2,
        "way_ns": waiting,
        "wake_lag_ns": np.concatenate(lags),
    }
    if nap_ns is not None:
        measured = with_naps_of(nap_ns, measured)
    database_ns = _database_ns(used)
    if database_ns is not None:
        ballot_ns = measured["insert_ns"] + measured["commit_ns"]
        measured["insert_ns"], measured["commit_ns"] = parted(ballot_ns, database_ns)
    cores = _cores_of(folder)
    return times_from(measured, f"measured in {folder.plan().scenario}, a run", cores)


class Used(NamedTuple):
    """What a trial did, beside what processor time its services used for it."""

    facts: TrialFacts
    journal: pd.DataFrame
    requests: dict[int, int]  # by kind


def _site_ns(used: Sequence[Used], client_ns: float) -> tuple[float | None, float | None]:
    """The site's processor time for a request and for a nap, without commands; None: not known.

    Trials with hardly a nap tell what requests take, and then those with many what naps take.
    """
    known = [each for each in used if "site" in each.facts.cpu_s]
    sites = [each.journal[each.journal.role == int(Role.SITE)] for each in known]
    left_ns = [
        each.facts.cpu_s["site"] * 1e9 - len(site) * client_ns
        for each, site in zip(known, sites, strict=True)
    ]
    requests = [sum(each.requests.values()) for each in known]
    naps = [int(failed_tries(site).sum()) for site in sites]
    calm = [n for n in range(len(known)) if naps[n] * FEW <= requests[n]]
    calm_requests = sum(requests[n] for n in calm)
    if not calm_requests:
        return None, None
    request_ns = max(sum(left_ns[n] for n in calm) / calm_requests, 0.0)
    crowded = [n for n in range(len(known)) if naps[n] >= max(requests[n], ENOUGH)]
    if not crowded:
        return request_ns, None
    nap_ns = sum(left_ns[n] - requests[n] * request_ns for n in crowded)
    return request_ns, max(nap_ns / sum(naps[n] for n in crowded), 0.0)


def with_naps_of(nap_ns: float, measured: dict[str, Values]) -> dict[str, Values]:
    """Let naps take so much processor time on average; the rest of what they took is waiting."""
    computing, waiting = parted(measured["awakened_ns"], nap_ns)
    return measured | {
        "awakened_ns": computing,
        "oversleep_ns": measured["oversleep_ns"] + waiting,
    }


def _database_ns(used: Sequence[Used]) -> float | None:
    """The database's processor time for an insert or a count, where it had nothing else to do."""
    known = [
        each
        for each in used
        if "database" in each.facts.cpu_s and (each.journal.command == INSERT).all()
    ]
    asked = sum(len(each.journal) + each.requests.get(RequestKind.RESULTS, 0) for each in known)
    return sum(each.facts.cpu_s["database"] for each in known) * 1e9 / asked if asked else None


def parted(values: Values, computing_ns: float | None) -> tuple[Values, Values]:
    """Times as computing, which comes to so much on average, and waiting; None: half and half.

    By the utilisation law a service's processor time over its requests is what each of them
    demands; of a time measured on a calm machine the rest is waiting for others.
    """
    mean_ns = float(np.mean(values)) if len(values) else 0.0
    share = 0.5 if computing_ns is None or not mean_ns else min(1.0, computing_ns / mean_ns)
    return share * values, (1 - share) * values


def times_from(measured: dict[str, Values], origin: str, cores: int) -> ServiceTimes:
    """Distributions of what was measured often enough; the rest as shipped, and named."""
    known: dict[str, Quantiles] = {
        name: quantiles(values) for name, values in measured.items() if len(values) >= ENOUGH
    }
    base = shipped()
    names = [name for name in ServiceTimes.__struct_fields__ if name.endswith("_ns")]
    contained = ("switch_each_ns", "wake_ns", "call_each_ns")
    missing = [name for name in names if name not in known and name not in contained]
    if missing:
        origin += f"; as shipped: {', '.join(missing)}"
    known["wake_ns"] = constant(0.0)
    call_ns = known["memcached_ns"][MEDIAN] * (1 - DAEMON_SHARE) / DAEMON_SHARE
    return msgspec.structs.replace(
        base,
        **known,
        call_each_ns=round(min(call_ns, known["client_ns"][0])),
        origin=origin,
        cores=cores,
        switch_each_ns=0,
    )


def from_journals(journals: Iterable[pd.DataFrame]) -> dict[str, Values]:
    """What journals tell, each of a trial: measured values by the name of the service time.

    Raises PlanError when they tell nothing of memcached.
    """
    commands = pd.concat([_in_context(journal) for journal in journals], ignore_index=True)
    single = commands[commands.command.isin(MEMCACHED) & ~commands.piped]
    alone = single[single.alone & (single.status != int(Status.LOST))]
    warm = alone[alone.pause_ns < WARM_NS].took_ns.to_numpy(np.float64)
    if len(warm) < ENOUGH:
        raise PlanError(
            f"only {len(warm)} commands were alone in their time, {ENOUGH} are needed to "
            "calibrate; run a quieter scenario, such as steady-trickle, in a mode with a queue"
        )
    gaps = single[single.within & (single.pause_ns < WARM_NS)].pause_ns.to_numpy(np.float64)
    usual_ns, gap_ns = float(np.median(warm)), float(np.median(gaps))
    naps = alone[alone.napped & (alone.pause_ns < LONGEST_NAP_NS)]
    late_ns = np.maximum(naps.pause_ns.to_numpy(np.float64) - NAP_NS - gap_ns, 0.0)
    cold_ns = np.maximum(naps.took_ns.to_numpy(np.float64) - usual_ns, 0.0)
    return {
        "memcached_ns": DAEMON_SHARE * warm,
        "client_ns": _spread_together((1 - DAEMON_SHARE) * warm, gaps),
        "pipelined_ns": _pipelined(commands),
        "awakened_ns": np.maximum(late_ns - TIMER_SLACK_NS, 0.0) + cold_ns,
        "oversleep_ns": np.minimum(late_ns, TIMER_SLACK_NS),
        **_database(commands),
    }


def _in_context(journal: pd.DataFrame) -> pd.DataFrame:
    """Each command with its own time and its place among the others'.

    `pause_ns`: since the thread's last one was answered; `within`: in the same operation; `napped`:
    after a try that failed; `alone`: nobody else had one under way; `piped`: part of a pipeline.
    """
    frame = journal[journal.end_ns > 0].sort_values(["begin_ns", "end_ns"], kind="stable")
    begin, end = frame.begin_ns.to_numpy(), frame.end_ns.to_numpy()
    before = np.concatenate(([0], np.maximum.accumulate(end)[:-1]))
    after = np.concatenate((begin[1:], [np.iinfo(np.int64).max]))
    thread = frame.groupby(["pid", "thread"], sort=False)
    last_end = thread.end_ns.shift(1)
    failed_try = failed_tries(frame)
    within = frame.operation == thread.operation.shift(1)
    tried = failed_try.groupby([frame.pid, frame.thread], sort=False).shift(1, fill_value=False)
    same_begin = thread.begin_ns
    piped = (frame.begin_ns < last_end.fillna(0)) | (same_begin.shift(-1) < frame.end_ns)
    return frame.assign(
        took_ns=end - begin,
        pause_ns=(frame.begin_ns - last_end).fillna(np.inf),
        within=within,
        napped=within & tried,
        alone=(before <= begin) & (end <= after),
        piped=piped,
    )


def failed_tries(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which of the commands were tries for a lock that somebody had."""
    return (
        (frame.key == int(KeyKind.LOCK))
        & (frame.command.isin([COMMAND_CODES[Incr], COMMAND_CODES[Add]]))
        & (frame.number != 1)
        & (frame.status != int(Status.MISSING))
    )


def _spread_together(one: Values, other: Values) -> Values:
    """The sum of two times that do not depend on one another, rank by rank of many mixed draws."""
    random = np.random.default_rng(0)  # any will do: the quantiles of so many hardly vary
    size = max(len(one), len(other), 10_000)
    drawn: Values = random.choice(one, size) + random.choice(other, size)
    return drawn


def _pipelined(commands: pd.DataFrame) -> Values:
    """The time of each part of a pipeline of some length."""
    piped = commands[commands.piped & commands.command.isin(MEMCACHED)]
    if piped.empty:
        return np.empty(0)
    runs = piped.groupby(["pid", "thread", "operation", "command"], sort=False)
    took_ns = (runs.end_ns.max() - runs.begin_ns.min()).to_numpy(np.float64)
    number = runs.size().to_numpy()
    long = number >= LONG_PIPELINE
    return took_ns[long] / number[long]


def _database(commands: pd.DataFrame) -> dict[str, Values]:
    """Ballots one by one, and what one more costs in a batch."""
    inserts = commands[(commands.command == INSERT) & (commands.status == int(Status.OK))]
    single = inserts[(inserts.vote > 0) & inserts.alone].took_ns.to_numpy(np.float64)
    batches = inserts[(inserts.vote == 0) & (inserts.number > 0)]
    if len(single) < ENOUGH:  # a batch of one is as good
        single = batches[batches.alone & (batches.number == 1)].took_ns.to_numpy(np.float64)
    insert_ns, commit_ns = parted(single, None)
    found = {"insert_ns": insert_ns, "commit_ns": commit_ns}
    large = batches[batches.number >= 10]
    if len(single) >= ENOUGH and len(large):
        fixed_ns = float(np.median(single))
        each = (large.took_ns - fixed_ns).clip(lower=0.0) / large.number
        found["row_ns"] = each.to_numpy(np.float64)
    return found


def _journal(trial: TrialFolder) -> pd.DataFrame:
    """Raises HistoryError."""
    with reading(trial.journal) as connection:
        require_columns(connection, trial.journal, set(JOURNAL_DTYPE.names or ()))
        return connection.execute(f"SELECT * FROM {quoted(trial.journal)}").df()


def _overheads(trial: TrialFolder) -> Values:
    """From sent to answered less the commands, of votes that were alone. Raises HistoryError."""
    names = set(LEDGER_DTYPE.names or ()) - {"padding"}
    with reading(trial.ledger, trial.journal) as connection:
        require_columns(connection, trial.ledger, names)
        frame = connection.execute(
            f"""
            WITH attempts AS (
                SELECT *, max(answered_ns) OVER (ORDER BY sent_ns
                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before,
                    lead(sent_ns) OVER (ORDER BY sent_ns) AS after
                FROM {quoted(trial.ledger)} WHERE answered_ns > 0
            ), named AS (
                SELECT pid, thread, operation, max(vote) AS vote FROM {quoted(trial.journal)}
                WHERE role = {int(Role.SITE)} AND vote > 0 GROUP BY pid, thread, operation
            ), spans AS (
                SELECT named.vote, max(end_ns) - min(begin_ns) AS took_ns
                FROM {quoted(trial.journal)} JOIN named USING (pid, thread, operation)
                GROUP BY ALL HAVING min(end_ns) > 0
            )
            SELECT answered_ns - sent_ns - took_ns AS overhead_ns
            FROM attempts JOIN spans USING (vote)
            WHERE kind = {int(RequestKind.VOTE)} AND attempt = 1 AND status BETWEEN 200 AND 299
                AND coalesce(before <= sent_ns, true) AND coalesce(after >= answered_ns, true)"""
        ).fetchnumpy()
    return np.maximum(np.asarray(frame["overhead_ns"], np.float64), 0.0)


def _requests(trial: TrialFolder) -> dict[int, int]:
    """How many of each kind were answered. Raises HistoryError."""
    with reading(trial.ledger) as connection:
        counted = connection.execute(
            f"SELECT kind, count(*) FROM {quoted(trial.ledger)} WHERE answered_ns > 0 GROUP BY kind"
        )
        return dict(counted.fetchall())


def _wake_lags(trial: TrialFolder) -> Values:
    with reading(trial.ledger) as connection:
        frame = connection.execute(
            f"""SELECT greatest(sent_ns - greatest(planned_ns, taken_ns), 0) AS lag_ns
                FROM {quoted(trial.ledger)} WHERE attempt = 1"""
        ).fetchnumpy()
    return np.asarray(frame["lag_ns"], np.float64)


def _cores_of(folder: RunFolder) -> int:
    """Those that the run gave to its services: all but the generator's."""
    try:
        found: dict[str, Any] = msgspec.json.decode(folder.environment_file.read_bytes())
        return max(1, int(found["cores"]) - 1)
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise PlanError(f"{folder.environment_file} does not say how many cores") from error
