"""Certificates of real machines, held against what a second client or memcached itself did."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic_ns, sleep
from typing import Any

import msgspec
import pytest

from harness.audit.certificate import Certificate
from harness.audit.certificates import certify, read_certificates, write_certificates
from harness.cache.meta_client import MetaClient
from harness.database.ballots import read_ballots
from harness.deployment import Deployment
from harness.history.journal import Journal, Role
from harness.history.store import collect_journal, write_parquet
from harness.modes.mode import Answer, find_mode
from harness.plan import MemcachedPlan
from harness.run_folder import TrialFolder
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor
from harness.vote import Vote, mint
from tests.deployed import PLAN, POLL
from tests.histories import attempt, make_trial

pytestmark = pytest.mark.services

VOTES = 5
PREFIX = PLAN.queue.prefix
Intervention = Callable[[MetaClient, str], object]


class Trial:
    """Votes, drains and interventions, all recorded as in a trial."""

    def __init__(self, deployment: Deployment, mode: str, folder: Path) -> None:
        self.deployment = msgspec.structs.replace(deployment, mode=mode)
        self.raw = folder / "raw"
        self.raw.mkdir()
        self.ledger: list[dict[str, Any]] = []
        found = find_mode(mode)
        self.site = found.session(deployment, Journal(self.raw, Role.SITE))
        self.drain = found.drain(deployment, Journal(self.raw, Role.FLUSHER))
        self.folder = folder

    def cast(self, number: int) -> None:
        sent_ns = monotonic_ns()
        answer = self.site.accept(Vote(mint(1, number), POLL.name, 1, f"voter-{number}"))
        assert answer is Answer.QUEUED
        times = {"planned_ns": sent_ns, "taken_ns": sent_ns, "sent_ns": sent_ns}
        row = attempt(number) | times | {"answered_ns": monotonic_ns()}
        self.ledger.append(row)

    def certified(self) -> list[Certificate]:
        trial: TrialFolder = make_trial(
            self.folder / "trial", self.ledger, mode=self.deployment.mode, load_start_ns=0
        )
        collect_journal(self.raw, trial.journal)
        write_parquet(read_ballots(self.deployment.database, 5.0), trial.ballots)
        write_certificates(trial, certify(trial, trial.read_facts()))
        return read_certificates(trial)


@contextmanager
def trial_of(deployment: Deployment, mode: str, folder: Path) -> Iterator[Trial]:
    trial = Trial(deployment, mode, folder)
    with closing(trial.site), closing(trial.drain):
        yield trial


def slots(mode: str) -> list[str]:
    """The keys of the slots of all votes."""
    first = (1 << 40) if mode == "ticket" else 0
    return [f"{PREFIX}-key-{first + number}" for number in range(1, VOTES + 1)]


def delete_one(stranger: MetaClient, _: str) -> None:
    for key in (slots("classic")[1], slots("ticket")[1]):
        stranger.meta_delete(key)


def wipe(_: MetaClient, address: str) -> None:
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"flush_all\r\n")
        assert connection.recv(10) == b"OK\r\n"


def reset(stranger: MetaClient, _: str) -> None:
    stranger.meta_set(f"{PREFIX}-curr", b"0")


def overwrite(stranger: MetaClient, _: str) -> None:
    stranger.meta_set(slots("classic")[1], b"nonsense")


@pytest.mark.parametrize(
    ("mode", "intervention", "lost", "cause", "by"),
    [
        ("classic", delete_one, 1, "evicted", "memcached"),
        ("ticket", delete_one, 1, "evicted", "memcached"),
        ("classic", wipe, VOTES, "wiped", "memcached"),
        ("owned", wipe, VOTES, "wiped", "memcached"),
        ("ticket", wipe, VOTES, "wiped", "memcached"),
        ("classic", reset, VOTES, "foreign-reset", "outside"),
        ("owned", reset, VOTES, "foreign-reset", "outside"),
        ("classic", overwrite, 1, "overwritten", "outside"),
    ],
)
def test_what_a_second_client_does_is_named(
    deployment: Deployment, tmp_path, mode: str, intervention: Intervention, lost, cause, by
):
    with trial_of(deployment, mode, tmp_path) as trial:
        trial.drain.drain(0)  # a warm queue
        for number in range(VOTES):
            trial.cast(number)
        with closing(MetaClient(deployment.memcached[0], 5.0)) as stranger:
            intervention(stranger, deployment.memcached[0])
        for _ in range(2):
            trial.drain.drain(0)
        found = trial.certified()
    assert [(c.cause, c.certain, c.killer_by) for c in found] == [(cause, True, by)] * lost, [
        c.why for c in found
    ]


def test_what_memcached_says_that_it_evicted_is_what_certificates_call_evicted(
    supervisor: Supervisor, deployment: Deployment, tmp_path, logs
):
    server = start_memcached(supervisor, MemcachedPlan(memory_mib=2), logs / "small.log")
    small = msgspec.structs.replace(deployment, memcached=(server.address,))
    many = 9_000
    with watching(server.address) as watcher, trial_of(small, "ticket", tmp_path) as trial:
        trial.drain.drain(0)
        for number in range(many):
            trial.cast(number)
        for _ in range(3):
            trial.drain.drain(0)
        found = trial.certified()
    lost = {c.slot for c in found if c.cause == "evicted" and c.certain}
    assert len(lost) == len(found) > 0
    assert watcher.slots <= lost
    assert len(lost - watcher.slots) <= watcher.dropped  # none, unless memcached dropped lines


class Watcher:
    """What memcached says on its own: the slots that it evicted, and how many lines it dropped."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._address = host, int(port)
        self.slots: set[int] = set()
        self.dropped = 0
        self._connection = socket.create_connection(self._address)
        self._connection.sendall(b"watch evictions\r\n")
        self._file = self._connection.makefile("rb")
        assert self._file.readline() == b"OK\r\n"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._file:
            _, found, rest = line.decode().partition(f"key={PREFIX}-key-")
            if found:
                self.slots.add(int(rest.split(" ")[0]))

    def end(self) -> None:
        """Wait until nothing more comes, then count what was dropped."""
        for _ in range(50):
            known = len(self.slots)
            sleep(0.1)
            if len(self.slots) == known:
                break
        self.dropped = self._stat(b"log_worker_dropped") + self._stat(b"log_watcher_skipped")
        self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._file.close()
        self._connection.close()

    def _stat(self, name: bytes) -> int:
        with socket.create_connection(self._address) as connection:
            connection.sendall(b"stats\r\n")
            answer = b""
            while b"END\r\n" not in answer:
                answer += connection.recv(65_536)
        return int(answer.partition(name + b" ")[2].split(b"\r\n")[0])


@contextmanager
def watching(address: str) -> Iterator[Watcher]:
    watcher = Watcher(address)
    yield watcher
    watcher.end()
