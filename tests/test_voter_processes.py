"""Real generator processes against a site that misbehaves: the ledger says what happened."""

import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from harness.history.ledger import RequestKind, Trouble
from harness.load.arrivals import planned_votes
from harness.load.fleet import FleetReport
from harness.load.shard import CANNOT_RECORD
from harness.plan import Limits
from harness.vote import SEQUENCE_BITS, Outcome, mint
from tests.fake_site import FakeSite, Reply
from tests.generators import ACCEPTED, LIMIT_S, GeneratorProcess, Ledger, plan_of, wait_until

pytestmark = pytest.mark.services

FILES_BESIDES_CONNECTIONS = 64  # what a generator leaves for itself


def lags_s(ledger: Ledger) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """no_free_user and wake_lag of first attempts."""
    first = ledger[ledger["attempt"] == 1]
    no_free_user = np.maximum(0, first["taken_ns"] - first["planned_ns"])
    wake_lag = first["sent_ns"] - np.maximum(first["planned_ns"], first["taken_ns"])
    return no_free_user / 1e9, wake_lag / 1e9


BEHAVIOURS: list[tuple[Reply, Outcome, int, Trouble]] = [
    (lambda *_: ACCEPTED, Outcome.ACKNOWLEDGED, 202, Trouble.NONE),
    (
        lambda *_: b"HTTP/1.1 201 C\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        Outcome.ACKNOWLEDGED,
        201,
        Trouble.NONE,
    ),
    (
        lambda *_: b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n",
        Outcome.REFUSED,
        409,
        Trouble.NONE,
    ),
    (
        lambda *_: b"HTTP/1.1 504 Gateway\r\nContent-Length: 0\r\n\r\n",
        Outcome.UNKNOWN,
        504,
        Trouble.NONE,
    ),
    (lambda *_: None, Outcome.UNKNOWN, 0, Trouble.BROKEN),
    (
        lambda _, connection: connection.sendall(ACCEPTED[:20]),  # and hang up
        Outcome.UNKNOWN,
        0,
        Trouble.BROKEN,
    ),
    (lambda *_: b"220 mail.example ESMTP\r\n", Outcome.UNKNOWN, 0, Trouble.NONSENSE),
    (lambda *_: b"", Outcome.UNKNOWN, 0, Trouble.TIMED_OUT),  # waits for the next request
]


def test_every_answer_becomes_its_outcome_and_each_attempt_has_a_row(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    site = serve(lambda vote, connection: BEHAVIOURS[vote % len(BEHAVIOURS)][0](vote, connection))
    plan = plan_of(100, 1, timeout_s=0.3)
    report, ledger, words = GeneratorProcess(tmp_path, plan, site.port).finish()
    assert report is not None, words
    assert words == ""
    planned = planned_votes(plan)[1]
    ids = [mint(1, number) for number in range(planned)]
    assert sorted(ledger["vote"].tolist()) == ids
    assert report.sent == report.planned == report.attempts == report.answered == planned
    for row in ledger:
        _, outcome, status, trouble = BEHAVIOURS[
            int(row["vote"]) % 2**SEQUENCE_BITS % len(BEHAVIOURS)
        ]
        assert (row["outcome"], row["status"], row["error"]) == (outcome, status, trouble)
        assert row["answered_ns"] >= row["sent_ns"] >= row["planned_ns"]
    assert sorted(site.seen) == list(range(planned)), "nothing may be sent twice"


def test_readers_of_the_results_page_are_on_the_ledger_too(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    site = serve(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    plan = plan_of(50, 1, results=1.0)
    report, ledger, _ = GeneratorProcess(tmp_path, plan, site.port).finish()
    assert report is not None
    readers = ledger["kind"] == RequestKind.RESULTS
    assert np.count_nonzero(readers) == report.attempts - report.sent > 10
    assert set(ledger["outcome"]) == {Outcome.ACKNOWLEDGED}
    assert site.seen.count(-1) == np.count_nonzero(readers)


def test_retries_keep_the_id_and_honour_retry_after(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    seen: set[int] = set()

    def reply(vote: int, _: socket.socket) -> bytes:
        again = vote in seen
        seen.add(vote)
        return ACCEPTED if again else busy

    plan = plan_of(20, 0.5, retries=2)
    report, ledger, _ = GeneratorProcess(tmp_path, plan, serve(reply).port).finish()
    assert report is not None
    assert report.attempts == 2 * report.sent == 2 * report.planned
    first, second = (ledger[ledger["attempt"] == number] for number in (1, 2))
    first, second = np.sort(first, order="vote"), np.sort(second, order="vote")
    ids = [mint(1, number) for number in range(report.planned)]
    assert first["vote"].tolist() == second["vote"].tolist() == ids
    assert set(first["outcome"]) == {Outcome.REFUSED}
    assert set(second["outcome"]) == {Outcome.ACKNOWLEDGED}
    waited_s = (second["sent_ns"] - first["answered_ns"]) / 1e9
    assert np.all((waited_s >= 0.99) & (waited_s < 1.5))


def test_a_site_that_is_down_refuses_for_certain(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    report, ledger, words = GeneratorProcess(tmp_path, plan_of(50, 0.5), port).finish()
    assert report is not None
    assert words == ""
    assert report.sent == report.planned == len(ledger) > 0
    assert set(ledger["outcome"]) == {Outcome.REFUSED}
    assert set(ledger["error"]) == {Trouble.NOT_CONNECTED}


def test_an_idle_connection_that_the_site_closed_is_not_used_again(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    def reply(_: int, connection: socket.socket) -> None:
        connection.sendall(ACCEPTED)  # and hang up, although the answer did not say so

    report, ledger, _ = GeneratorProcess(tmp_path, plan_of(40, 1), serve(reply).port).finish()
    assert report is not None
    # A vote sent in the same instant as the site hangs up is unknown, and rightly so.
    acknowledged = np.count_nonzero(ledger["outcome"] == Outcome.ACKNOWLEDGED)
    assert acknowledged >= 0.9 * report.planned


def test_an_answer_that_came_too_late_is_never_taken_for_the_next_votes(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    def reply(vote: int, _: socket.socket) -> bytes:
        if vote % 2:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        time.sleep(0.3)
        return ACCEPTED

    plan = plan_of(40, 1, timeout_s=0.2)
    report, ledger, _ = GeneratorProcess(tmp_path, plan, serve(reply).port).finish()
    assert report is not None
    even = ledger["vote"] % 2 == 0
    assert set(ledger["error"][even]) == {Trouble.TIMED_OUT}
    assert set(ledger["outcome"][~even]) == {Outcome.REFUSED}


def test_there_are_about_as_many_connections_as_requests_at_once(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    site = serve(lambda *_: ACCEPTED)
    report, _, _ = GeneratorProcess(tmp_path, plan_of(200, 1), site.port).finish()
    assert report is not None
    assert site.connections < report.sent / 4


def test_a_stopped_generator_closes_its_rows(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    site = serve(lambda *_: b"")
    generator = GeneratorProcess(tmp_path, plan_of(50, 30), site.port)
    wait_until(lambda: len(site.seen) > 5)
    generator.process.send_signal(signal.SIGTERM)
    report, ledger, words = generator.finish()
    assert generator.process.returncode == 0, words
    assert report is not None
    assert report.unanswered > 0
    assert len(ledger) == report.sent < report.planned
    assert np.all(ledger["answered_ns"] > 0)
    assert set(ledger["error"]) == {Trouble.STOPPED}
    assert set(ledger["outcome"]) == {Outcome.UNKNOWN}


def test_a_killed_generator_leaves_its_ledger_readable(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    site = serve(lambda vote, _: ACCEPTED if vote % 2 else b"")
    generator = GeneratorProcess(tmp_path, plan_of(100, 30), site.port)
    wait_until(lambda: len(site.seen) > 20)
    generator.process.kill()
    report, ledger, _ = generator.finish()
    assert report is None
    assert {mint(1, number) for number in site.seen} <= set(ledger["vote"].tolist())
    answered = ledger["answered_ns"] > 0
    assert np.all(ledger["vote"][answered] % 2 == 1)
    assert np.all(ledger["outcome"][answered] == Outcome.ACKNOWLEDGED)
    assert np.all(ledger["outcome"][~answered] == Outcome.UNKNOWN)
    assert np.count_nonzero(~answered) > 5


def test_a_starved_generator_shows_in_wake_lag_only(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    site = serve(lambda *_: ACCEPTED)
    generator = GeneratorProcess(tmp_path, plan_of(100, 2), site.port)
    wait_until(lambda: len(site.seen) > 20)
    os.kill(generator.process.pid, signal.SIGSTOP)
    time.sleep(0.8)
    os.kill(generator.process.pid, signal.SIGCONT)
    report, ledger, _ = generator.finish()
    no_free_user_s, wake_lag_s = lags_s(ledger)
    assert report is not None
    assert report.sent == report.planned
    assert report.longest_block_ms > 600
    assert wake_lag_s.max() > 0.6
    assert no_free_user_s.max() < 0.3


def test_a_slow_site_shows_in_no_free_user_only(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    site = serve(lambda *_: b"")  # each vote keeps its user for four time-outs and three waits
    plan = plan_of(100, 1, timeout_s=0.2, retries=3)
    plan = msgspec.structs.replace(plan, limits=Limits(start_s=15, grace_s=10))
    report, ledger, _ = GeneratorProcess(tmp_path, plan, site.port).finish()
    no_free_user_s, wake_lag_s = lags_s(ledger)
    assert report is not None
    assert report.sent == report.planned
    assert np.percentile(no_free_user_s, 90) > 0.4
    assert np.percentile(wake_lag_s, 90) < 0.1


def test_a_full_disk_stops_the_load_with_one_line(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    site = serve(lambda *_: ACCEPTED)

    def small_files() -> None:  # a segment does not fit, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (512 * 1024, 512 * 1024))

    generator = GeneratorProcess(tmp_path, plan_of(100, 5), site.port, preexec_fn=small_files)
    _, words = generator.process.communicate(timeout=LIMIT_S)
    assert generator.process.returncode == CANNOT_RECORD
    assert words.startswith("generator: cannot record in")
    assert words.count("\n") == 1
    assert site.seen == []


def test_a_generator_that_may_not_open_enough_connections_says_so(
    tmp_path: Path, serve: Callable[[Reply], FakeSite]
) -> None:
    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))

    site = serve(lambda *_: b"")  # each vote keeps its user for the whole time-out
    plan = plan_of(200, 1, timeout_s=0.5)
    report, _, words = GeneratorProcess(tmp_path, plan, site.port, preexec_fn=few_files).finish()
    assert report is not None, words
    assert report.users == 128 - FILES_BESIDES_CONNECTIONS < report.users_wanted
    fleet = FleetReport(0, {1: report}, ())
    assert fleet.short_of_users
    enough = msgspec.structs.replace(report, users=report.users_wanted)
    assert not FleetReport(0, {1: enough}, ()).short_of_users
