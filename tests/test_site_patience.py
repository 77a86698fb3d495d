"""Clients that take up a real site's connections and threads without saying anything."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from time import monotonic

import pytest

from harness.site.slow_bodies import HURRIED_S, LOOK_S
from tests.test_site_processes import RunningSite, wait_until

pytestmark = pytest.mark.services

MANY = 400  # connections of the idle; more than a worker has threads
SOON_S = 2.0  # for an answer that waits for nobody: a loaded machine's half of that and more
HEAD = b"POST /polls/town-hall/votes HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
HUGE = 1 << 40


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    running = RunningSite(["tests.site_with_fake_mode", str(tmp_path_factory.mktemp("site"))])
    try:
        wait_until(lambda: len(running.workers()) == 2)
        wait_until(running.is_ready)
        yield running
    finally:
        running.master.terminate()
        running.master.communicate()


def connected(site: RunningSite, *said: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", site.port), timeout=10 * SOON_S)
    connection.sendall(b"".join(said))
    return connection


def answer(connection: socket.socket) -> tuple[int, bytes, float]:
    """Status, body, and how long it took until the connection ended after it."""
    began = monotonic()
    received = b""
    while more := connection.recv(65_536):
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body, monotonic() - began


def assert_takes_votes(site: RunningSite, votes: int = 20) -> None:
    for number in range(votes):  # the kernel deals connections to both workers
        began = monotonic()
        assert site.vote(number) == 201
        assert monotonic() - began < SOON_S


def test_hundreds_of_idle_connections_and_unfinished_heads_keep_no_voter_out(
    site: RunningSite,
) -> None:
    with ExitStack() as stack:
        for number in range(MANY):
            said = b"" if number % 2 else b"POST /polls/town-hall/votes HTTP/1.1\r\nHo"
            stack.enter_context(connected(site, said))
        assert_takes_votes(site)


def test_slow_bodies_are_told_and_cut_off_and_nobody_else_is(site: RunningSite) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", site.port, timeout=SOON_S)
    with closing(kept), ExitStack() as stack:
        kept.request("GET", "/health/live")
        kept.getresponse().read()
        # So many that each worker has more than it can spare threads for, however they are dealt.
        slow = [stack.enter_context(connected(site, HEAD % 100, b"{")) for _ in range(60)]
        assert_takes_votes(site)
        for connection in slow:
            status, body, took_s = answer(connection)
            assert status == 408
            assert b"body-too-slow" in body
            assert took_s < HURRIED_S + LOOK_S + SOON_S
        kept.request("GET", "/health/live")
        assert kept.getresponse().status == 200


def test_what_declares_a_body_that_is_too_large_is_told_before_it_has_sent_it(
    site: RunningSite,
) -> None:
    for length, within_s in ((HUGE, SOON_S / 2), (50_000, SOON_S)):
        with connected(site, HEAD % length, b"{") as connection:
            status, body, took_s = answer(connection)
        assert (status, b"body-too-large" in body) == (413, True)
        assert took_s < within_s
