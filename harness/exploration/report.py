"""What a search found, as data for `--json` and for a witness."""

from typing import Final

import msgspec

from harness.exploration.bounds import Bounds
from harness.exploration.chance import Drawn
from harness.exploration.schedule import say_command, say_reply, steps_of, vote_name
from harness.exploration.search import Finding
from harness.exploration.space import Space, Step
from harness.exploration.store import MEMCACHED

MEMCACHED_ITSELF: Final = "memcached"  # the actor of an event that no process causes


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a schedule. `command` is empty for an event."""

    actor: str
    command: str = ""
    reply: str = ""
    event: str = ""
    counts: bool = False  # it is a memcached command


class Exploration(msgspec.Struct, frozen=True):
    """The result. `lost`, `doubled` and `schedule` are empty unless the verdict is `loses`."""

    protocol: str
    bounds: Bounds
    verdict: str  # safe, loses, unfinished
    states: int
    seconds: float
    commands: int | None  # memcached's, in the schedule; null without one
    schedule: list[Row]
    lost: list[str]
    doubled: list[str]
    stuck: bool  # the queue does not empty
    overlap: bool  # two held the lock at once, for certain, and nothing worse was found
    taken: list[str]  # what a wipe took from memcached: the most in any state
    peak_mib: int  # memory of this process
    runs: int | None = None  # random schedules drawn; then `states` are steps taken
    seed: int | None = None  # with --random 1 it draws the schedule that lost, or the first


def describe(
    protocol: str, space: Space, finding: Finding, drawn: Drawn | None = None
) -> Exploration:
    """The finding in words; `drawn`: how it was come by, if by chance."""
    schedule = [row_of(step) for step in steps_of(space, finding)]
    judgement = finding.judgement
    return Exploration(
        protocol=protocol,
        bounds=space.bounds,
        verdict=finding.verdict,
        states=finding.states,
        seconds=round(finding.seconds, 3),
        commands=sum(row.counts for row in schedule) if schedule else None,
        schedule=schedule,
        lost=[vote_name(vote) for vote in judgement.lost],
        doubled=[vote_name(vote) for vote in judgement.doubled],
        stuck=judgement.stuck,
        overlap=finding.overlap,
        taken=[vote_name(vote) for vote in finding.taken],
        peak_mib=finding.peak_mib,
        runs=drawn.runs if drawn else None,
        seed=drawn.seed if drawn else None,
    )


def row_of(step: Step) -> Row:
    """One step in words."""
    actor = step.actor.name if step.actor else MEMCACHED_ITSELF
    if step.command is None or step.reply is None:
        return Row(actor, event=step.event)
    return Row(
        actor,
        command=say_command(step.command),
        reply=say_reply(step.command, step.reply),
        event=step.event,
        counts=isinstance(step.command, MEMCACHED),
    )


def verdict_line(found: Exploration) -> str:
    """The verdict in one line."""
    spent = f"{found.seconds:.2g} s" if found.seconds < 1 else f"{found.seconds:,.1f} s"
    if found.runs is not None and found.verdict == "unfinished":
        said = f"no loss in {found.runs:,} random schedules, seed {found.seed}"
    elif found.verdict == "unfinished":
        said = f"unfinished after {found.states:,} states; none of them loses"
    elif found.verdict == "safe":
        said = f"no loss in all {found.states:,} states within these bounds"
    else:
        said = f"{what_is_wrong(found)}, after {found.commands} memcached commands"
    return f"{found.protocol}: {said}, {spent}"


def bounds_line(found: Exploration) -> str:
    """The command that finds the same again."""
    again = f"pollstorm explore {found.protocol} {found.bounds.flags()}"
    if found.runs is None:
        return f"again: {again}"
    if found.verdict == "unfinished":
        return f"again: {again} --random {found.runs} --seed {found.seed}"
    shrunk = f"found in random schedule {found.runs:,} and made smaller; "
    return f"{shrunk}again: {again} --random 1 --seed {found.seed}"


def what_is_wrong(found: Exploration) -> str:
    """The broken properties."""
    killed = lost_or_doubled(found.lost, found.doubled)
    wrong = [killed] if killed else []
    if found.stuck:
        wrong.append("the queue does not empty")
    if found.overlap:
        wrong.append("two hold the lock at once")
    return "; ".join(wrong)


def lost_or_doubled(lost: list[str], doubled: list[str]) -> str:
    """What became of the votes, in words."""
    said = [f"{' and '.join(lost)} acknowledged and lost"] if lost else []
    said += [f"{' and '.join(doubled)} delivered twice"] if doubled else []
    return "; ".join(said)
