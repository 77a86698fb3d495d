"""What a vote costs the generator, ledger and all, against Locust's FastHttpUser.

Both run on the same core and send the same JSON to the same server on the other core, in turn. The
server is a bare asyncio protocol that answers 202 to anything, so nothing but the clients is
measured. The generator runs as in `pollstorm run`: with its ledger, and without Locust's own
statistics.
"""

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from harness.load.fleet import Fleet, LoadedSite
from harness.plan import Arrivals, Plan
from harness.run_folder import write_atomically
from harness.services.cores import share_cores
from harness.services.ports import free_port
from harness.services.processes import Supervisor

ROUNDS: Final = 9  # of some 5 s, most of which are the starts of processes
ROUND_S: Final = 1.0
# About half of what FastHttpUser can send from one core here: below saturation for both.
VOTES_PER_S: Final = 4000.0
PACED_USERS: Final = 100
FULL_SPEED_USERS: Final = 32  # as many as the generator uses for its ceiling
WARM_UP_S: Final = 0.5
START_LIMIT_S: Final = 15.0
PEER_LIMIT_S: Final = 30.0
ANSWER: Final = (
    b"HTTP/1.1 202 Accepted\r\nserver: sink\r\ncontent-type: application/json\r\n"
    b'content-length: 19\r\n\r\n{"status":"queued"}'
)

PLAN: Final = Plan(
    scenario="bench", duration_s=ROUND_S, arrivals=Arrivals(trickle_per_s=VOTES_PER_S)
)


def cpu() -> list[Figure]:
    """Of a vote, below saturation."""
    with Supervisor() as supervisor:
        folder = supervisor.temporary_directory()
        port = start_sink(supervisor, folder)
        rounds = in_turn(
            lambda: generator_cpu_us(supervisor, folder, port),
            lambda: peer(supervisor, folder, port, VOTES_PER_S).cpu_us,
            ROUNDS,
        )
    target = Target("ratio", "<=", 0.4)
    return [figure("generator.cpu", "µs/vote", "FastHttpUser", rounds, target)]


def rate() -> list[Figure]:
    """At full speed from one core."""
    with Supervisor() as supervisor:
        folder = supervisor.temporary_directory()
        port = start_sink(supervisor, folder)
        fleet = Fleet(PLAN, supervisor, folder, LoadedSite("127.0.0.1", port, folder))
        rounds = in_turn(
            fleet.measure_ceiling, lambda: peer(supervisor, folder, port, 0.0).per_s, ROUNDS
        )
    target = Target("ratio", ">=", 2.0)
    return [figure("generator.rate", "votes/s", "FastHttpUser", rounds, target)]


def generator_cpu_us(supervisor: Supervisor, folder: Path, port: int) -> float:
    """One round of the plan; per vote, in a fresh ledger."""
    ledgers = supervisor.temporary_directory()
    try:
        fleet = Fleet(PLAN, supervisor, folder, LoadedSite("127.0.0.1", port, ledgers))
        (report,) = fleet.run().reports.values()
    finally:
        supervisor.remove(ledgers)
    return report.cpu_s / report.answered * 1e6


def start_sink(supervisor: Supervisor, folder: Path) -> int:
    port = free_port()
    ready = folder / "sink-ready"
    child = supervisor.spawn(
        "sink",
        [sys.executable, "-m", "bench.bench_generator", "sink", str(port), str(ready)],
        log=folder / "sink.log",
        cpus=share_cores().services,
    )
    supervisor.wait_until_ready(child, ready.exists, START_LIMIT_S)
    return port


class PeerReport(msgspec.Struct, frozen=True):
    """What a round of FastHttpUser took."""

    cpu_us: float  # per vote
    per_s: float


def peer(supervisor: Supervisor, folder: Path, port: int, per_s: float) -> PeerReport:
    """One round of FastHttpUser at that rate; 0: as fast as it can."""
    found = folder / "peer.json"
    child = supervisor.spawn(
        "FastHttpUser",
        [
            sys.executable, "-m", "bench.bench_generator",
            "peer", str(port), str(per_s), str(found),
        ],
        log=folder / "peer.log",
        cpus=share_cores().generator,
    )  # fmt: skip
    child.wait(PEER_LIMIT_S)
    child.stop(0)
    report = msgspec.json.decode(found.read_bytes(), type=PeerReport)
    found.unlink()
    return report


class Sink(asyncio.Protocol):
    """Answers every request, whatever it asks for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, blank_line, rest = self._received.partition(b"\r\n\r\n")
            _, _, length = head.lower().partition(b"content-length:")
            body_bytes = int(length.partition(b"\r\n")[0] or 0)
            if not blank_line or len(rest) < body_bytes:
                return
            self._received = rest[body_bytes:]
            self._transport.write(ANSWER)


async def serve(port: int, ready: Path) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", port, backlog=4096)
    ready.touch()
    await server.serve_forever()


def vote_with_fast_http_user(port: int, per_s: float, found: Path) -> None:
    import gevent
    from locust import FastHttpUser, constant, constant_throughput, task
    from locust.env import Environment

    users = PACED_USERS if per_s else FULL_SPEED_USERS
    numbers = iter(range(10**9))

    class Peer(FastHttpUser):
        host = f"http://127.0.0.1:{port}"
        wait_time = constant_throughput(per_s / users) if per_s else constant(0)

        @task
        def vote(self) -> None:
            vote = f"{next(numbers):016x}"
            body = {"vote": vote, "choice": 1, "voter": f"v{vote}"}
            self.client.post("/polls/controversial-poll/votes", json=body)

    environment = Environment(user_classes=[Peer])
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    gevent.sleep(WARM_UP_S)
    total = environment.stats.total
    votes, cpu_s, begin_s = total.num_requests, time.process_time(), time.monotonic()
    gevent.sleep(ROUND_S)
    votes = total.num_requests - votes
    cpu_s, took_s = time.process_time() - cpu_s, time.monotonic() - begin_s
    write_atomically(found, msgspec.json.encode(PeerReport(cpu_s / votes * 1e6, votes / took_s)))
    os._exit(0)  # nothing to clean up, and users stop slowly


MEASUREMENTS: Final = (
    Measurement(("generator.cpu",), cpu),
    Measurement(("generator.rate",), rate),
)

if __name__ == "__main__":
    if sys.argv[1] == "sink":
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(int(sys.argv[2]), Path(sys.argv[3])))
    else:
        vote_with_fast_http_user(int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
