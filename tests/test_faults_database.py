"""Faults of the database over real services: what promises to lose nothing loses nothing."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pymysql
import pytest

from harness.database.ballots import Ballots, Delivery
from harness.database.connections import connect
from harness.database.link import Failure, Link
from harness.fault import Fault
from harness.faults.deadlock import DEADLOCKS
from harness.faults.fault import Reach
from harness.faults.second_client import second_client, status
from harness.modes.mode import find_mode
from harness.plan import DatabasePlan, Plan
from harness.services.processes import Supervisor
from harness.services.stack import Stack, start_stack
from harness.services.targets import Existing
from harness.vote import Vote, mint
from tests.test_faults_processes import PLAN, Voters, suffer

FOR_S = 0.8
TRIES = 8
KINDS = ("slow-commit", "lock-table", "deadlock", "connections")
QUICK = msgspec.structs.replace(PLAN, database=DatabasePlan(timeout_s=1.0, max_connections=40))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")


def fault(kind: str) -> Fault:
    return Fault(kind=kind, at_s=0.0, for_s=FOR_S)


def plan_with(*kinds: str) -> Plan:
    faults = [
        msgspec.structs.replace(fault(kind), at_s=float(number))
        for number, kind in enumerate(kinds)
    ]
    return msgspec.structs.replace(QUICK, faults=tuple(faults))


class Crowd(Voters):
    """Beside each vote there are many of another poll, so that the table grows."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self.elsewhere = Ballots(stack.servers.database or "", 2.0, None)
        self.others = 0
        self.refused = 0

    def vote(self) -> None:
        super().vote()
        votes = [Vote(mint(7, self.others + n), "elsewhere", 1, "v" * 60) for n in range(500)]
        delivery = self.elsewhere.insert_batch(votes, 500)
        assert delivery in (Delivery.COUNTED, Delivery.REFUSED), delivery
        self.others += len(votes)
        self.refused += delivery is Delivery.REFUSED


def kept(stack: Stack) -> int:
    """The ballots of the poll."""
    database = stack.servers.database or ""
    with closing(connect(database, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pollstorm_ballots WHERE poll <> 'elsewhere'")
        return int((cursor.fetchone() or (0,))[0])


@pytest.mark.services
@pytest.mark.parametrize("mode", ["direct", "cached", "ticket", "mirrored"])
def test_a_mode_that_promises_loses_nothing_whatever_happens_to_its_database(
    mode: str, supervisor: Supervisor, tmp_path: Path
):
    with start_stack(
        supervisor, plan_with(*KINDS), find_mode(mode), tmp_path, tmp_path, Existing()
    ) as stack:
        voters = Voters(stack)
        for kind in KINDS:
            for _ in range(TRIES):  # a flusher asks its database rarely, and may be quicker
                voters.vote()
                (record,) = suffer(stack, voters, fault(kind))
                if record.hit:
                    break
            if kind == "deadlock":  # the second client is never the one that is rolled back
                assert record.detail.endswith("and 0 of the other side")
            assert record.hit, record
        for _ in range(5):
            voters.vote()
        assert stack.drain()
        assert voters.acknowledged <= kept(stack) <= voters.acknowledged + voters.unknown
        assert voters.acknowledged > 2 * len(KINDS)


@pytest.mark.services
@root_only
@pytest.mark.parametrize("mode", ["direct", "ticket"])
def test_a_full_disk_refuses_and_loses_nothing_and_has_room_again(
    mode: str, supervisor: Supervisor, tmp_path: Path
):
    with start_stack(
        supervisor, plan_with("full-disk"), find_mode(mode), tmp_path, tmp_path, Existing()
    ) as stack:
        assert stack.mariadb is not None
        assert stack.mariadb.disk is not None
        data = stack.mariadb.disk.path
        assert data.is_mount()
        voters = Crowd(stack)
        voters.vote()
        assert voters.refused == 0
        (record,) = suffer(stack, voters, fault("full-disk"))
        assert record.hit, record
        assert record.detail.startswith("the disk was full, ")
        refused = voters.refused
        assert refused > 0
        for _ in range(5):
            voters.vote()
        assert voters.refused == refused
        assert stack.drain()
        assert voters.acknowledged <= kept(stack) <= voters.acknowledged + voters.unknown
    assert not data.exists()


@pytest.mark.services
def test_a_database_that_is_ready_for_no_fault_is_as_usual_and_says_what_it_lacks(
    supervisor: Supervisor, tmp_path: Path
):
    with start_stack(
        supervisor, QUICK, find_mode("direct"), tmp_path, tmp_path, Existing()
    ) as stack:
        assert stack.mariadb is not None
        assert stack.mariadb.disk is None
        for kind, says in (
            ("full-disk", "no small disk could be mounted"),
            ("slow-commit", "was started without its binary log"),
        ):
            (record,) = suffer(stack, Voters(stack), fault(kind))
            assert not record.hit
            assert says in record.detail


@pytest.mark.services
def test_a_fault_that_nobody_felt_has_missed_and_leaves_nothing_behind(
    supervisor: Supervisor, tmp_path: Path
):
    class Nobody(Voters):
        def vote(self) -> None:
            time.sleep(0.05)

    with (
        start_stack(
            supervisor, plan_with(*KINDS), find_mode("direct"), tmp_path, tmp_path, Existing()
        ) as stack,
        second_client(Reach(stack)) as cursor,
    ):
        for kind in KINDS:
            if kind == "connections":
                continue  # the site's own idle ones are ended and come back with a vote
            (record,) = suffer(stack, Nobody(stack), fault(kind))
            assert (record.hit, record.detail) == (False, "did not meet its target"), record
        assert status(cursor, "Threads_connected") < 20
        cursor.execute("SELECT @@binlog_commit_wait_usec")
        assert cursor.fetchone() == (0,)
        assert status(cursor, DEADLOCKS) == 0


@pytest.mark.services
@root_only
def test_a_small_disk_ends_with_a_harness_that_was_killed():
    program = (
        "import sys, time; from pathlib import Path\n"
        "from harness.plan import DatabasePlan\n"
        "from harness.services.disk import mount_small_disk\n"
        "from harness.services.processes import Supervisor\n"
        "with Supervisor() as supervisor:\n"
        "    disk = mount_small_disk(supervisor.temporary_directory())\n"
        "    (disk.path / 'data').write_bytes(b'x')\n"
        "    print(disk.path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        path = Path(harness.stdout.readline().decode().strip())
        assert path.is_mount()
        harness.send_signal(signal.SIGKILL)
    until_s = time.monotonic() + 5
    while path.exists() and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not path.exists()
    assert str(path) not in Path("/proc/mounts").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("code", "tries", "ended"),
    [
        (1205, 3, Failure.REFUSED),  # lock wait timeout
        (1213, 3, Failure.REFUSED),  # deadlock
        (1114, 1, Failure.REFUSED),  # the table is full
        (1021, 1, Failure.REFUSED),  # disk full
        (1180, 1, Failure.UNKNOWN),  # an error during COMMIT
        (2013, 1, Failure.UNKNOWN),  # lost connection
    ],
)
def test_an_error_says_whether_a_transaction_may_have_been_committed(
    code: int, tries: int, ended: Failure, monkeypatch: pytest.MonkeyPatch
):
    link = Link("mysql://root@127.0.0.1/none", 1.0)
    monkeypatch.setattr(link, "connected", lambda: None)
    tried = []

    def transaction(_connection: object) -> None:
        tried.append(1)
        raise pymysql.err.OperationalError(code, "as the server says")

    assert link.attempt(transaction) is ended
    assert len(tried) == tries
