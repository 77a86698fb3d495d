"""Why votes went wrong: causes with a worked example each, and who was inside beside whom."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from harness.audit.certificate import Certificate
from harness.audit.certificates import read_certificates
from harness.audit.story import Event
from harness.errors import HistoryError, PlanError
from harness.report.drawing import Drawing
from harness.report.intrusions import Intrusion, draw_longest, intrusions_of, is_telling
from harness.result import RunResult
from harness.run_folder import RunFolder, TrialFolder

MOST_SHOWN: Final = 40  # rows of a table; what is more stands in a sentence


class Step(NamedTuple):
    """One event of an example: its lane, its time, and what happened."""

    lane: int
    at_ms: float  # after the vote was due
    actor: str
    text: str
    mark: str


class Example(NamedTuple):
    """One vote of a cause, told from beginning to end."""

    certificate: Certificate
    lanes: tuple[str, ...]
    steps: tuple[Step, ...]
    command: str  # shows more of it


class Cause(NamedTuple):
    name: str
    fates: str
    certain: int
    probable: int
    example: Example


class Deaths(NamedTuple):
    """One trial's."""

    trial: str
    causes: tuple[Cause, ...]
    intrusions: tuple[Intrusion, ...]
    intrusions_more: int  # of the same kind that are not shown
    overlaps: int  # further holds, that overlapped another and wrote nothing too late
    patience_ms: float | None
    drawing: Drawing | None = None  # of the longest hold
    trouble: str = ""  # why there are none


def deaths(folder: RunFolder, result: RunResult) -> list[Deaths]:
    """Of each trial in which a vote went wrong or the lock did not exclude."""
    found = []
    for name, mode in result.modes.items():
        for each in mode.trials or (mode,):
            trial = TrialFolder(folder.path / (each.name or name))
            if each.causes or each.unexplained or each.lock.overlaps or each.lock.takeovers:
                found.append(_of(folder, trial))
    return found


def _of(folder: RunFolder, trial: TrialFolder) -> Deaths:
    try:
        patience_ms: float | None = folder.plan().queue.patience_s * 1000
    except PlanError:
        patience_ms = None
    try:
        kept = read_certificates(trial)
        rows = list(intrusions_of(trial))
    except (HistoryError, PlanError) as error:
        why = f"{trial.name} is not told: {error}."
        return Deaths(trial.name, (), (), 0, 0, patience_ms, trouble=why)
    telling = [row for row in rows if is_telling(row, patience_ms)]
    shown = tuple(telling[:MOST_SHOWN])
    causes = tuple(_cause(folder, trial, kept, name) for name in sorted({c.cause for c in kept}))
    more, overlaps = len(telling) - len(shown), len(rows) - len(telling)
    drawing = draw_longest(trial.name, telling, patience_ms)
    return Deaths(trial.name, causes, shown, more, overlaps, patience_ms, drawing)


def _cause(folder: RunFolder, trial: TrialFolder, kept: Sequence[Certificate], name: str) -> Cause:
    of = [c for c in kept if c.cause == name]
    certain = [c for c in of if c.certain]
    example = _example(folder, trial, (certain or of)[0])
    fates = ", ".join(sorted({c.fate for c in of}))
    return Cause(name, fates, len(certain), len(of) - len(certain), example)


def _example(folder: RunFolder, trial: TrialFolder, certificate: Certificate) -> Example:
    events = msgspec.json.decode(certificate.story, type=list[Event])
    lanes = tuple(dict.fromkeys(event.actor for event in events))
    steps = tuple(
        Step(
            lanes.index(event.actor), (event.at_ns - certificate.planned_ns) / 1e6, event.actor,
            event.text, event.mark,
        )
        for event in events
    )  # fmt: skip
    command = f"pollstorm explain {folder.path} {certificate.vote:016x} --mode {trial.name}"
    return Example(certificate, lanes, steps, command)
