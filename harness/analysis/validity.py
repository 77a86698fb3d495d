"""Is the measurement sound? Only the harness can make it invalid: a slow target cannot.

A user who sits in a slow answer is late through the target (`no_free_user`); that is reported
and invalidates nothing, as long as the generator had all the users that the plan takes. A free
user who wakes late, a generator in which nothing could run for long, an arrival that was never
sent although users were free, a ledger that is missing, or gauges that contradict the ledger do.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from harness.analysis.rates import busiest_second
from harness.history.ledger import Trouble
from harness.history.store import quoted, reading, require_columns
from harness.result import Accounts, Generator, Lag
from harness.run_folder import TrialFacts, TrialFolder

WAKE_LAG_P99_MS: Final = 50.0
"""gevent wakes within 1 ms when idle; at full speed p99 was measured at 10 ms. Five times that is
a machine too busy to keep time, and as long as a slow answer."""

LONGEST_BLOCK_MS: Final = 250.0
"""A generator's event loop was measured to be busy for 11 ms at most, at 6,000 votes a second on a
machine with twice as many busy processes as cores. Beyond a quarter of a second it was frozen: all
that was due or was answered meanwhile is late through the generator, and this may be too few votes
for any p99 and yet make p99.9 and the maximum. The stalls that scenarios inject last 1 s and more,
so that a shorter block cannot be taken for one of them."""

CLOCK_WITHIN_MS: Final = 50.0
"""Over a network of 100 ms to and fro two clocks are told apart to within 50 ms. As long as a slow
answer; when a vote was counted, and which trouble met it, is told by comparing two machines."""

UNSENT_SHARE: Final = 0.01
"""Of the planned votes. The planned curve is then missing by less than its own Poisson noise in
any second of up to 10,000 votes."""

IN_FLIGHT_TOLERANCE: Final = 0.25
IN_FLIGHT_SLACK: Final = 1.0
"""Little's law holds exactly for the whole window, but L is a mean of samples. 200 samples of a
Poisson number have a standard error of 7 % at L = 1 and less above; in a spike neighbouring samples
are alike, so that they count for a quarter as many: 14 %. Two of these, and one request that a
sample may see between the ledger's two clock readings."""

NS_PER_S: Final = 1e9


class Judgement(NamedTuple):
    """Whether the measurement is sound, as the reasons why not: whole sentences."""

    reasons: tuple[str, ...]
    generator: Generator


def judge_measurement(
    trial: TrialFolder, facts: TrialFacts, accounts: Accounts, lag: Lag
) -> Judgement:
    """Look for all that makes figures of this trial worthless. Raises HistoryError."""
    expected = in_flight(trial, facts)
    generator = Generator(
        ceiling_per_s=facts.ceiling_per_s,
        in_flight_sampled=facts.in_flight_sampled,
        in_flight_expected=expected,
        site_in_flight=facts.site_in_flight,
        clock_within_ms=facts.clock_within_ms,
    )
    reasons = [
        *_incomplete(facts),
        *_late(lag),
        *_frozen(facts),
        *_untimely(facts),
        *_short_of_users(facts, accounts, lag),
        *_unsent(facts, accounts, lag),
        *_contradicted(generator, expected, inside_at_most(trial, facts)),
        *_overtaxed(trial, facts),
    ]
    return Judgement(tuple(reasons), generator)


def in_flight(trial: TrialFolder, facts: TrialFacts) -> float:
    """λW: the mean number of requests under way during the load's planned duration.

    Each attempt, vote or results page, counts for its time between sent and answered that lies
    in the window; one without an end counts to the window's end. Raises HistoryError.
    """
    return _under_way(trial, facts, "answered_ns > 0")


def inside_at_most(trial: TrialFolder, facts: TrialFacts) -> float:
    """How many of these requests the site can have inside, in the mean.

    As `in_flight`, but whoever gave up waiting has left a request there, nobody knows how long.
    """
    given_up = int(Trouble.TIMED_OUT)
    return _under_way(trial, facts, f"answered_ns > 0 AND error <> {given_up}")


def _under_way(trial: TrialFolder, facts: TrialFacts, has_ended: str) -> float:
    start_ns = facts.load_start_ns
    end_ns = start_ns + round(facts.duration_s * NS_PER_S)
    with reading(trial.ledger) as connection:
        require_columns(connection, trial.ledger, {"sent_ns", "answered_ns", "error"})
        row = connection.execute(
            f"""SELECT coalesce(sum(greatest(0,
                    least({end_ns}, CASE WHEN {has_ended} THEN answered_ns ELSE {end_ns} END)
                    - greatest({start_ns}, sent_ns))), 0)
                FROM {quoted(trial.ledger)}"""
        ).fetchone()
    return float(row[0]) / (end_ns - start_ns) if row else 0.0


def _incomplete(facts: TrialFacts) -> Iterable[str]:
    if facts.missing_generators:
        names = ", ".join(str(number) for number in facts.missing_generators)
        yield f"The ledger of generator {names} is missing or not whole."
    if facts.partial:
        why = "; ".join(facts.notes) or "it was interrupted"
        yield f"The trial did not run to its end: {why}."


def _late(lag: Lag) -> Iterable[str]:
    _, p99_ms, _ = lag.wake_lag_ms
    if p99_ms > WAKE_LAG_P99_MS:
        yield (
            f"The load generator was starved: free users woke {p99_ms:.0f} ms late (p99), "
            f"{WAKE_LAG_P99_MS:.0f} ms are allowed."
        )


def _frozen(facts: TrialFacts) -> Iterable[str]:
    block_ms = facts.longest_block_ms
    if block_ms is not None and block_ms > LONGEST_BLOCK_MS:
        yield (
            f"The load generator was frozen: for {block_ms:.0f} ms nothing could run in it, "
            f"{LONGEST_BLOCK_MS:.0f} ms are allowed."
        )


def _untimely(facts: TrialFacts) -> Iterable[str]:
    within_ms = facts.clock_within_ms
    if within_ms is not None and within_ms > CLOCK_WITHIN_MS:
        yield (
            f"The workers' clocks could be told from ours to within {within_ms:.0f} ms only, "
            f"{CLOCK_WITHIN_MS:.0f} ms are allowed."
        )


def _short_of_users(facts: TrialFacts, accounts: Accounts, lag: Lag) -> Iterable[str]:
    """A wait for users that the generator could not have is no slow target's doing.

    One that is no longer than a late awakening may be is none: an arrival that comes due just when
    a user gets free waits for microseconds, however many there are.
    """
    waited_ms = lag.no_free_user_ms[-1]
    if facts.short_of_users and (waited_ms > WAKE_LAG_P99_MS or accounts.unsent):
        yield (
            "The load generator had fewer users than the plan takes, and votes waited for one, up "
            f"to {waited_ms:.0f} ms; allow more open files (ulimit -Hn) or give it more processes."
        )


def _unsent(facts: TrialFacts, accounts: Accounts, lag: Lag) -> Iterable[str]:
    """Unsent arrivals are the target's doing if users were awaited longer than they overslept."""
    if accounts.unsent <= UNSENT_SHARE * accounts.planned or facts.short_of_users:
        return
    if lag.no_free_user_ms[-1] > lag.wake_lag_ms[-1]:
        return
    yield (
        f"The load generator never sent {accounts.unsent} of {accounts.planned} planned votes, "
        "although users were free."
    )


def _contradicted(generator: Generator, expected: float, at_most: float) -> Iterable[str]:
    sampled, inside = generator.in_flight_sampled, generator.site_in_flight
    if sampled is not None and abs(sampled - expected) > _slack(expected):
        yield (
            f"Little's law is off: {sampled:.1f} requests were under way by the generator's gauge, "
            f"{expected:.1f} by its ledger."
        )
    if inside is not None and inside > at_most + _slack(at_most):
        yield (
            f"The site had {inside:.1f} requests inside, more than the {at_most:.1f} that the "
            "ledger knows of; somebody else uses it."
        )


def _slack(expected: float) -> float:
    return IN_FLIGHT_TOLERANCE * expected + IN_FLIGHT_SLACK


def _overtaxed(trial: TrialFolder, facts: TrialFacts) -> Iterable[str]:
    if facts.ceiling_per_s is None:
        return
    peak = busiest_second(trial, facts.load_start_ns, "planned_ns", "true")
    if peak > facts.ceiling_per_s:
        yield (
            f"The plan offered {peak} requests in one second, more than the generator's own "
            f"ceiling of {facts.ceiling_per_s:.0f}; give it more processes."
        )
