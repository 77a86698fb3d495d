"""What became of the votes in a cell, held against what was expected."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from harness.audit.verdict import BREAKS_PROMISE
from harness.errors import Exit
from harness.matrix.expectations import Expectation
from harness.result import ModeResult

SCHEMA_VERSION: Final = 1
Held = Literal["held", "broken", "inconclusive"]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One fault in one mode."""

    expected: str
    outcome: Held
    because: str  # why broken or inconclusive; empty when held
    trials: int
    counted: int  # of those, in which the fault hit and the votes' fate is known
    lost: tuple[int, int]  # fewest and most, over the trials that count
    doubled: tuple[int, int]
    causes: dict[str, int]  # of all of them together
    missed: tuple[str, ...] = ()  # what faults that did not hit said of themselves


class RowResult(msgspec.Struct, frozen=True, kw_only=True):
    """One fault in all modes that have its target."""

    name: str
    why: str
    faults: tuple[str, ...]  # as written on the command line
    run: str  # its run folder, below the matrix's
    cells: dict[str, Cell]


class MatrixResult(msgspec.Struct, frozen=True, kw_only=True):
    """`matrix.json`."""

    schema_version: int
    command: str  # repeats it
    modes: tuple[str, ...]
    rows: tuple[RowResult, ...]
    waiting: tuple[str, ...] = ()  # rows that were not played yet

    def count(self, outcome: Held) -> int:
        """How many cells had that outcome."""
        return sum(cell.outcome == outcome for row in self.rows for cell in row.cells.values())

    @property
    def exit_code(self) -> Exit:
        if self.count("broken"):
            return Exit.BROKEN_PROMISE
        unfinished = self.waiting or self.count("inconclusive") or not self.rows
        return Exit.INCONCLUSIVE if unfinished else Exit.OK


def judge(expected: Expectation, result: ModeResult, *, must_hit: bool = True) -> Cell:
    """Hold all trials of a mode against what was expected of it.

    Where the faults must hit, a trial in which one missed does not count, unless it lost what
    was to be lost under no fault at all.
    """
    trials = result.trials or (result,)
    missed = tuple(f"{f.kind}: {f.detail}" for t in trials for f in t.faults if not f.hit)
    known = [t for t in trials if t.verdict.votes != "unknown"]
    counted = [t for t in known if not must_hit or all(f.hit for f in t.faults)]
    if expected.word == "nothing":
        counted += [t for t in known if t not in counted and any(_wrong([t]).values())]
    causes = _causes(counted)
    outcome, because = _held(expected, counted, causes, missed)
    return Cell(
        expected=str(expected),
        outcome=outcome,
        because=because,
        trials=len(trials),
        counted=len(counted),
        lost=_range(t.accounts.lost for t in counted),
        doubled=_range(t.accounts.duplicated for t in counted),
        causes=dict(causes),
        missed=missed,
    )


def _held(
    expected: Expectation,
    counted: Sequence[ModeResult],
    causes: Counter[str],
    missed: Sequence[str],
) -> tuple[Held, str]:
    wrong = _wrong(counted)
    unexplained = sum(t.unexplained for t in counted)
    if unexplained:
        return "broken", f"{unexplained} lost or doubled votes have no certificate"
    if expected.word == "nothing" and wrong.total():
        return "broken", "; ".join(f"{n} {name}" for name, n in wrong.items() if n)
    for name in ("altered", "resurrected", "phantom", "overvotes"):
        if wrong[name]:
            return "broken", f"{wrong[name]} {name}, which is expected of no fault"
    others = sorted(set(causes) - set(expected.causes))
    if others and expected.word != "nothing":
        told = ", ".join(f"{cause} {causes[cause]}" for cause in others)
        return "broken", f"died of what was not expected: {told}"
    if not counted:
        return "inconclusive", missed[0] if missed else "no trial says what became of the votes"
    if expected.word == "loses" and not causes.total():
        return "broken", "nothing was lost or doubled"
    return "held", ""


def _wrong(trials: Sequence[ModeResult]) -> Counter[str]:
    """The votes in accounts that a mode which promises keeps at zero."""
    return Counter(
        {name: sum(getattr(t.accounts, name) for t in trials) for name in BREAKS_PROMISE}
    )


def _causes(trials: Iterable[ModeResult]) -> Counter[str]:
    found: Counter[str] = Counter()
    for trial in trials:
        for cause, number in trial.causes.items():
            found[cause] += number.certain + number.probable
    return found


def _range(numbers: Iterable[int]) -> tuple[int, int]:
    found = list(numbers)
    return (min(found), max(found)) if found else (0, 0)
