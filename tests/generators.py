"""A generator process started by hand, and plans for it."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.history.ledger import LEDGER_DTYPE
from harness.load.shard import GeneratorReport, Shard
from harness.plan import Arrivals, Limits, Plan, Voters

LIMIT_S = 20.0  # a generator starts in a second or two, and no load here lasts longer than three
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
Ledger = npt.NDArray[np.void]


def plan_of(per_s: float, lasts_s: float, *, results: float = 0.0, **voters: Any) -> Plan:
    return Plan(
        scenario="test",
        duration_s=lasts_s,
        arrivals=Arrivals(trickle_per_s=per_s, results_per_vote=results),
        voters=Voters(**voters),
        limits=Limits(start_s=15, grace_s=1),
    )


class GeneratorProcess:
    """One generator, started by hand."""

    def __init__(self, folder: Path, plan: Plan, port: int, **limits: Any) -> None:
        self._folder = folder
        self._report = folder / "report.json"
        shard = Shard(
            plan=plan,
            generator=1,
            generators=1,
            host="127.0.0.1",
            port=port,
            ledger_folder=str(folder),
            ready_file=str(folder / "ready"),
            start_file=str(folder / "start"),
            report_file=str(self._report),
        )
        shard.write(folder / "shard.json")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.load.generator", str(folder / "shard.json")],
            stderr=subprocess.PIPE,
            text=True,
            **limits,
        )
        wait_until((folder / "ready").exists)
        (folder / "start.part").write_text(str(time.monotonic_ns()))
        (folder / "start.part").rename(folder / "start")

    def finish(self) -> tuple[GeneratorReport | None, Ledger, str]:
        """Its report, its ledger, its last words."""
        try:
            _, words = self.process.communicate(timeout=LIMIT_S)
        finally:
            self.process.kill()
            self.process.wait()
        return GeneratorReport.read(self._report), self.ledger(), words

    def ledger(self) -> Ledger:
        files = sorted(self._folder.glob("ledger-1.*.bin"))
        records = np.concatenate([np.fromfile(file, LEDGER_DTYPE) for file in files])
        found: Ledger = records[records["sent_ns"] != 0]
        return found


def wait_until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.01)
