"""One machine's part in a load: `python -m harness.load.worker HOST PORT FOLDER`, for one load.

The shard that the master sends is played by a generator process of this machine, as on the
master's own; here only messages are passed on. So a generator that is busy never keeps the master
waiting for a sign of life. What comes of it lies in FOLDER until it has been sent.
"""

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
from harness.errors import Exit
from harness.history.ledger import LEDGER_DTYPE
from harness.load.master import CLOCK, DONE, LEDGER, READY, SHARD, START
from harness.load.shard import POLL_S, Shard
from harness.run_folder import write_atomically

PIECE_ROWS: Final = 4096  # 256 KiB of ledger in a message
TIMES: Final = ("planned_ns", "taken_ns", "sent_ns", "answered_ns")
END_S: Final = 5.0  # for a generator that was told to stop
SILENCE_S: Final = 15
"""Without a sign of life from a master that sends one each second; Locust's own minute is long to
load a site that nobody watches any more."""


class LoadWorker:
    """Waits for a shard, has it played, and sends what came of it."""

    def __init__(self, host: str, port: int, folder: Path) -> None:
        self._folder = folder
        self._shard: Shard | None = None
        self._difference_ns = 0
        self._generator: subprocess.Popen[bytes] | None = None
        self.over = Event()
        environment = Environment(user_classes=[])
        self._runner: WorkerRunner = environment.create_worker_runner(host, port)
        for kind, listener in (
            (CLOCK, self._on_clock),
            (SHARD, self._on_shard),
            (START, self._on_start),
        ):
            self._runner.register_message(kind, listener)

    @property
    def has_played(self) -> bool:
        """Whether a shard has come."""
        return self._shard is not None

    @property
    def has_ended(self) -> bool:
        """Whether the master has sent everybody home, or has gone."""
        return self.over.is_set() or len(self._runner.greenlet) == 0

    def stop(self) -> None:
        """End the generator, if one is at work."""
        if self._generator and self._generator.poll() is None:
            self._generator.terminate()
            try:
                self._generator.wait(END_S)
            except subprocess.TimeoutExpired:
                self._generator.kill()

    def _on_clock(self, msg: Message, **_: Any) -> None:  # noqa: ARG002
        told = {"now_ns": time.monotonic_ns(), "version": __version__}
        self._runner.send_message(CLOCK, told)

    def _on_shard(self, msg: Message, **_: Any) -> None:
        if self._shard is not None:  # its master has died, and another came: that one's is lost
            self.over.set()
            return
        folder = self._folder
        given = msgspec.json.decode(msg.data["shard"], type=Shard)
        self._difference_ns = msg.data["difference_ns"]
        self._shard = shard = msgspec.structs.replace(
            given,
            ledger_folder=str(folder),
            ready_file=str(folder / "ready"),
            start_file=str(folder / "start"),
            report_file=str(folder / "report.json"),
        )
        shard.write(folder / "shard.json")
        argv = [sys.executable, "-m", "harness.load.generator", str(folder / "shard.json")]
        self._generator = subprocess.Popen(argv)
        gevent.spawn(self._play, shard, self._generator)

    def _on_start(self, msg: Message, **_: Any) -> None:
        assert self._shard is not None
        write_atomically(Path(self._shard.start_file), str(msg.data["start_ns"]).encode())

    def _play(self, shard: Shard, generator: "subprocess.Popen[bytes]") -> None:
        ready = Path(shard.ready_file)
        while generator.poll() is None and not ready.exists():
            gevent.sleep(POLL_S)
        if ready.exists():
            self._runner.send_message(READY, {})
        while generator.poll() is None:  # the generator's own limits end it
            gevent.sleep(POLL_S)
        self._send_ledger(shard)
        report = Path(shard.report_file)
        content = report.read_bytes() if report.exists() else b""
        self._runner.send_message(DONE, {"report": content})

    def _send_ledger(self, shard: Shard) -> None:
        """In the master's time, piece by piece, in order."""
        for path in sorted(Path(shard.ledger_folder).glob("ledger-*.bin")):
            rows = np.fromfile(path, LEDGER_DTYPE)
            rows = rows[rows["sent_ns"] > 0]
            for name in TIMES:
                known = rows[name] > 0
                rows[name][known] -= self._difference_ns
            for first in range(0, len(rows), PIECE_ROWS):
                piece = rows[first : first + PIECE_ROWS].tobytes()
                self._runner.send_message(LEDGER, {"piece": piece})
                gevent.sleep(0)  # signs of life go between the pieces


def main(host: str, port: int, folder: Path) -> int:
    """Exit code 3: no master came, or it had nothing to play."""
    runners.MASTER_HEARTBEAT_TIMEOUT = SILENCE_S
    try:
        worker = LoadWorker(host, port, folder)
    except ConnectionError:
        return Exit.INCONCLUSIVE
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, worker.over.set)
    try:
        while not worker.has_ended:
            gevent.sleep(0.1)
    finally:
        worker.stop()
    return Exit.OK if worker.has_played else Exit.INCONCLUSIVE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
