"""The whole stack of a mode, and `pollstorm up`, over real processes."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psutil
import pytest

from harness.database import schema
from harness.database.connections import connect
from harness.database.polls import keep
from harness.errors import Exit, PlanError, ServiceError
from harness.modes.mode import find_mode
from harness.plan import FlusherPlan, Plan, Site
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer, require_different
from harness.services.ports import LOOPBACK
from harness.services.processes import Supervisor
from harness.services.stack import Stack, start_stack
from harness.services.targets import Existing
from tests.test_survival import alive

pytestmark = pytest.mark.services

PLAN = Plan(scenario="test")
ENDS_WITHIN_S = 20.0


@pytest.fixture
def stack(supervisor: Supervisor, tmp_path: Path) -> Iterator[Stack]:
    mode = find_mode("classic")
    with start_stack(supervisor, PLAN, mode, tmp_path, tmp_path, Existing()) as started:
        yield started


def cast(stack: Stack, number: int) -> int:
    """The status that the site answers to a vote."""
    body = {"vote": f"{number:016x}", "choice": 1, "voter": f"voter-{number}"}
    with closing(http.client.HTTPConnection(stack.site.host, stack.site.port)) as connection:
        path = f"/polls/{PLAN.poll.name}/votes"
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().status


def ballots(database: str) -> int:
    with closing(connect(database, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pollstorm_ballots")
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


def test_a_drained_stack_has_counted_every_vote(stack: Stack) -> None:
    assert [cast(stack, number) for number in range(20)] == [202] * 20
    assert stack.drain()
    assert ballots(stack.deployment.database) == 20
    with pytest.raises(ServiceError, match="site ended"):
        stack.require_alive()


def test_a_flusher_that_was_killed_has_not_drained(stack: Stack) -> None:
    (flusher,) = stack.flushers.children
    stack.require_alive()
    psutil.Process(flusher.pid).kill()
    flusher.wait(ENDS_WITHIN_S)
    with pytest.raises(ServiceError, match=r"^flusher ended by SIGKILL: "):
        stack.require_alive()
    assert not stack.drain()


def test_existing_services_lose_only_what_is_ours(
    supervisor: Supervisor, memcached: MemcachedServer, mariadb: MariadbServer, tmp_path: Path
) -> None:
    with closing(connect(mariadb.url, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE theirs (n INT)")
        existing = Existing((memcached.address,), mariadb.url)
        mode = find_mode("direct")
        with start_stack(supervisor, PLAN, mode, tmp_path, tmp_path, existing) as stack:
            assert stack.memcached == ()
            assert stack.deployment.plan.queue.prefix.startswith(PLAN.queue.prefix + "-")
            assert cast(stack, 1) == 201
            assert ballots(mariadb.url) == 1
        connection.rollback()
        cursor.execute("SHOW TABLES")
        assert cursor.fetchall() == (("theirs",),)
        cursor.execute("DROP TABLE theirs")


def test_one_memcached_under_two_names_is_told_before_anything_starts(
    supervisor: Supervisor, memcached: MemcachedServer, mirror: MemcachedServer, tmp_path: Path
) -> None:
    """The keys of a mirrored queue would be one queue's, and one loss would be the loss of both."""
    require_different((memcached.address, mirror.address))
    again = memcached.address.replace(LOOPBACK, "localhost")
    existing = Existing((memcached.address, again))
    stack = start_stack(supervisor, PLAN, find_mode("mirrored"), tmp_path, tmp_path, existing)
    one = f"^{re.escape(memcached.address)} and {again} are one memcached"
    with pytest.raises(PlanError, match=one), stack:
        pass


def test_a_database_that_is_down_is_one_line(supervisor: Supervisor, tmp_path: Path) -> None:
    with socket.socket() as silent:  # bound, so that nobody else takes the port; not listening
        silent.bind((LOOPBACK, 0))
        port = silent.getsockname()[1]
        existing = Existing(database=f"mysql://me:secret@{LOOPBACK}:{port}/votes")
        stack = start_stack(supervisor, PLAN, find_mode("direct"), tmp_path, tmp_path, existing)
        with (
            pytest.raises(ServiceError, match=r"cannot hold our tables: .*refused") as caught,
            stack,
        ):
            pass
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def start_up(*flags: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from harness.cli import main; main()", "up", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_up_prints_an_address_and_ends_on_ctrl_c() -> None:
    with start_up("--mode", "classic", "--workers", "1") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        address = re.fullmatch(r"mode classic on http://(\S+) \(Ctrl-C stops it\)\n", first)
        assert address, process.communicate()
        shown = "".join(process.stdout.readline() for _ in range(7))
        assert "\nOpen that address in a browser, or try:\n" in shown
        assert re.search(r"pollstorm polls list --database 'mysql://root@\S+'\n$", shown)
        family = psutil.Process(process.pid).children(recursive=True)
        with closing(http.client.HTTPConnection(address[1])) as connection:
            connection.request("GET", f"/polls/{PLAN.poll.name}/results")
            assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        rest, complaint = process.communicate(timeout=ENDS_WITHIN_S)
    assert (process.returncode, complaint) == (Exit.OK, "")
    assert rest.endswith("stopped\n")
    assert len(family) >= 6  # reaper, memcached, MariaDB, site with a worker, flusher
    assert alive(family) == []


def test_up_on_an_occupied_port_is_one_line() -> None:
    with socket.create_server((LOOPBACK, 0)) as somebody:
        port = somebody.getsockname()[1]
        with start_up("--mode", "direct", "--port", str(port)) as process:
            out, complaint = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == Exit.USAGE
    assert out == ""
    assert re.fullmatch(rf"pollstorm: cannot listen on \S+:{port}: .*\n", complaint)


def test_a_deployment_with_a_password_is_not_for_everybody(stack: Stack) -> None:
    file = Path(stack.deployment.folder) / "site.json"
    assert file.stat().st_mode & 0o077 == 0
    assert msgspec.json.decode(file.read_bytes())["port"] == stack.site.port


def test_ballots_and_polls_that_are_not_ours_to_drop_are_not_dropped(
    supervisor: Supervisor, mariadb: MariadbServer, tmp_path: Path
) -> None:
    schema.create(mariadb.url, PLAN.poll.poll())
    try:
        with closing(connect(mariadb.url, 5.0)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO pollstorm_ballots (vote, poll, choice, voter) VALUES (1, 'p', 1, 'v')"
            )
        existing = Existing(database=mariadb.url)
        mode = find_mode("direct")

        def refused(why: str) -> None:
            stack = start_stack(supervisor, PLAN, mode, tmp_path, tmp_path, existing)
            with pytest.raises(PlanError, match=why), stack:
                pass

        refused("already holds 1 ballots")
        assert ballots(mariadb.url) == 1
        with closing(connect(mariadb.url, 5.0)) as connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM pollstorm_ballots")
            keep(cursor, PLAN.poll.poll()._replace(name="theirs"))
        refused(r"already has polls .*\(theirs, …\)")
        assert schema.polls_beside(mariadb.url, PLAN.poll.name) == ["theirs"]
    finally:
        schema.drop(mariadb.url)


def test_a_memcached_that_stands_still_costs_ticket_no_vote(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """Two flushers; the breaker keeps all votes but the first few from waiting for a time-out."""
    plan = Plan(scenario="test", site=Site(workers=1), flusher=FlusherPlan(processes=2))
    mode = find_mode("ticket")
    with start_stack(supervisor, plan, mode, tmp_path, tmp_path, Existing()) as stack:
        assert len(stack.flushers.children) == 2
        answers = [cast(stack, number) for number in range(10)]
        (daemon,) = stack.memcached
        os.kill(daemon.child.pid, signal.SIGSTOP)
        begin_s = time.monotonic()
        answers += [cast(stack, number) for number in range(10, 60)]
        lasted_s = time.monotonic() - begin_s
        os.kill(daemon.child.pid, signal.SIGCONT)
        until_s = time.monotonic() + ENDS_WITHIN_S
        while cast(stack, 60) != 202 and time.monotonic() < until_s:
            time.sleep(0.05)  # the breaker tries again by itself
        assert time.monotonic() < until_s
        assert stack.drain()
        assert answers[:10] == [202] * 10
        assert set(answers[10:]) == {201}
        assert lasted_s < 10  # 50 time-outs would be 50 s
        assert ballots(stack.deployment.database) == 61


def test_all_flushers_must_have_seen_the_queue_empty(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    plan = Plan(scenario="test", site=Site(workers=1), flusher=FlusherPlan(processes=2))
    mode = find_mode("ticket")
    with start_stack(supervisor, plan, mode, tmp_path, tmp_path, Existing()) as stack:
        assert cast(stack, 1) == 202
        _, second = stack.flushers.children
        psutil.Process(second.pid).kill()
        second.wait(ENDS_WITHIN_S)
        with pytest.raises(ServiceError, match=r"^flusher-2 ended by SIGKILL: "):
            stack.require_alive()
        assert not stack.drain()
        assert ballots(stack.deployment.database) == 1


def test_mirrored_has_two_daemons_and_loses_nothing_when_the_first_is_wiped(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    plan = Plan(scenario="test", site=Site(workers=1), flusher=FlusherPlan(interval_s=60.0))
    mode = find_mode("mirrored")
    with start_stack(supervisor, plan, mode, tmp_path, tmp_path, Existing()) as stack:
        assert len(stack.memcached) == 2
        assert [cast(stack, number) for number in range(20)] == [202] * 20
        stack.memcached[0].wipe()
        assert cast(stack, 20) == 202
        assert stack.drain()
        assert ballots(stack.deployment.database) == 21
