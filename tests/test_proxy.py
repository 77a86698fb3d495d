"""The proxy between the site and its servers: what passes, what does not, and what was applied.

Against a real memcached and a real MariaDB, over plain sockets, byte by byte.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pymysql
import pytest

from harness.database.connections import connect
from harness.errors import ServiceError
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer, client_of
from harness.services.processes import Supervisor
from harness.services.proxies import ProxyServer, server_of, start_proxy, through
from harness.services.proxy import Touched, Trouble

pytestmark = pytest.mark.services

SOON_S = 2.0  # longer than any answer over loopback takes
NEVER_S = 0.15  # long enough to see that nothing comes


@pytest.fixture(scope="module")
def proxy(supervisor: Supervisor, memcached: MemcachedServer, logs: Path) -> Iterator[ProxyServer]:
    started = start_proxy(supervisor, "memcached-proxy", memcached.address, logs / "proxy.log")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def database_proxy(
    supervisor: Supervisor, mariadb: MariadbServer, logs: Path
) -> Iterator[ProxyServer]:
    started = start_proxy(
        supervisor, "mariadb-proxy", server_of(mariadb.url), logs / "proxy.log", greets=True
    )
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def _counter(memcached: MemcachedServer) -> None:
    """Every test finds `n` at 0."""
    with closing(client_of(memcached.address)) as client:
        client.set("n", b"0")


def applied(memcached: MemcachedServer) -> int:
    """How many `incr n` were applied, asked past the proxy."""
    with closing(client_of(memcached.address)) as client:
        return int(client.get("n") or -1)


@contextmanager
def connected(proxy: ProxyServer) -> Iterator[socket.socket]:
    host, port = proxy.address.split(":")
    with socket.create_connection((host, int(port)), timeout=SOON_S) as connection:
        yield connection


def asked(connection: socket.socket, request: bytes = b"incr n 1\r\n") -> bytes:
    connection.sendall(request)
    return connection.recv(4096)


def is_silent(connection: socket.socket) -> bool:
    """Whether nothing comes, neither bytes nor an end."""
    connection.settimeout(NEVER_S)
    try:
        connection.recv(4096)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(SOON_S)
    return False


def test_bytes_pass_as_they_are_in_both_directions(proxy: ProxyServer) -> None:
    value = bytes(range(256)) * 3_900  # just below memcached's largest item
    with connected(proxy) as connection:
        assert asked(connection, b"set b 0 0 %d\r\n%s\r\n" % (len(value), value)) == b"STORED\r\n"
        connection.sendall(b"get b\r\n")
        expected = b"VALUE b 0 %d\r\n%s\r\nEND\r\n" % (len(value), value)
        found = b""
        while len(found) < len(expected):
            found += connection.recv(65_536)
        assert found == expected


def test_many_connections_are_served_at_once(proxy: ProxyServer) -> None:
    with connected(proxy) as one, connected(proxy) as two:
        one.sendall(b"incr n ")
        assert asked(two) == b"1\r\n"
        assert asked(one, b"1\r\n") == b"2\r\n"


def test_a_dropped_request_is_not_applied(proxy: ProxyServer, memcached: MemcachedServer) -> None:
    with connected(proxy) as connection, connected(proxy) as other:
        assert asked(connection) == b"1\r\n"
        with proxy.troubled(Trouble(kind="drop-request")) as troubled:
            assert asked(connection) == b""
            assert troubled.heal() == Touched(requests=1, connections=1)
        assert asked(other) == b"2\r\n"
    assert applied(memcached) == 2


def test_a_dropped_reply_is_that_of_an_applied_request(
    proxy: ProxyServer, memcached: MemcachedServer
) -> None:
    with connected(proxy) as connection:
        with proxy.troubled(Trouble(kind="drop-reply")) as troubled:
            assert asked(connection) == b""
            assert troubled.heal() == Touched(requests=1, connections=1)
        assert applied(memcached) == 1


def test_of_a_pipeline_whose_reply_is_dropped_all_was_applied(
    proxy: ProxyServer, memcached: MemcachedServer
) -> None:
    with connected(proxy) as connection, proxy.troubled(Trouble(kind="drop-reply")):
        assert asked(connection, b"incr n 1\r\n" * 1_500) == b""
    assert applied(memcached) == 1_500


def test_a_share_of_the_requests_is_dropped_and_the_seed_says_which(
    proxy: ProxyServer, memcached: MemcachedServer
) -> None:
    def answers(seed: int) -> list[bytes]:
        found = []
        with proxy.troubled(Trouble(kind="drop-request", share=0.5, seed=seed)) as troubled:
            for _ in range(40):
                with connected(proxy) as connection:
                    found.append(asked(connection, b"get n\r\n"))
            assert troubled.heal().requests == found.count(b"")
        return found

    first = answers(1)
    assert 5 < first.count(b"") < 35
    assert answers(1) == first
    assert answers(2) != first
    assert applied(memcached) == 0


def test_latency_holds_each_request_back_and_healing_lets_it_go(proxy: ProxyServer) -> None:
    with connected(proxy) as connection:
        with proxy.troubled(Trouble(kind="latency", delay_s=0.1, jitter_s=0.02)) as troubled:
            for number in (1, 2):
                began_s = time.monotonic()
                assert asked(connection) == b"%d\r\n" % number
                assert 0.08 <= time.monotonic() - began_s < 0.3
            assert troubled.heal() == Touched(requests=2, connections=1)
        with proxy.troubled(Trouble(kind="latency", delay_s=1000.0)) as troubled:
            connection.sendall(b"incr n 1\r\n")
            assert is_silent(connection)
            troubled.heal()
            assert connection.recv(100) == b"3\r\n"


def test_a_stalled_request_is_applied_late_though_its_client_has_gone(
    proxy: ProxyServer, memcached: MemcachedServer
) -> None:
    with connected(proxy) as staying, connected(proxy) as going:
        with proxy.troubled(Trouble(kind="stall")) as troubled:
            staying.sendall(b"incr n 1\r\n")
            going.sendall(b"incr n 1\r\n")
            assert is_silent(staying)
            going.close()
            assert applied(memcached) == 0
            assert 1 <= troubled.heal().connections <= 2  # a busy proxy reads late
        assert staying.recv(100) in (b"1\r\n", b"2\r\n")
        assert asked(staying) in (b"2\r\n", b"3\r\n")
    deadline_s = time.monotonic() + SOON_S
    while applied(memcached) < 3 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert applied(memcached) == 3


def test_a_reset_ends_all_connections_and_refuses_new_ones_until_it_is_healed(
    proxy: ProxyServer,
) -> None:
    with connected(proxy) as connection, connected(proxy) as other:
        assert asked(connection) == b"1\r\n"
        assert asked(other) == b"2\r\n"
        with proxy.troubled(Trouble(kind="reset", refuse=True)) as troubled:
            for each in (connection, other):
                with pytest.raises(ConnectionResetError):
                    each.recv(100)
            with pytest.raises(ConnectionRefusedError), connected(proxy):
                pass
            assert troubled.heal().connections >= 2  # and those of whoever left just now
        with connected(proxy) as again:
            assert asked(again) == b"3\r\n"


def test_a_reset_at_once_lets_new_connections_in(proxy: ProxyServer) -> None:
    with connected(proxy) as connection:
        assert asked(connection) == b"1\r\n"
        with proxy.troubled(Trouble(kind="reset")) as troubled:
            with pytest.raises(ConnectionResetError):
                connection.recv(100)
            with connected(proxy) as again:
                assert asked(again) == b"2\r\n"
            assert troubled.heal().connections >= 1


def test_what_is_cut_on_the_way_to_the_server_is_not_applied_and_the_connection_stays(
    proxy: ProxyServer, memcached: MemcachedServer
) -> None:
    with connected(proxy) as hit, connected(proxy) as idle:
        assert asked(idle) == b"1\r\n"
        with proxy.troubled(Trouble(kind="cut", direction="to")) as troubled:
            hit.sendall(b"incr n 1\r\n")
            assert is_silent(hit)
            assert troubled.heal() == Touched(requests=1, connections=1)
        assert asked(idle) == b"2\r\n"
        hit.sendall(b"incr n 1\r\n")
        assert is_silent(hit)  # a stream with a hole in it goes no further
    assert applied(memcached) == 2


def test_what_is_cut_on_the_way_back_was_applied(
    proxy: ProxyServer, memcached: MemcachedServer
) -> None:
    with connected(proxy) as connection:
        with proxy.troubled(Trouble(kind="cut", direction="from")) as troubled:
            connection.sendall(b"incr n 1\r\n")
            assert is_silent(connection)
            assert applied(memcached) == 1
            assert troubled.heal() == Touched(requests=1, connections=1)
        assert is_silent(connection)


def test_the_end_of_a_client_gets_through_a_cut_when_it_is_healed(
    proxy: ProxyServer, memcached: MemcachedServer
) -> None:
    def connections() -> int:
        with closing(client_of(memcached.address)) as client:
            return int(client.stats()[b"curr_connections"])  # type: ignore[no-untyped-call]

    with connected(proxy) as connection:
        assert asked(connection) == b"1\r\n"
        before = connections()
        with proxy.troubled(Trouble(kind="cut", direction="to")):
            connection.close()
            time.sleep(NEVER_S)
            assert connections() == before
        deadline_s = time.monotonic() + SOON_S
        while connections() == before and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert connections() == before - 1


def test_a_trouble_ends_with_its_control_connection(proxy: ProxyServer) -> None:
    with connected(proxy) as connection:
        with proxy.troubled(Trouble(kind="stall")):
            connection.sendall(b"incr n 1\r\n")
            assert is_silent(connection)
        assert connection.recv(100) == b"1\r\n"


def test_a_trouble_that_meets_nothing_says_so(proxy: ProxyServer) -> None:
    with proxy.troubled(Trouble(kind="drop-reply")) as troubled:
        assert troubled.heal() == Touched(requests=0, connections=0)


def test_a_server_that_is_gone_ends_the_connection(supervisor: Supervisor, logs: Path) -> None:
    lonely = start_proxy(supervisor, "lonely-proxy", "127.0.0.1:1", logs / "lonely.log")
    try:
        with connected(lonely) as connection, pytest.raises(ConnectionResetError):
            connection.recv(100)
    finally:
        lonely.stop()
    with (
        pytest.raises(ServiceError, match="does not answer"),
        lonely.troubled(Trouble(kind="stall")),
    ):
        pass


def aborted_logins(mariadb: MariadbServer) -> int:
    """How many connections ended before they were one."""
    with closing(connect(mariadb.url, SOON_S)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Aborted_connects'")
        return int((cursor.fetchone() or ("", 0))[1])


def test_a_database_is_reached_though_every_request_is_dropped(
    database_proxy: ProxyServer, mariadb: MariadbServer
) -> None:
    url = through(database_proxy.address, mariadb.url)
    before = aborted_logins(mariadb)
    with closing(connect(url, SOON_S)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == ((1,),)
        with database_proxy.troubled(Trouble(kind="drop-reply")) as troubled:
            with pytest.raises(pymysql.err.OperationalError, match="Lost connection"):
                cursor.execute("CREATE TABLE dropped_reply (a INT)")
            assert troubled.heal().requests == 1
    with closing(connect(mariadb.url, SOON_S)) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE dropped_reply")  # it was made
        with database_proxy.troubled(Trouble(kind="drop-request")) as troubled:
            with pytest.raises(pymysql.err.OperationalError, match="Lost connection"):
                connect(url, SOON_S)  # its greeting is answered; what it says next is not
            assert troubled.heal().requests == 1
        assert aborted_logins(mariadb) == before


def test_a_database_at_a_unix_socket_gets_an_address() -> None:
    url = "mysql://vote:p%40ss@localhost/polls?unix_socket=/run/mysqld.sock"
    assert server_of(url) == "/run/mysqld.sock"
    assert through("127.0.0.1:5", url) == "mysql://vote:p%40ss@127.0.0.1:5/polls"
    assert through("127.0.0.1:5", f"{url}&ssl_disabled=1").endswith("/polls?ssl_disabled=1")
    assert server_of("mysql://root@127.0.0.1/polls") == "127.0.0.1:3306"
