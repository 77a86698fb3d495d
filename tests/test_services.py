"""Private memcached and MariaDB, ports, cores, and whom we may load."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pymysql
import pytest
from pymemcache.client.base import Client

from harness.cli.options import existing_services
from harness.database.connections import connect
from harness.errors import PlanError, ServiceError
from harness.plan import DatabasePlan, MemcachedPlan, Plan, Site
from harness.services import ports
from harness.services.cores import Cores, share_cores
from harness.services.mariadb import MariadbServer, start_mariadb
from harness.services.memcached import MemcachedServer, require_answer, start_memcached
from harness.services.ports import LOOPBACK, free_port, on_free_port, require_free
from harness.services.processes import Child, Supervisor
from harness.services.programs import MEMCACHED
from harness.services.restarts import LOOK_S, Restarts
from harness.services.stack import require_room
from harness.services.targets import Existing, require_loopback

services = pytest.mark.services

THEIRS = Existing(("127.0.0.1:11211",), "mysql://me@127.0.0.1/x")


def variable(url: str, name: str) -> str:
    with closing(connect(url, 5.0)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT @@{name}")
        row = cursor.fetchone()
        assert row is not None
        return str(row[0])


@services
def test_two_memcacheds_are_two(
    supervisor: Supervisor, memcached: MemcachedServer, tmp_path: Path
) -> None:
    other = start_memcached(supervisor, MemcachedPlan(memory_mib=8, evict=False), tmp_path / "log")
    try:
        with (
            closing(Client(memcached.address, default_noreply=False)) as one,
            closing(Client(other.address, default_noreply=False)) as two,
        ):
            one.set("services", b"1")
            assert two.get("services") is None
            settings = two.stats("settings")
            assert settings[b"maxbytes"] == 8 * 2**20
            assert settings[b"evictions"] == b"off"
            assert settings[b"udpport"] == 0
            assert settings[b"inter"] == LOOPBACK.encode()
            two.set("services", b"2")
            other.wipe()
            assert two.get("services") is None
            assert one.get("services") == b"1"
    finally:
        other.stop()
    with pytest.raises(ServiceError, match="cannot be wiped"):
        other.wipe()


@services
def test_two_mariadbs_are_two_and_commit_durably(
    supervisor: Supervisor, mariadb: MariadbServer, tmp_path: Path
) -> None:
    plan = DatabasePlan(commit_wait_us=2000, max_connections=123)
    other = start_mariadb(supervisor, plan, tmp_path / "log")
    try:
        assert variable(mariadb.url, "datadir") != variable(other.url, "datadir")
        for url in (mariadb.url, other.url):
            assert variable(url, "innodb_flush_log_at_trx_commit") == "1"
            assert variable(url, "innodb_lock_wait_timeout") == "5"
            assert variable(url, "bind_address") == LOOPBACK
        assert variable(mariadb.url, "log_bin") == "0"
        assert variable(other.url, "log_bin") == "1"
        assert variable(other.url, "binlog_commit_wait_usec") == "2000"
        assert variable(other.url, "max_connections") == "123"
        data = Path(variable(other.url, "datadir"))
        assert data.is_dir()
    finally:
        other.stop()
    assert not data.exists()
    with pytest.raises(pymysql.err.OperationalError):
        connect(other.url, 1.0)


@services
def test_a_server_that_lost_its_port_takes_another(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((LOOPBACK, 0)) as somebody:
        taken = somebody.getsockname()[1]
        offered = iter([taken, free_port()])
        monkeypatch.setattr(ports, "free_port", lambda: next(offered))
        server = start_memcached(supervisor, MemcachedPlan(), tmp_path / "log")
    assert server.address != f"{LOOPBACK}:{taken}"
    server.stop()


@services
def test_somebody_elses_memcached_on_the_port_is_not_taken_for_ours(
    supervisor: Supervisor,
    memcached: MemcachedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = int(memcached.address.rpartition(":")[2])
    monkeypatch.setattr(ports, "free_port", lambda: port)
    with pytest.raises(ServiceError, match="memcached ended with exit code") as caught:
        start_memcached(supervisor, MemcachedPlan(), tmp_path / "log")
    assert "\n" not in str(caught.value)


def test_a_failure_for_another_reason_is_not_tried_again() -> None:
    tried = []

    def start(port: int) -> None:
        tried.append(port)
        raise ServiceError("no disk")

    with pytest.raises(ServiceError, match="no disk"):
        on_free_port(start)
    assert len(tried) == 1


def test_ports_lost_again_and_again_are_given_up() -> None:
    tried = []

    def start(port: int) -> None:
        tried.append(port)
        raise ServiceError("Address already in use")

    with pytest.raises(ServiceError):
        on_free_port(start)
    assert len(tried) == ports.ATTEMPTS


def test_an_occupied_port_is_one_line() -> None:
    with socket.create_server((LOOPBACK, 0)) as somebody:
        port = somebody.getsockname()[1]
        with pytest.raises(PlanError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .* in use;"):
            require_free(LOOPBACK, port)
    require_free(LOOPBACK, port)


@pytest.mark.parametrize("package", ["memcached", "mariadb-server"])
def test_a_missing_program_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("harness.services.programs.SYSTEM_FOLDERS", ())
    start: Callable[[Supervisor], object] = {
        "memcached": lambda s: start_memcached(s, MemcachedPlan(), tmp_path / "log"),
        "mariadb-server": lambda s: start_mariadb(s, DatabasePlan(), tmp_path / "log"),
    }[package]
    with Supervisor() as supervisor, pytest.raises(ServiceError) as caught:
        start(supervisor)
    assert f"is not installed; `apt-get install {package}` brings it" in str(caught.value)
    assert "pollstorm doctor" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_memcached_that_is_down_is_one_line() -> None:
    address = f"{LOOPBACK}:{free_port()}"
    with pytest.raises(ServiceError, match=f"memcached at {address} does not answer: .*refused"):
        require_answer(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.9.8.7", "::1", "db.example"])
def test_loopback_and_named_targets_may_be_loaded(host: str) -> None:
    require_loopback(host, ("db.example",))


@pytest.mark.parametrize("host", ["192.0.2.7", "0.0.0.0", "no-such-host.invalid", "2001:db8::1"])
def test_other_targets_must_be_named(host: str) -> None:
    with pytest.raises(PlanError, match=f"{host} is not on this machine.*--allow-target {host}"):
        require_loopback(host, ("db.example",))


def test_existing_services_are_checked_by_their_hosts() -> None:
    here = Existing(("[::1]:11211",), "mysql://me:secret@127.0.0.1:3306/votes")
    here.require_allowed(())
    Existing((), "mysql://me@db.example/votes?unix_socket=/run/db").require_allowed(())
    with pytest.raises(PlanError, match=r"^192\.0\.2\.7 is not"):
        Existing(("192.0.2.7:11211",)).require_allowed(())
    with pytest.raises(PlanError, match=r"^192\.0\.2\.8 is not"):
        Existing((), "mysql://me:secret@192.0.2.8/votes").require_allowed(())


@pytest.mark.parametrize(
    ("site", "existing", "why"),
    [
        (Site(workers=40), Existing(), "may take 689 connections.* 600; raise it to 689"),
        (Site(workers=64, threads=512), THEIRS._replace(memcached=()), "memcached takes [0-9]+"),
        (Site(workers=65, threads=1), Existing(), "has 64 at most"),
    ],
)
def test_a_site_that_needs_more_than_is_given_is_refused(
    site: Site, existing: Existing, why: str
) -> None:
    with pytest.raises(PlanError, match=why):
        require_room(Plan(scenario="x", site=site), existing)


def test_of_services_that_are_not_ours_nobody_knows_how_much_they_give() -> None:
    require_room(Plan(scenario="x", site=Site(workers=34)), Existing())
    require_room(Plan(scenario="x", site=Site(workers=64, threads=512)), THEIRS)


@pytest.mark.parametrize("address", ["", "11211", "host", ":11211", "host:", "host:x", "host:0"])
def test_a_memcached_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(PlanError, match="write host:port"):
        Existing((address,)).require_allowed(())


@pytest.mark.parametrize("addresses", ["", ",", "localhost:11211,"])
def test_an_address_that_is_empty_does_not_stand_for_a_private_memcached(addresses: str) -> None:
    """A script's variable that was never set."""
    with pytest.raises(PlanError, match=r"^memcached '': write host:port"):
        existing_services(addresses, None, ())


def test_the_generator_has_the_last_core_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 0, 5})
    assert share_cores() == Cores(frozenset({5}), frozenset({0, 3}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    assert share_cores() == Cores(None, None)


def answers(address: str) -> bool:
    try:
        require_answer(address)
    except ServiceError:
        return False
    return True


@services
def test_a_restart_by_somebody_else_is_a_wipe(supervisor: Supervisor, tmp_path: Path) -> None:
    port = free_port()
    address = f"{LOOPBACK}:{port}"
    argv = [MEMCACHED.require(), "-l", LOOPBACK, "-p", str(port), "-U", "0"]
    argv += ["-u", "root"] if os.geteuid() == 0 else []

    def start() -> Child:
        child = supervisor.spawn("memcached", argv, log=tmp_path / "log")
        supervisor.wait_until_ready(child, lambda: answers(address), 10.0)
        return child

    child = start()
    restarts = Restarts([address])
    begin_ns = time.monotonic_ns() - 10 * 10**9
    assert restarts.since(begin_ns) == ()
    with restarts.watched():
        child.stop(grace_s=0)
        time.sleep(LOOK_S + 0.5)  # by then it has been looked for in vain
        looked_s = (time.monotonic_ns() - begin_ns) / 1e9
    (gone,) = restarts.since(begin_ns)
    assert gone.detail == f"memcached at {address} is gone, and not by this run"
    assert not gone.planned
    assert 10 <= gone.start_s < looked_s
    start()
    (found,) = restarts.since(begin_ns)
    assert (found.kind, found.target, found.hit) == ("wipe", "memcached", True)
    assert 8.5 < found.start_s == found.end_s < 20  # memcached counts whole seconds
    assert found.detail == f"memcached at {address} was restarted, and not by this run"
