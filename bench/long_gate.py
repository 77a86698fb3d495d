"""`python -m bench.long_gate [SAME] [SLOWED]`: is the gate to be believed?

So many checks of a version against itself, where each that fails is a false alarm, and so many
against a slowed version, where each that does not fail is a miss. Half of the slowed ones wait
on each vote for a tenth of its median latency, the others compute on each vote for a tenth of its
processor time: so either figure has to find what the other one hardly sees. A tenth of what the
last check of equal versions measured: a machine's speed changes within the hour. A wait is not
simply added to the median, as others get on meanwhile: how much comes of one is learnt from the
checks before.

It all happens in clones of this repository, by the verb itself, so that a check goes the way that
it goes for its users. It takes more than an hour. Each result is kept in `bench/gate-<kind>.jsonl`,
a history that `pollstorm report` draws; another call goes on where this one stopped, for as long
as the commit is the same.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median, stdev
from typing import Final

import msgspec

from harness.gate import history
from harness.gate.outcome import CheckResult, Timed

HERE: Final = Path(__file__).parent
SAME, SLOWED = 40, 20
ALARMS, MISSES = 2, 1  # at most
KINDS: Final = ("same", "waits", "computes")
MODE: Final = "direct"
SLOWER: Final = 0.10
CHECK_LIMIT_S: Final = 900.0  # five times what one takes, with its extension

VOTES: Final = "harness/site/votes.py"
BEFORE: Final = "            return self._accept("
BODIES: Final = {
    "waits": """\
            _sleep({s:.9f})
""",
    "computes": """\
            end_ns = _thread_time_ns() + {s:.9f} * 1e9
            while _thread_time_ns() < end_ns:
                pass
""",
}
FIGURE_OF: Final = {"waits": "p50", "computes": "cpu"}  # which it makes a tenth larger
LEAST_GAIN: Final = 0.5  # what noise may make of one check, so that nothing is asked to excess
IMPORTS: Final = (
    "from time import sleep as _sleep\nfrom time import thread_time_ns as _thread_time_ns\n"
)


def main(arguments: list[str]) -> int:
    same, slowed = [*map(int, arguments), *(SAME, SLOWED)[len(arguments) :]]
    wanted = {"same": same, "waits": slowed - slowed // 2, "computes": slowed // 2}
    with tempfile.TemporaryDirectory(prefix="pollstorm-gate-") as folder:
        clone = Path(folder) / "same"
        run(["git", "clone", "--quiet", str(HERE.parent), str(clone)])
        found = {kind: kept(kind, commit_of(clone)) for kind in KINDS}
        if not timed(found["same"]):
            found["same"].append(checked(clone, "same", len(found["same"]) + 1))
        if not timed(found["same"]):
            sys.exit("no times could be measured, so nothing is known to slow down: start it again")
        clones = {"same": clone}
        gains: dict[str, list[float]] = {kind: [] for kind in BODIES}
        for kind in BODIES:
            clones[kind] = Path(folder) / kind
            run(["git", "clone", "--quiet", str(clone), str(clones[kind])])
        while short := [kind for kind in KINDS if len(found[kind]) < wanted[kind]]:
            # whichever is furthest behind, so that whatever is there when it is stopped is a sample
            kind = min(short, key=lambda kind: len(found[kind]) / wanted[kind])
            if kind in BODIES:
                aim_ms = SLOWER * timed(found["same"])[-1][FIGURE_OF[kind]].baseline_ms
                asked_ms = aim_ms / median(gains[kind] or [1.0])
                slow_down(clones[kind], kind, asked_ms / 1000)
            result = checked(clones[kind], kind, len(found[kind]) + 1)
            found[kind].append(result)
            if kind in BODIES and (figures := result.modes[MODE].timed):
                figure = figures[FIGURE_OF[kind]]
                gains[kind].append(max(LEAST_GAIN, figure.change * figure.baseline_ms / asked_ms))
    return summary(found)


def kept(kind: str, commit: str) -> list[CheckResult]:
    """What an earlier call has found of this commit."""
    file = file_of(kind)
    known = history.read(file) if file.exists() else []
    return [result for result in known if result.baseline.commit == commit]


def file_of(kind: str) -> Path:
    return HERE / f"gate-{kind}.jsonl"


def commit_of(clone: Path) -> str:
    return run(["git", "-C", str(clone), "rev-parse", "--short", "HEAD"]).strip()


def checked(clone: Path, kind: str, number: int) -> CheckResult:
    """One check, as its users start it."""
    out = clone / "reports" / "check"
    argv = [sys.executable, "-m", "harness.cli", "check", "--against", "HEAD", "--modes", MODE]
    argv += ["--seed", str(number), "--out", str(out)]
    done = subprocess.run(argv, cwd=clone, capture_output=True, timeout=CHECK_LIMIT_S)
    if done.returncode not in (0, 3, 99):
        sys.exit(f"the check failed: {done.stderr.decode().strip()}")
    result = msgspec.json.decode((out / "check.json").read_bytes(), type=CheckResult)
    history.append(file_of(kind), result)
    print(
        f"{kind} {number}: {result.verdict} ({changes([result])}), {result.took_s:.0f} s",
        flush=True,
    )
    return result


def timed(results: Sequence[CheckResult]) -> list[dict[str, Timed]]:
    """The figures of the checks that have any: what a starved generator measured is none."""
    return [each.modes[MODE].timed for each in results if each.modes[MODE].timed]


def changes(results: Sequence[CheckResult]) -> str:
    """The median change of each figure, and the standard deviation where there are several."""
    said = []
    for name in ("p50", "cpu"):
        found = [figures[name].change for figures in timed(results)]
        if found:
            spread = f" ± {stdev(found):.1%}" if len(found) > 1 else ""
            said.append(f"{name} {median(found):+.1%}{spread}")
    return ", ".join(said) or "no times"


def slow_down(clone: Path, kind: str, seconds: float) -> None:
    """Let the clone's working copy do that in each vote, for so long."""
    run(["git", "-C", str(clone), "checkout", "--quiet", "--", VOTES])
    file = clone / VOTES
    text = file.read_text(encoding="utf-8")
    if text.count(BEFORE) != 1:
        sys.exit(f"{VOTES} has changed: where a vote is accepted is no longer found")
    print(f"{kind}: each vote for {seconds * 1e6:.0f} µs", flush=True)
    body = BODIES[kind].format(s=seconds)
    head, _, tail = text.replace(BEFORE, body + BEFORE).partition("\nimport falcon")
    file.write_text(f"{head}\n{IMPORTS}import falcon{tail}", encoding="utf-8")


def summary(found: dict[str, list[CheckResult]]) -> int:
    """Print what was found; whether the gate is to be believed, as an exit code."""
    for kind, results in found.items():
        if results:
            verdicts = [each.verdict for each in results]
            times = [each.took_s for each in results]
            extended = sum(each.modes[MODE].extended for each in results)
            print(
                f"{kind}: {verdicts.count('failed')} of {len(results)} called worse, "
                f"{verdicts.count('inconclusive')} undecided, {extended} extended; "
                f"{changes(results)}; {median(times):.0f} s each, {max(times):.0f} s at most"
            )
    alarms = sum(each.verdict == "failed" for each in found["same"])
    intervals = [each[name] for each in timed(found["same"]) for name in FIGURE_OF.values()]
    beside = sum(not each.low <= 0 <= each.high for each in intervals)
    print(f"{beside} of {len(intervals)} intervals of equal versions leave zero out")
    slowed = [each for kind in BODIES for each in found[kind]]
    misses = sum(each.verdict != "failed" for each in slowed)
    print(f"{alarms} false alarms in {len(found['same'])}, {misses} misses in {len(slowed)}")
    return int(alarms > ALARMS or misses > MISSES)


def run(argv: list[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
