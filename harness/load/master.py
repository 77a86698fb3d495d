"""The fleet's master: `python -m harness.load.master ORDER.json` has other machines play the load.

It waits for as many workers (`pollstorm worker`) as there are shards, deals out one to each, has
them begin together, and writes what comes back where a generator of this machine would have: ready
files, reports, ledgers. Locust's master and workers carry the messages; the shards are played by
ordinary generator processes beside each worker.

Every machine has a clock of its own, and here is where that ends: what leaves has the worker's
times, and a ledger that came is put into ours. `clocks` says how well that can be done.
"""

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
import numpy as np
from locust.env import Environment
from locust.exception import RPCError, RPCReceiveError
from locust.rpc.protocol import Message
from locust.runners import STATE_MISSING, MasterRunner

from harness import __version__
from harness.errors import Exit, PollstormError, RecordingError, ServiceError
from harness.history.ledger import LEDGER_DTYPE, TIMES
from harness.load.clocks import Difference, Exchange, Translation, difference, until
from harness.load.order import (
    CLOCK,
    DONE,
    LEDGER,
    PIECE_ROWS,
    READY,
    SHARD,
    START,
    TAKEN,
    MasterOrder,
)
from harness.load.shard import CANNOT_RECORD, POLL_S, GeneratorReport, Shard
from harness.run_folder import write_atomically

EXCHANGES: Final = 20  # the quickest of so many meets an idle network nearly always
CLOCK_S: Final = 10.0  # for all of them; a worker that is slower has its few
AGAIN_S: Final = 0.5
"""After that without an answer it is asked again: Locust tells of a worker that has come a moment
before it listens to us, and what it hears in that moment it forgets."""


class Part:
    """One worker's part in the load, as far as it has come."""

    def __init__(self, worker: str, shard: Shard) -> None:
        self.worker = worker
        self.shard = shard
        self.version = ""
        self.exchanges: list[Exchange] = []
        self.begin: Difference | None = None
        self.is_ready = False
        self.is_done = False
        self.report = b""
        self.failure: PollstormError | None = None

    @property
    def name(self) -> str:
        """The machine's, to which Locust adds a number drawn by lot."""
        return f"worker {self.shard.generator} ({self.worker.rpartition('_')[0]})"

    @property
    def ledger(self) -> Path:
        return Path(self.shard.ledger_folder) / f"ledger-{self.shard.generator}.0.bin"


class Sturdy(MasterRunner):
    """Locust's master, which would be deaf after one message out of shape, whoever sent it."""

    def __init__(self, environment: Environment, host: str, port: int) -> None:
        super().__init__(environment, host, port)
        server: Any = self.server
        receive = server.recv_from_client

        def receive_any() -> tuple[str, Message]:
            try:
                found: tuple[str, Message] = receive()
            except RPCError:
                raise
            except Exception as error:  # whatever the bytes of a stranger make of a decoder
                raise RPCReceiveError("no message of ours") from error
            return found

        server.recv_from_client = receive_any

    def handle_message(self, client_id: str, msg: Message) -> None:
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            super().handle_message(client_id, msg)


class Master:
    """One load, from the first worker's coming to the last ledger's."""

    def __init__(self, order: MasterOrder) -> None:
        self._order = order
        self._environment = Environment(user_classes=[])
        self._runner = self._environment.runner = Sturdy(self._environment, order.host, order.port)
        self._parts: dict[str, Part] = {}  # by worker
        listeners: tuple[tuple[str, Callable[[Part, Any], None]], ...] = (
            (CLOCK, self._on_clock),
            (READY, self._on_ready),
            (LEDGER, self._on_ledger),
            (DONE, self._on_done),
        )
        for kind, listener in listeners:
            self._runner.register_message(kind, self._of_a_part(listener))

    def play(self) -> None:
        """Raises PollstormError. A worker that is lost is told by its missing report."""
        order = self._order
        self._gather()
        for part in self._parts.values():
            told = {"shard": msgspec.json.encode(part.shard)}
            self._runner.send_message(SHARD, told, part.worker)
        self._await_ready()
        for part in self._parts.values():
            write_atomically(Path(part.shard.ready_file), b"")
        start_file = Path(order.shards[0].start_file)
        if not _within(order.patience_s, start_file.exists):
            raise ServiceError("the fleet never gave the start")
        start_ns = int(start_file.read_text())
        for part in self._parts.values():
            assert part.begin is not None
            at = {"start_ns": start_ns + part.begin.ahead_ns}
            self._runner.send_message(START, at, part.worker)
        _within(order.lasts_s + order.transfer_s, lambda: not self._expected())
        self._ask_for_time(part for part in self._parts.values() if part.is_done)
        for part in self._parts.values():
            _conclude(part)
        self._raise_failure()

    def end(self) -> None:
        """Send the workers home."""
        self._runner.quit()

    def _gather(self) -> None:
        """Wait for as many workers as there are shards, deal these out, compare the clocks."""
        order = self._order
        wanted = len(order.shards)
        if not _within(order.patience_s, lambda: len(self._runner.clients.ready) >= wanted):
            came = len(self._runner.clients.ready)
            where = f"{order.host}:{order.port}"
            raise ServiceError(
                f"{came} of {wanted} workers came to {where} within {order.patience_s:g} s; "
                f"start `pollstorm worker --master {where}` on each machine"
            )
        workers = sorted(worker.id for worker in self._runner.clients.ready)[:wanted]
        shards = zip(workers, order.shards, strict=True)
        self._parts = {worker: Part(worker, shard) for worker, shard in shards}
        self._ask_for_time(self._parts.values())
        for part in self._parts.values():
            if not part.exchanges:
                raise ServiceError(
                    f"{part.name} does not tell its time, or plays with a pollstorm of long ago; "
                    "install the same on both machines"
                )
            if part.version != __version__:
                raise ServiceError(
                    f"{part.name} plays with pollstorm {part.version}, and this is {__version__}; "
                    "install the same on both machines"
                )
            part.begin = difference(part.exchanges)

    def _await_ready(self) -> None:
        """Raises PollstormError when one gives up or goes before the load has begun."""
        parts = self._parts.values()

        def settled() -> bool:
            hopeless = any(part.is_done or self._is_lost(part) for part in parts)
            return hopeless or all(part.is_ready for part in parts)

        in_time = _within(self._order.patience_s, settled)
        self._raise_failure()
        for part in parts:
            if part.is_done or self._is_lost(part):
                raise ServiceError(f"{part.name} was lost before the load began; run it again")
        if not in_time:
            names = ", ".join(part.name for part in parts if not part.is_ready)
            raise ServiceError(
                f"{names} did not get ready within {self._order.patience_s:g} s to play the load"
            )

    def _raise_failure(self) -> None:
        for part in self._parts.values():
            if part.failure:
                raise part.failure

    def _expected(self) -> list[Part]:
        """Of whom something may still come."""
        return [p for p in self._parts.values() if not p.is_done and not self._is_lost(p)]

    def _is_lost(self, part: Part) -> bool:
        """Whether it has gone, or given no sign of life for four seconds."""
        client = self._runner.clients.get(part.worker)
        return client is None or client.state == STATE_MISSING

    def _ask_for_time(self, parts: Iterable[Part]) -> None:
        """All at once; who has gone meanwhile answers no more."""
        gevent.joinall([gevent.spawn(self._ask_one_for_time, part) for part in parts])

    def _ask_one_for_time(self, part: Part) -> None:
        part.exchanges = []
        until_s = time.monotonic() + CLOCK_S
        while len(part.exchanges) < EXCHANGES:  # bounded by time
            known = len(part.exchanges)
            asked_s = time.monotonic()
            told = {"asked_ns": time.monotonic_ns(), "version": __version__}
            self._runner.send_message(CLOCK, told, part.worker)
            # A fine grain: what is waited for too long here is not measured, only passed by.
            while len(part.exchanges) == known and time.monotonic() - asked_s < AGAIN_S:
                if time.monotonic() > until_s or self._is_lost(part):
                    return
                gevent.sleep(POLL_S / 10)

    def _of_a_part(self, listener: Callable[[Part, Any], None]) -> Callable[..., None]:
        """The listener, for messages of those who have a part; others have nothing to say.

        A message that it cannot read is the end of that part, and no reason to die of.
        """

        def listen(msg: Message, **_: Any) -> None:
            part = self._parts.get(msg.node_id)
            if part is None or (part.is_done and msg.type != CLOCK):
                return
            try:
                listener(part, msg.data)
            except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
                part.failure = ServiceError(f"{part.name} sent what is no {msg.type}: {error}")
                part.is_done = True
            except OSError as error:
                part.failure = RecordingError(
                    f"cannot write {part.ledger}: {error.strerror}; make room and run again"
                )
                part.is_done = True

        return listen

    def _on_clock(self, part: Part, data: Any) -> None:
        came_ns = time.monotonic_ns()
        part.exchanges.append(Exchange(int(data["asked_ns"]), came_ns, int(data["now_ns"])))
        part.version = str(data["version"])

    def _on_ready(self, part: Part, _: Any) -> None:
        part.is_ready = True

    def _on_ledger(self, part: Part, data: Any) -> None:
        """A piece of a ledger, in the order in which it was sent."""
        rows = np.frombuffer(data["piece"], LEDGER_DTYPE)
        if not 0 < len(rows) <= PIECE_ROWS or np.any(rows["generator"] != part.shard.generator):
            raise ValueError("its rows are another's")
        with part.ledger.open("ab") as file:
            file.write(data["piece"])
        self._runner.send_message(TAKEN, {}, part.worker)

    def _on_done(self, part: Part, data: Any) -> None:
        """Without a report its generator died, and all that there is of its ledger has come."""
        if data["why"]:
            kind = RecordingError if data["code"] == CANNOT_RECORD else ServiceError
            part.failure = kind(f"{part.name}: {data['why']}")
        elif data["report"]:
            report = msgspec.json.decode(data["report"], type=GeneratorReport)
            part.report = msgspec.json.encode(report)
        part.is_done = True


def _conclude(part: Part) -> None:
    """Put the ledger that has come into our time, and write the report, empty if there is none.

    A part that was lost has no report file; what had come of its ledger is kept.
    """
    assert part.begin is not None
    ends = difference(part.exchanges) if part.exchanges else None
    now_ns = time.monotonic_ns()
    translation = Translation(part.begin, ends) if ends else until(part.begin, now_ns)
    if part.ledger.exists():
        rows = np.memmap(part.ledger, LEDGER_DTYPE, mode="r+")
        for name in TIMES:
            known = rows[name] > 0
            rows[name][known] = translation.ours(rows[name][known])
        rows.flush()
    if part.is_done and not part.failure:
        report = part.report
        if report:
            told = msgspec.json.decode(report, type=GeneratorReport)
            within_ms = translation.within_ns / 1e6
            report = msgspec.json.encode(msgspec.structs.replace(told, clock_within_ms=within_ms))
        write_atomically(Path(part.shard.report_file), report)


def _within(limit_s: float, condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        gevent.sleep(POLL_S)
    return True


def main(path: Path) -> int:
    logging.getLogger("locust").setLevel(logging.CRITICAL)  # what matters is said in one line
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
        master.play()
    except PollstormError as error:
        print(error, file=sys.stderr)
        return CANNOT_RECORD if isinstance(error, RecordingError) else error.exit_code
    finally:
        master.end()
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
