"""Rows that nobody thought of: timetables of faults drawn from seeds, played on real services.

What is expected follows from what a mode promises: nothing, unless a fault was drawn that excuses
it. A mode that promises nothing may lose, of any cause that has a name.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

from harness.audit.certificate import DOUBLED_BY, LOST_BY
from harness.campaign import random_faults
from harness.fault import amounts_to, target_of
from harness.matrix.expectations import Expectation, Row
from harness.modes.mode import find_mode
from harness.plan import Plan, check

DURATION_S: Final = 6.0
NOTHING: Final = Expectation("nothing")
ANY: Final = Expectation("may-lose", (*LOST_BY, *DOUBLED_BY))


def random_rows(plan: Plan, modes: Sequence[str], trials: int, seed: int) -> tuple[Row, ...]:
    """So many rows for each mode, with the seeds from `seed` on; a row depends on its own only."""
    return tuple(_row(plan, mode, seed + number) for number in range(trials) for mode in modes)


def _row(plan: Plan, mode: str, seed: int) -> Row:
    faults = random_faults(Random(f"{mode} {seed}"), mode, DURATION_S)
    name = f"campaign-{seed}-{mode}"
    plan = msgspec.structs.replace(
        plan, modes=(mode,), duration_s=DURATION_S, seed=seed, repeat=1, faults=faults
    )
    check(plan, name)
    excuses = find_mode(mode).excuses
    excused = any(amounts_to(fault.kind, target_of(fault)) in excuses for fault in faults)
    promises = find_mode(mode).promises and not excused
    why = f"Drawn from seed {seed}: pollstorm matrix --campaign 1 --seed {seed} --modes {mode}"
    return Row(name, why, plan, {mode: NOTHING if promises else ANY}, must_hit=False)
