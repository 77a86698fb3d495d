"""What a vote costs the generator, ledger and all, against Locust's FastHttpUser.

Both run on the same core and send the same JSON to the same server on the other core, in turn; the
figures are medians of all rounds. The server is a bare asyncio protocol that answers 202 to
anything, so nothing but the clients is measured. The generator runs as in `pollstorm run`: with its
ledger, and without Locust's own statistics.
"""

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench.figure import Figure
from harness.load.fleet import Fleet
from harness.plan import Arrivals, Plan
from harness.run_folder import write_atomically
from harness.services.cores import share_cores
from harness.services.ports import free_port
from harness.services.processes import Supervisor

ROUNDS: Final = 5
ROUND_S: Final = 2.0
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


def measure() -> list[Figure]:
    ours_us, peer_us, ours_per_s, peer_per_s = [], [], [], []
    with Supervisor() as supervisor:
        folder = supervisor.temporary_directory()
        port = start_sink(supervisor, folder)
        plan = Plan(
            scenario="bench",
            duration_s=ROUND_S,
            arrivals=Arrivals(trickle_per_s=VOTES_PER_S),
        )
        for number in range(ROUNDS):
            ledgers = folder / str(number)
            ledgers.mkdir()
            fleet = Fleet(plan, supervisor, "127.0.0.1", port, ledgers, folder)
            report = fleet.run().reports[0]
            ours_us.append(report.cpu_s / report.answered * 1e6)
            peer_us.append(peer(supervisor, folder, port, VOTES_PER_S).cpu_us)
            ours_per_s.append(fleet.measure_ceiling())
            peer_per_s.append(peer(supervisor, folder, port, 0.0).per_s)
    return [
        compared("generator CPU per vote", "µs", median(ours_us), median(peer_us), most=0.4),
        compared("generator votes/s", "/s", median(ours_per_s), median(peer_per_s), least=2.0),
    ]


def compared(
    name: str,
    unit: str,
    ours: float,
    peers: float,
    *,
    most: float | None = None,
    least: float | None = None,
) -> Figure:
    ratio = ours / peers
    return Figure(
        name,
        ours,
        unit,
        f"FastHttpUser: {peers:,.0f} {unit}",
        ratio,
        f"ratio <= {most:g}" if most is not None else f"ratio >= {least:g}",
        ratio <= most if most is not None else least is not None and ratio >= least,
    )


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


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(int(sys.argv[2]), Path(sys.argv[3])))
    else:
        vote_with_fast_http_user(int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
