"""A service that was brought down comes back where it was; its death is no failure meanwhile."""

import os
import signal
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from harness.database.connections import connect
from harness.errors import ServiceError
from harness.modes.mode import find_mode
from harness.plan import DatabasePlan, FlusherPlan, MemcachedPlan, Plan, Site
from harness.services.mariadb import start_mariadb
from harness.services.memcached import client_of, start_memcached
from harness.services.processes import Supervisor
from harness.services.stack import start_stack
from harness.services.targets import Existing
from tests.test_services_stack import ballots, cast

pytestmark = pytest.mark.services

DIES_WITHIN_S = 5.0


def test_a_memcached_comes_back_empty_on_the_same_port(supervisor: Supervisor, tmp_path: Path):
    server = start_memcached(supervisor, MemcachedPlan(), tmp_path / "log")
    first = server.child
    with closing(client_of(server.address)) as client:
        client.set("key", b"value")
    with server.service.mortal():
        os.kill(first.pid, signal.SIGKILL)
        first.wait(DIES_WITHIN_S)
        server.service.require_alive()  # it is expected to be dead
    assert server.child.pid != first.pid
    with closing(client_of(server.address)) as client:
        assert client.get("key") is None
    server.stop()


def test_a_mariadb_comes_back_with_what_was_committed(supervisor: Supervisor, tmp_path: Path):
    server = start_mariadb(supervisor, DatabasePlan(), tmp_path / "log")
    with closing(connect(server.url, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (n INT) AS SELECT 7 AS n")
    used_s = server.service.cpu_s()
    with server.service.mortal():
        os.kill(server.child.pid, signal.SIGKILL)
        server.child.wait(DIES_WITHIN_S)
    with closing(connect(server.url, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT n FROM kept")
        assert cursor.fetchall() == ((7,),)
    assert server.service.cpu_s() > used_s  # the time of the dead one counts on
    server.stop()


def test_what_dies_unasked_is_a_failure_as_before(supervisor: Supervisor, tmp_path: Path):
    server = start_memcached(supervisor, MemcachedPlan(), tmp_path / "log")
    with server.service.mortal():
        pass
    os.kill(server.child.pid, signal.SIGKILL)
    server.child.wait(DIES_WITHIN_S)
    with pytest.raises(ServiceError, match="memcached ended by SIGKILL"):
        server.service.require_alive()


def test_what_does_not_come_back_is_a_failure(supervisor: Supervisor, tmp_path: Path):
    server = start_memcached(supervisor, MemcachedPlan(), tmp_path / "log")
    server.service._argv = ("/bin/false",)  # as if it had been deinstalled meanwhile
    with ExitStack() as down:
        down.enter_context(server.service.mortal())
        os.kill(server.child.pid, signal.SIGKILL)
        server.child.wait(DIES_WITHIN_S)
        with pytest.raises(ServiceError, match="memcached ended with exit code 1"):
            down.close()
    with pytest.raises(ServiceError):
        server.service.require_alive()


def test_a_flusher_comes_back_with_its_number_and_drains(supervisor: Supervisor, tmp_path: Path):
    plan = Plan(
        scenario="test", site=Site(workers=1), flusher=FlusherPlan(processes=2, interval_s=60.0)
    )
    mode = find_mode("ticket")
    with start_stack(supervisor, plan, mode, tmp_path, tmp_path, Existing()) as stack:
        for number in range(5):
            assert cast(stack, number) in (201, 202)  # on a very busy machine past the queue
        second = stack.flushers.services[1]
        with second.mortal():
            os.kill(second.child.pid, signal.SIGKILL)
            second.child.wait(DIES_WITHIN_S)
        assert (tmp_path / "flusher-2.ready").read_text() == str(second.child.pid)
        stack.require_alive()
        assert stack.drain()
        assert ballots(stack.deployment.database) == 5
