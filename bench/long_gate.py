"""`python -m bench.long_gate [SAME] [SLOWED]`: is the gate to be believed?

So many checks of a version against itself, where each that fails is a false alarm, and so many
against a version whose site works a tenth longer on each vote, where each that passes is a miss.
It all happens in a clone of this repository, by the verb itself, so that a check goes the way that
it goes for its users. It takes more than an hour; each result is kept in `bench/gate.jsonl`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from harness.gate import history
from harness.gate.outcome import CheckResult

HERE: Final = Path(__file__).parent
KEPT: Final = HERE / "gate.jsonl"
SAME, SLOWED = 40, 20
MODE: Final = "direct"
SLOWER: Final = 0.10
CHECK_LIMIT_S: Final = 900.0  # five times what one takes, with its extension

VOTES: Final = "harness/site/votes.py"
BEFORE: Final = "            return self._accept("
WORK: Final = """\
            end_ns = _perf_counter_ns() + {work_ns}
            while _perf_counter_ns() < end_ns:
                pass
"""
IMPORT: Final = "from time import perf_counter_ns as _perf_counter_ns\n"


def main(arguments: list[str]) -> int:
    same, slowed = [*map(int, arguments), *(SAME, SLOWED)[len(arguments) :]]
    with tempfile.TemporaryDirectory(prefix="pollstorm-gate-") as folder:
        clone = Path(folder) / "clone"
        run(["git", "clone", "--quiet", str(HERE.parent), str(clone)], Path(folder))
        alike = [checked(clone, "HEAD", "same", number) for number in range(same)]
        latency_ms = median(each.modes[MODE].timed["p50"].baseline_ms for each in alike)
        slow_down(clone, latency_ms * SLOWER)
        found = [checked(clone, "HEAD", "slowed", number) for number in range(slowed)]
    alarms = sum(each.verdict == "failed" for each in alike)
    hits = sum(each.verdict == "failed" for each in found)
    open_ = sum(each.verdict == "inconclusive" for each in (*alike, *found))
    took_s = median(each.took_s for each in (*alike, *found))
    print(f"{alarms} false alarms in {same} checks of a version against itself")
    print(f"{hits} of {slowed} versions found whose vote takes {SLOWER:.0%} longer")
    print(f"{open_} undecided; a check of one mode takes {took_s:.0f} s")
    return 0


def checked(clone: Path, against: str, kind: str, number: int) -> CheckResult:
    """One check, as its users start it."""
    out = clone / "reports" / "check"
    argv = [sys.executable, "-m", "harness.cli", "check", "--against", against, "--modes", MODE]
    argv += ["--seed", str(number + 1), "--out", str(out)]
    done = subprocess.run(argv, cwd=clone, capture_output=True, timeout=CHECK_LIMIT_S)
    if done.returncode not in (0, 3, 99):
        sys.exit(f"the check failed: {done.stderr.decode().strip()}")
    result = msgspec.json.decode((out / "check.json").read_bytes(), type=CheckResult)
    history.append(KEPT, result)
    timed = result.modes[MODE].timed
    said = ", ".join(f"{name} {timed[name].change:+.1%}" for name in ("p50", "cpu"))
    print(f"{kind} {number + 1}: {result.verdict} ({said}), {result.took_s:.0f} s", flush=True)
    return result


def slow_down(clone: Path, work_ms: float) -> None:
    """Let the clone's working copy compute for so long in each vote."""
    file = clone / VOTES
    text = file.read_text(encoding="utf-8")
    if text.count(BEFORE) != 1:
        sys.exit(f"{VOTES} has changed: where a vote is accepted is no longer found")
    work = WORK.format(work_ns=round(work_ms * 1e6))
    head, _, tail = text.replace(BEFORE, work + BEFORE).partition("\nimport falcon")
    file.write_text(f"{head}\n{IMPORT}import falcon{tail}", encoding="utf-8")


def run(argv: list[str], folder: Path) -> None:
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
