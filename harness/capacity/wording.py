"""What a capacity study found, in words and in cells of tables."""

from math import exp, inf, log
from statistics import fmean, median
from typing import Final, NamedTuple

from markupsafe import Markup, escape

from harness.analysis.crossing import Wins
from harness.capacity.breakeven import read_share
from harness.capacity.outcome import (
    Bounds,
    BreakEven,
    BreakEvenPoint,
    CapacityResult,
    Estimate,
    ModeCapacity,
    Need,
    PatienceMap,
    Range,
    Trials,
)
from harness.capacity.search import LOWEST_PER_S
from harness.report.notation import NOTHING, count, number, share, times

UNTRIED: Final = Bounds(lower=None, upper=None)
LIMITS: Final = {
    "generator": "the load generator, not the mode",
    "budget": "the time that there was",
    "backlog": "a backlog that grew",
    "refused": "votes that were refused",
}


def limit(mode: ModeCapacity) -> str:
    """What the mode was limited by."""
    return LIMITS.get(mode.limited_by, mode.limited_by)


def sentence(result: CapacityResult) -> str:
    """The study in one sentence."""
    found = {
        name: mode.capacity_per_s.lower
        for name, mode in result.modes.items()
        if mode.capacity_per_s.lower is not None
    }
    if result.stopped_by:
        return f"The study was stopped: {result.stopped_by}. What was known by then is shown."
    if not found:
        return "No mode met the objectives at any rate that was tried."
    best = max(found, key=lambda name: found[name] or 0.0)
    most = {
        name: enclosed(mode.capacity_per_s)
        for name, mode in result.modes.items()
        if mode.capacity_per_s != UNTRIED
        and (mode.capacity_per_s.upper or inf) > (found[best] or 0.0)
    }
    if len(most) > 1:
        told = ", ".join(f"{name} {bounds}" for name, bounds in most.items())
        return f"Which sustains the most is open, as the bounds overlap: {told} votes a second."
    return f"{best} sustains the most: {most[best]} votes a second."


def sustained_sentence(result: CapacityResult) -> str:
    """What is meant by sustained, with these objectives and for what was loaded."""
    also = ["hardly a vote was refused"]
    if not result.target:
        also.append("no backlog grew")
    elif result.sees_ballots:
        also.append("its ballots came in time")
    *most, last = f"{', '.join(result.slo)} held", *also
    return f"Sustained: the highest rate of votes at which {', '.join(most)} and {last}."


def played_sentences(result: CapacityResult) -> str:
    """Against what the rates were played, by whom, and on which machines."""
    far = f"by workers that came to {result.workers_at}"
    voters = far if result.workers_at else "from this machine"
    if result.target:
        known = (
            "its ballots tell which votes were counted"
            if result.sees_ballots
            else "without its ballots nobody knows which votes were counted"
        )
        return (
            f"Each rate was played {voters} against {result.target}, whose processes and "
            f"services are its own; {known}."
        )
    said = [
        "Each rate was played on real memcached, MariaDB and site processes, and every vote "
        "accounted for."
    ]
    if result.workers_at:
        said.append(f"The voters were played {far}.")
    if result.given:
        said.append(f"The {' and the '.join(result.given)} were there before, wherever that is.")
    shared = "All of it" if len(said) == 1 else "All else"
    said.append(f"{shared} shared this machine: the rates compare modes with each other, here.")
    return " ".join(said)


def enclosed(bounds: Bounds) -> str:
    """`400 to 566`, or `1,600 or more` where nothing failed."""
    if bounds.upper is None:
        return f"{count(bounds.lower)} or more"
    return f"{count(bounds.lower or 0)} to {count(bounds.upper)}"


def sustained(mode: ModeCapacity) -> str:
    """`1,203`, with `?` where no longer trial confirmed it; `?` where none is known to pass."""
    bounds = mode.capacity_per_s
    if bounds.lower is None:
        return "none" if bounds.upper == LOWEST_PER_S else "?"
    return count(bounds.lower) + ("" if mode.confirmed else " ?")


class Row(NamedTuple):
    """A line of the break-even's table."""

    held: str  # what was the same at all its points
    wins: str  # where the queue takes more votes
    interval: str


def break_even_rows(found: BreakEven) -> list[Row]:
    """From which commit latency, then from which share of readers."""
    over_commits = [
        Row(
            f"results pages per vote: {line.results_per_vote:g}",
            _wins(line.wins, "commit latency", _commit(line.commit_ms)),
            _interval(_commit(line.low_ms), _commit(line.high_ms)),
        )
        for line in found.over_commits
    ]
    over_readers = [
        Row(
            f"commit latency: {number(line.commit_ms)} ms",
            _wins(line.wins, "share of results pages", _readers(line.results_per_vote)),
            _interval(_readers(line.low_per_vote), _readers(line.high_per_vote)),
        )
        for line in found.over_readers
    ]
    return over_commits + over_readers


def _wins(wins: Wins, what: str, at: str | None) -> str:
    told = {
        "always": f"at every {what} where it was decided",
        "never": f"at no {what} where it was decided",
        "varies": f"at some: the lead changes more than once over the {what}",
        "from": f"from {at}",
        "up-to": f"up to {at}",
    }
    return told[wins]


def _interval(low: str | None, high: str | None) -> str:
    if low and high:
        return f"{low} to {high}"
    if high:
        return f"at most {high}"
    return f"at least {low}" if low else "anywhere"


def _commit(latency_ms: float | None) -> str | None:
    return None if latency_ms is None else f"{number(latency_ms)} ms"


def _readers(results_per_vote: float | None) -> str | None:
    """`50 % (1.00 a vote)`"""
    if results_per_vote is None:
        return None
    of_all = share(read_share(results_per_vote))
    return f"{of_all} ({results_per_vote:.2g} a vote)" if results_per_vote else of_all


def break_even_sentence(found: BreakEven) -> str:
    """What the intervals are made of."""
    if found.noise is None:
        once = all(len(point.advantages) == 1 for point in found.points)
        tried = "Each point was tried once only" if once else "Too few points were tried again"
        return (
            f"{tried}: how much such trials vary is not known, and an interval is no more than the "
            "two measured points between which the lead changes."
        )
    return (
        f"One trial’s ratio varies by about {share(found.noise)} (standard deviation, from the "
        "points with several trials). An interval holds the change of lead in 95 % of redrawn "
        "sets of trials, and always reaches from measured point to measured point."
    )


def little_sentence(result: CapacityResult) -> str:
    """How well the trials keep Little's law."""
    residuals = [
        abs(step.in_flight_residual)
        for mode in result.modes.values()
        for step in mode.steps
        if step.in_flight_residual is not None
    ]
    if not residuals:
        return "No trial had enough requests under way at once for Little’s law to be looked at."
    return (
        f"Little’s law: the requests that were under way, as sampled, differ from rate times "
        f"latency by {share(median(residuals))} in the median of {len(residuals)} trials, and by "
        f"{share(max(residuals))} at the most."
    )


def patience_sentence(found: PatienceMap) -> str:
    """The recommendation."""
    longest = max(cell.stall_s for cell in found.cells)
    if found.recommended_s is not None:
        said = (
            f"From {found.recommended_s:g} s on, no stall of up to {longest:g} s lost a vote, in "
            f"{times(found.safe_trials, 'simulated stall', 'simulated stalls')}."
        )
    elif _cells(found) < found.wanted_cells:
        said = "No patience can be recommended from the cells that there was time for."
    else:
        said = f"No patience that was tried kept every vote through a stall of {longest:g} s."
    if found.never_below_s is not None:
        said += (
            f" Never less than {found.never_below_s:g} s: then even a stall of "
            f"{found.shortest_harmful_stall_s:g} s loses some."
        )
    if _cells(found) < found.wanted_cells:
        said += f" Only {_cells(found)} of {found.wanted_cells} cells could be simulated in time."
    return said


def _cells(found: PatienceMap) -> int:
    return sum(cell.simulated for cell in found.cells)


def need(found: Need | None, without: str = NOTHING) -> Markup:
    """`12`, or `12 (9 to 15)` with the interval in small print."""
    if found is None:
        return escape(without)
    if found.low == found.value == found.high:
        return escape(count(found.value))
    high = f"to {count(found.high)}" if found.high is not None else "or more"
    return Markup('{} <small class="quiet">{} {}</small>').format(
        count(found.value), count(found.low), high
    )


def headroom(found: Range) -> str:
    """`−12 % to 33 %`; `33 % or more` where nothing failed."""
    low, high = (None if end is None else f"{end * 100:+.0f} %" for end in (found.low, found.high))
    if low is None:
        return NOTHING if high is None else f"less than {high}"
    return f"{low} or more" if high is None else f"{low} to {high}"


def between(found: Range | None) -> str:
    """`1.20 to 1.45`, or what there is of it."""
    if found is None:
        return NOTHING
    ends = [number(end) for end in (found.low, found.high) if end is not None]
    return " to ".join(dict.fromkeys(ends)) or NOTHING


def estimate(found: Estimate | None, without: str = NOTHING) -> Markup:
    """`0.197 (0.094 to 0.301)`, the interval in small print; `without`: what stands for none."""
    if found is None:
        return escape(without)
    if found.low == found.value == found.high:
        return escape(number(found.value))
    high = "or more" if found.high is None else f"to {number(found.high)}"
    return Markup('{} <small class="quiet">{} {}</small>').format(
        number(found.value), number(found.low), high
    )


def trials(found: Trials | None) -> Markup:
    """`806`, or `806 (790 to 820)` of several trials, with their range in small print."""
    if found is None:
        return escape(NOTHING)
    return _ranged(found.mean, found.least, found.most, found.trials)


def ratio(point: BreakEvenPoint) -> Markup:
    """The queue's rate over direct's, as `trials`; with `?` where it is undecided."""
    ratios = point.advantages
    mean = exp(fmean(log(each) for each in ratios))
    told = _ranged(mean, min(ratios), max(ratios), len(ratios))
    return told + " ?" if point.undecided else told


def _ranged(mean: float, least: float, most: float, trials: int) -> Markup:
    if trials == 1:
        return escape(number(mean))
    return Markup('{} <small class="quiet">{} to {}</small>').format(
        number(mean), number(least), number(most)
    )
