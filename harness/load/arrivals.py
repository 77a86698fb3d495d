"""When voters come: rate curve to planned arrival times, pure and seeded. docs/load.md has the
curves as formulas.

The model is open: arrivals do not wait for answers. They are an inhomogeneous Poisson process,
drawn by inverting its cumulative rate Λ: given their number, Poisson with mean Λ(end), the times
are independent draws with distribution Λ(t)/Λ(end), sorted (Çinlar, Introduction to Stochastic
Processes, 1975, section 4.7; Lewis and Shedler, Naval Research Logistics Quarterly 26, 1979).
Readers of the results page are a second such process, in proportion to the first.

One process is drawn for the whole load and dealt out to the generators like cards, so how many
there are changes who sends an arrival and the ids, never when it comes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from harness.history.ledger import RequestKind
from harness.plan import Arrivals, Plan, Voters
from harness.vote import mint

Floats = npt.NDArray[np.float64]

# Λ is tabulated in so many steps and interpolated between: 76 µs each for a load of 20 s, 14 ms
# for one of an hour; a jump of the curve is smeared over one of them. 2 MB.
GRID_STEPS: Final = 2**18
# Users beyond what time-outs alone need: retries, and time-outs that strike late.
SPARE_USERS: Final = 1.1
MORE_SPARE_USERS: Final = 8
NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True)
class Schedule:
    """What one generator has to send: arrays of equal length, one arrival each, in time order."""

    planned_ns: npt.NDArray[np.int64]  # after the load's start
    kind: npt.NDArray[np.uint8]  # RequestKind
    vote: npt.NDArray[np.uint64]  # the vote's id; for a results page the arrival's own number
    choice: npt.NDArray[np.uint16]  # from 1; 0 for a results page

    def __len__(self) -> int:
        return len(self.planned_ns)

    @property
    def votes(self) -> int:
        return int(np.count_nonzero(self.kind == RequestKind.VOTE))


def rate_at(arrivals: Arrivals, t_s: Floats) -> Floats:
    """λ(t): votes per second that are due, t seconds after the load's start."""
    trickle, peak = arrivals.trickle_per_s, arrivals.peak_per_s
    if arrivals.curve == "trickle":
        return np.full_like(t_s, trickle, dtype=np.float64)
    if arrivals.curve == "replay":
        per_s = np.array(arrivals.votes_per_bin) / arrivals.bin_s
        number = (t_s / arrivals.bin_s).astype(np.int64)
        return np.where(number < len(per_s), per_s[np.minimum(number, len(per_s) - 1)], 0.0)
    begun = t_s >= arrivals.starts_s
    if arrivals.curve == "step":
        over = t_s >= arrivals.starts_s + arrivals.lasts_s
        return np.where(begun & ~over, peak, trickle)
    from_peak_s = t_s - arrivals.peak_at_s
    time_constant_s = np.where(from_peak_s < 0, arrivals.rise_s, arrivals.decay_s)
    spike = peak * np.exp(-np.abs(from_peak_s) / time_constant_s)
    return np.where(begun, np.maximum(spike, trickle), trickle)


def schedule(plan: Plan, generator: int, generators: int) -> Schedule:
    """The shard of one generator out of so many, generators counted from 1.

    The same plan gives the same bytes. Votes of a generator are numbered from 0 in time order.
    Raises ValueError for a generator that is not among them.
    """
    if not 1 <= generator <= generators:
        raise ValueError(f"generator {generator} is none of 1 to {generators}")
    planned_ns, kind = _all_arrivals(plan)
    is_vote = kind == RequestKind.VOTE
    choice = np.zeros(len(kind), np.uint16)
    choice[is_vote] = _choices(plan, int(np.count_nonzero(is_vote)))
    mine = slice(generator - 1, None, generators)
    vote = np.arange(len(kind), dtype=np.uint64)[mine]
    votes_here = is_vote[mine]
    first = mint(plan.voters.first_generator - 1 + generator, 0)
    vote[votes_here] = np.arange(np.count_nonzero(votes_here), dtype=np.uint64) + np.uint64(first)
    return Schedule(planned_ns[mine], kind[mine], vote, choice[mine])


def expected_votes(plan: Plan) -> float:
    """How many votes the curve lets expect, without drawing them."""
    _, cumulative = _cumulative_votes(plan)
    return float(cumulative[-1])


def planned_votes(plan: Plan) -> dict[int, int]:
    """Generator → number of votes that it will mint: ids 0 to that number, not included."""
    generators, before = plan.voters.generators, plan.voters.first_generator - 1
    _, kind = _all_arrivals(plan)
    return {
        before + generator: int(
            np.count_nonzero(kind[generator - 1 :: generators] == RequestKind.VOTE)
        )
        for generator in range(1, generators + 1)
    }


def full_speed(votes: int) -> Schedule:
    """So many votes, all due at once: whoever plays them sends as fast as it can."""
    return Schedule(
        planned_ns=np.zeros(votes, np.int64),
        kind=np.full(votes, RequestKind.VOTE, np.uint8),
        vote=np.arange(votes, dtype=np.uint64),
        choice=np.ones(votes, np.uint16),
    )


def users_needed(planned: Schedule, voters: Voters) -> int:
    """Users enough to send every arrival on time even when each answer takes the whole time-out."""
    begins = planned.planned_ns
    ended = np.searchsorted(begins, begins - int(voters.timeout_s * NS_PER_S), side="right")
    at_once = np.max(np.arange(1, len(begins) + 1) - ended, initial=0)
    return int(at_once * SPARE_USERS) + MORE_SPARE_USERS


def _all_arrivals(plan: Plan) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Planned times and kinds of the whole load, in time order."""
    for_votes, for_results, _ = np.random.SeedSequence(plan.seed).spawn(3)
    votes = _poisson_times_s(plan, 1.0, np.random.default_rng(for_votes))
    results = _poisson_times_s(
        plan, plan.arrivals.results_per_vote, np.random.default_rng(for_results)
    )
    times_s = np.concatenate([votes, results])
    kinds = np.repeat(
        np.array([RequestKind.VOTE, RequestKind.RESULTS], np.uint8), [len(votes), len(results)]
    )
    order = np.argsort(times_s, kind="stable")
    return (times_s[order] * NS_PER_S).astype(np.int64), kinds[order]


def _poisson_times_s(plan: Plan, per_vote: float, random: np.random.Generator) -> Floats:
    """Sorted times of a Poisson process with rate per_vote·λ(t) over the plan's duration."""
    grid_s, cumulative = _cumulative_votes(plan)
    cumulative = per_vote * cumulative
    number = random.poisson(cumulative[-1])
    times_s: Floats = np.interp(np.sort(random.random(number)) * cumulative[-1], cumulative, grid_s)
    return times_s


def _cumulative_votes(plan: Plan) -> tuple[Floats, Floats]:
    """Λ(t), votes expected until t, at the steps of a grid over the plan's duration."""
    grid_s = np.linspace(0.0, plan.duration_s, GRID_STEPS + 1)
    rate_per_s = rate_at(plan.arrivals, grid_s)
    steps = (rate_per_s[1:] + rate_per_s[:-1]) / 2 * np.diff(grid_s)
    return grid_s, np.concatenate([[0.0], np.cumsum(steps)])


def _choices(plan: Plan, votes: int) -> npt.NDArray[np.uint16]:
    """What each vote is for, from 1; the k-th choice draws in proportion to 1/k (Zipf)."""
    _, _, for_choices = np.random.SeedSequence(plan.seed).spawn(3)
    numbers = np.arange(1, len(plan.poll.choices) + 1)
    popularity = 1.0 / numbers
    return (
        np.random.default_rng(for_choices)
        .choice(numbers, size=votes, p=popularity / popularity.sum())
        .astype(np.uint16)
    )
