"""The fleet's master: `python -m harness.load.master ORDER.json` has other machines play the load.

It waits for as many workers (`pollstorm worker`) as there are shards, deals out one to each, has
them begin together, and writes what comes back where a generator of this machine would have: ready
files, reports, ledgers. Locust's master and workers carry the messages; the shards are played by
ordinary generator processes beside each worker.

Every machine has a clock of its own. The master asks each worker for its time, some twenty times;
the exchange that was answered most quickly gives the difference to within half its duration. By it
the worker turns its ledger's times into the master's.
"""

import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
from gevent.event import Event
from locust.env import Environment
from locust.exception import RPCError
from locust.rpc.protocol import Message
from locust.runners import STATE_MISSING, MasterRunner

from harness import __version__
from harness.errors import Exit
from harness.load.order import TRANSFER_S, MasterOrder
from harness.load.shard import POLL_S, Shard
from harness.run_folder import write_atomically

CLOCK: Final = "pollstorm-clock"
SHARD: Final = "pollstorm-shard"
READY: Final = "pollstorm-ready"
START: Final = "pollstorm-start"
LEDGER: Final = "pollstorm-ledger"
DONE: Final = "pollstorm-done"
EXCHANGES: Final = 20  # the quickest of so many meets an idle network nearly always
ANSWER_S: Final = 2.0  # for one of them; a worker that is slower is asked again


class Master:
    """One load, from the first worker's coming to the last ledger's."""

    def __init__(self, order: MasterOrder) -> None:
        self._order = order
        self._environment = Environment(user_classes=[])
        self._runner: MasterRunner = self._environment.create_master_runner(order.host, order.port)
        self._shards: dict[str, Shard] = {}  # by worker
        self._clocks: dict[str, list[tuple[int, int]]] = defaultdict(list)  # duration, difference
        self._asked_ns: dict[str, int] = {}
        self._versions: dict[str, str] = {}
        self._answered = Event()
        self._ready: set[str] = set()
        self._done: set[str] = set()
        for kind, listener in (
            (CLOCK, self._on_clock),
            (READY, self._on_ready),
            (LEDGER, self._on_ledger),
            (DONE, self._on_done),
        ):
            self._runner.register_message(kind, listener)

    def play(self) -> str:
        """What went wrong; empty if nothing did. A lost worker is told by its missing report."""
        order = self._order
        wanted = len(order.shards)
        if not _within(order.patience_s, lambda: len(self._runner.clients.ready) >= wanted):
            came = len(self._runner.clients.ready)
            where = f"{order.host}:{order.port}"
            return (
                f"{came} of {wanted} workers came to {where} within {order.patience_s:g} s; "
                f"start `pollstorm worker --master {where}` on each machine"
            )
        workers = sorted(worker.id for worker in self._runner.clients.ready)[:wanted]
        self._shards = dict(zip(workers, order.shards, strict=True))
        differences = {worker: self._difference_ns(worker) for worker in workers}
        for worker in workers:
            if (theirs := self._versions.get(worker, "another")) != __version__:
                return (
                    f"{worker} plays with pollstorm {theirs}, and this is {__version__}; "
                    "install the same on both machines"
                )
        for worker, shard in self._shards.items():
            told = {"shard": msgspec.json.encode(shard), "difference_ns": differences[worker]}
            self._runner.send_message(SHARD, told, worker)
        if not _within(order.patience_s, lambda: self._ready >= set(workers)):
            return f"{wanted - len(self._ready)} workers did not get ready to play their share"
        for shard in order.shards:
            write_atomically(Path(shard.ready_file), b"")
        start_file = Path(order.shards[0].start_file)
        if not _within(order.patience_s, start_file.exists):
            return "the fleet never gave the start"
        start_ns = int(start_file.read_text())
        for worker in workers:
            at = {"start_ns": start_ns + differences[worker]}
            self._runner.send_message(START, at, worker)
        _within(order.lasts_s + TRANSFER_S, lambda: self._done | self._lost() >= set(workers))
        return ""

    def end(self) -> None:
        """Send the workers home."""
        self._runner.quit()

    def _lost(self) -> set[str]:
        clients = self._runner.clients
        return {
            worker
            for worker in self._shards
            if worker not in clients or clients[worker].state == STATE_MISSING
        }

    def _difference_ns(self, worker: str) -> int:
        """What the worker's clock shows more than ours, by the quickest of several exchanges."""
        for _ in range(EXCHANGES):
            self._answered.clear()
            self._asked_ns[worker] = time.monotonic_ns()
            self._runner.send_message(CLOCK, {}, worker)
            self._answered.wait(ANSWER_S)
        return min(self._clocks[worker])[1] if self._clocks[worker] else 0

    def _on_clock(self, msg: Message, **_: Any) -> None:
        now_ns, asked_ns = time.monotonic_ns(), self._asked_ns[msg.node_id]
        middle_ns = (asked_ns + now_ns) // 2
        self._clocks[msg.node_id].append((now_ns - asked_ns, msg.data["now_ns"] - middle_ns))
        self._versions[msg.node_id] = msg.data.get("version", "of long ago")
        self._answered.set()

    def _on_ready(self, msg: Message, **_: Any) -> None:
        self._ready.add(msg.node_id)

    def _on_ledger(self, msg: Message, **_: Any) -> None:
        """A piece of a ledger, in the order in which it was sent."""
        shard = self._shards[msg.node_id]
        path = Path(shard.ledger_folder) / f"ledger-{shard.generator}.0.bin"
        with path.open("ab") as file:
            file.write(msg.data["piece"])

    def _on_done(self, msg: Message, **_: Any) -> None:
        report = msg.data["report"]
        if report:  # otherwise its generator died, and all that there is of its ledger has come
            write_atomically(Path(self._shards[msg.node_id].report_file), report)
        self._done.add(msg.node_id)


def _within(limit_s: float, condition: Any) -> bool:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        gevent.sleep(POLL_S)
    return True


def main(path: Path) -> int:
    order = msgspec.json.decode(path.read_bytes(), type=MasterOrder)
    try:
        master = Master(order)
    except RPCError as error:
        print(
            f"cannot listen on {order.host}:{order.port}: {error}; another run may listen there, "
            "--listen names another port",
            file=sys.stderr,
        )
        return Exit.FAILED
    # Who is told to end sends the workers home first; they would go on loading the site.
    ended = SystemExit(Exit.INTERRUPTED)
    gevent.signal_handler(signal.SIGTERM, gevent.kill, gevent.getcurrent(), ended)
    try:
        wrong = master.play()
    finally:
        master.end()
    if wrong:
        print(wrong, file=sys.stderr)
        return Exit.FAILED
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
