"""One machine's part in a load: `python -m harness.load.worker HOST PORT FOLDER WAIT_S`, for one
load.

The shard that the master sends is played by a generator process of this machine, as on the
master's own; here only messages are passed on. So a generator that is busy never keeps the master
waiting for a sign of life. What comes of it lies in FOLDER until it has been sent.

What the master sends is taken for nothing better than a stranger's: it is checked as a plan file
is, names no place on this machine, and loads no host that was not allowed here.
"""

import logging
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
import numpy as np
from gevent.event import Event
from locust import runners
from locust.env import Environment
from locust.rpc.protocol import Message
from locust.runners import WorkerRunner

from harness import __version__
from harness.errors import Exit, PlanError
from harness.history.ledger import LEDGER_DTYPE
from harness.load.order import (
    CLOCK,
    DONE,
    LEDGER,
    MASTER_LOST,
    NO_MASTER,
    PIECE_ROWS,
    READY,
    SHARD,
    START,
    TAKEN,
    shard_of,
)
from harness.load.shard import CANNOT_RECORD, POLL_S, Shard
from harness.run_folder import write_atomically

AHEAD: Final = 64  # pieces, 16 MiB: more than is under way on a fast and distant network
END_S: Final = 2.0  # for a generator that was told to stop, and for its ledger to leave
SILENCE_S: Final = 15
"""Without a sign of life from a master that sends one each second; Locust's own minute is long to
load a site that nobody watches any more."""
CONNECT_S: Final = 5  # Locust's own wait for a master's first answer, before it asks again
FAREWELL_S: Final = 1.0  # for the last message to leave


class LoadWorker:
    """Waits for a shard, has it played, and sends what came of it."""

    def __init__(self, host: str, port: int, folder: Path) -> None:
        self._folder = folder
        self._shard: Shard | None = None
        self._generator: subprocess.Popen[bytes] | None = None
        self._taken = 0
        self._sent = Event()
        self.over = Event()
        """It is to end, whatever the master still wants."""
        self.failure = ""
        environment = Environment(user_classes=[])
        self._runner: WorkerRunner = environment.create_worker_runner(host, port)
        for kind, listener in (
            (CLOCK, self._on_clock),
            (SHARD, self._on_shard),
            (START, self._on_start),
            (TAKEN, self._on_taken),
        ):
            self._runner.register_message(kind, listener)

    @property
    def has_begun(self) -> bool:
        """Whether a shard has come."""
        return self._shard is not None

    @property
    def has_ended(self) -> bool:
        """Whether the master has sent everybody home, or has gone."""
        return self.over.is_set() or len(self._runner.greenlet) == 0

    @property
    def is_forsaken(self) -> bool:
        """Whether the master was heard once, and has been silent since."""
        heard_s = self._runner.last_heartbeat_timestamp
        return heard_s is not None and time.time() - heard_s > SILENCE_S

    def stop(self) -> None:
        """End the generator, if one is at work; a master that still listens gets its ledger."""
        generator = self._generator
        if generator and not self._sent.is_set():
            generator.terminate()
            self._sent.wait(END_S)
            generator.kill()
        runner = self._runner
        if len(runner.greenlet):  # nobody has sent us home, so that somebody may wait for us
            runner.environment.events.quitting.fire(environment=runner.environment)
            runner.greenlet.kill()
        context = runner.client.socket.context
        runner.client.close(linger=round(FAREWELL_S * 1000))
        context.term()  # otherwise what was just said would end with this process

    def _on_clock(self, msg: Message, **_: Any) -> None:
        asked_ns = msg.data.get("asked_ns", 0)
        told = {"now_ns": time.monotonic_ns(), "version": __version__, "asked_ns": asked_ns}
        self._runner.send_message(CLOCK, told)
        theirs = str(msg.data.get("version", "of long ago"))[:40]
        if theirs != __version__:
            self.failure = (
                f"the master plays with pollstorm {theirs}, and this is {__version__}; "
                "install the same on both machines"
            )
            gevent.spawn_later(FAREWELL_S, self.over.set)  # it names us first

    def _on_shard(self, msg: Message, **_: Any) -> None:
        if self._shard is not None:  # its master has died, and another came: that one's is lost
            self.over.set()
            return
        try:
            given = shard_of(msg.data)
        except PlanError as error:
            self.failure = f"what the master sent cannot be played: {error}"
            self._say_done(Exit.USAGE, self.failure)
            gevent.spawn_later(FAREWELL_S, self.over.set)
            return
        folder = self._folder
        self._shard = shard = msgspec.structs.replace(
            given,
            ledger_folder=str(folder),
            ready_file=str(folder / "ready"),
            start_file=str(folder / "start"),
            report_file=str(folder / "report.json"),
        )
        gevent.spawn(self._play, shard)

    def _on_start(self, msg: Message, **_: Any) -> None:
        if self._shard:
            start_ns = int(msg.data["start_ns"])
            write_atomically(Path(self._shard.start_file), str(start_ns).encode())

    def _on_taken(self, msg: Message, **_: Any) -> None:  # noqa: ARG002
        self._taken += 1

    def _play(self, shard: Shard) -> None:
        try:
            code, why = self._generate(shard)
            self._send_ledger(shard)
            report = Path(shard.report_file)
            self._say_done(code, why, report.read_bytes() if report.exists() else b"")
        except OSError as error:  # nearly always a full disk
            self.failure = f"cannot write in {self._folder}: {error.strerror}; make room there"
            self._say_done(CANNOT_RECORD, self.failure)
        finally:
            self._sent.set()

    def _generate(self, shard: Shard) -> tuple[int, str]:
        """The generator's exit code, and why it gave up; empty when it did not."""
        path, log = self._folder / "shard.json", self._folder / "generator.log"
        shard.write(path)
        argv = [sys.executable, "-m", "harness.load.generator", str(path)]
        with log.open("wb") as output:
            generator = self._generator = subprocess.Popen(argv, stdout=output, stderr=output)
        ready = Path(shard.ready_file)
        while generator.poll() is None and not ready.exists():
            gevent.sleep(POLL_S)
        if ready.exists():
            self._runner.send_message(READY, {})
        while generator.poll() is None:  # its own limits end it
            gevent.sleep(POLL_S)
        code = generator.returncode
        if code <= 0 or code == Exit.INTERRUPTED:
            return code, ""
        self.failure = _last_line(log) or f"its generator ended with exit code {code}"
        return code, self.failure

    def _send_ledger(self, shard: Shard) -> None:
        """Piece by piece, in order, no more ahead of the master than a network takes."""
        sent = 0
        for path in sorted(Path(shard.ledger_folder).glob("ledger-*.bin"), key=_segment):
            slots = np.memmap(path, LEDGER_DTYPE, mode="r")
            rows = slots[slots["sent_ns"] > 0]
            for first in range(0, len(rows), PIECE_ROWS):
                while sent - self._taken >= AHEAD and not self.has_ended:
                    gevent.sleep(POLL_S)
                piece = rows[first : first + PIECE_ROWS].tobytes()
                self._runner.send_message(LEDGER, {"piece": piece})
                sent += 1
                gevent.sleep(0)  # signs of life go between the pieces

    def _say_done(self, code: int, why: str, report: bytes = b"") -> None:
        self._runner.send_message(DONE, {"report": report, "code": int(code), "why": why})


def _segment(path: Path) -> int:
    """The number n of `ledger-<generator>.<n>.bin`: as text, 10 comes before 2."""
    return int(path.suffixes[-2].removeprefix("."))


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("generator: ") if lines else ""


def main(host: str, port: int, folder: Path, wait_s: float) -> int:
    """Exit code 3: it was sent home with nothing to play; `order` has those that are no one's."""
    logging.getLogger("locust").setLevel(logging.CRITICAL)  # what matters is said in one line
    begun_s = time.monotonic()
    runners.MASTER_HEARTBEAT_TIMEOUT = SILENCE_S
    runners.CONNECT_TIMEOUT = max(1, math.ceil(min(CONNECT_S, wait_s)))
    runners.CONNECT_RETRY_COUNT = max(0, math.ceil(wait_s / runners.CONNECT_TIMEOUT) - 1)
    try:
        worker = LoadWorker(host, port, folder)
    except ConnectionError:
        return NO_MASTER
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, worker.over.set)
    code: int = Exit.OK
    try:
        while not worker.has_ended:
            if not worker.has_begun and time.monotonic() - begun_s > wait_s:
                code = NO_MASTER
                break
            gevent.sleep(0.1)
        if worker.is_forsaken:
            code = MASTER_LOST if worker.has_begun else code
    finally:
        worker.stop()
    if worker.failure:
        print(worker.failure, file=sys.stderr)
        return Exit.FAILED
    return code if worker.has_begun or code else Exit.INCONCLUSIVE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])))
