"""A whole run in which three times as many come as the site can take. `make overload`: for 30 s."""

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic_ns
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from harness.errors import Exit
from harness.history.ledger import RequestKind
from harness.history.store import connect, quoted
from harness.plan import Plan, find_scenario, read_plan
from harness.run_folder import RunFolder
from harness.services.ports import free_port
from harness.site.app import threads_of
from tests.test_run import RUN_LIMIT_S, pollstorm, result_of

pytestmark = pytest.mark.services

LONG_S = float(os.environ.get("POLLSTORM_OVERLOAD_S", "0"))
LASTS_S = LONG_S or 2.0
BEFORE_S, AFTER_S = (5.0, 10.0) if LONG_S else (1.0, 2.5)
MODES = ("direct", "ticket") if LONG_S else ("direct",)
NORMAL_AFTER_S = 5.0 if LONG_S else 1.5  # after the load's end
REFUSED_WITHIN_MS = 500.0  # at the 99th percentile; a loaded machine, and 40 ms were measured
LOOK_S = 0.05
NS_PER_S = 1e9
EACH_MS = 50.0  # a vote takes, with a commit of 20 ms or three answers of memcached, and some more
TAKEN = {"direct": 201, "ticket": 202}
Floats: TypeAlias = npt.NDArray[np.float64]


def overload() -> Plan:
    """The scenario, told in less time, on a port that we know."""
    plan = read_plan(find_scenario("overload"))
    change = msgspec.structs.replace
    duration_s = BEFORE_S + LASTS_S + AFTER_S
    return change(
        plan,
        modes=MODES,
        duration_s=duration_s,
        arrivals=change(plan.arrivals, starts_s=BEFORE_S, lasts_s=LASTS_S),
        site=change(plan.site, port=free_port()),
        faults=tuple(change(fault, for_s=duration_s) for fault in plan.faults),
    )


class Look(NamedTuple):
    """What the site said of itself at a time."""

    at_ns: int
    ready: int  # status
    in_flight: float


@contextmanager
def looking(port: int) -> Iterator[list[Look]]:
    """Ask the site how it fares while the block runs; nothing comes of it while there is none."""
    looks: list[Look] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            at_ns = monotonic_ns()
            try:
                ready, _ = asked(port, "/health/ready")
                _, metrics = asked(port, "/metrics")
            except (OSError, http.client.HTTPException):
                continue
            gauge = metrics.partition("\npollstorm_in_flight ")[2].split()[0]
            looks.append(Look(at_ns, ready, float(gauge)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield looks
    finally:
        ended.set()
        watcher.join()


def asked(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Overloaded(NamedTuple):
    """The run, and what was seen of it."""

    plan: Plan
    folder: RunFolder
    result: dict[str, dict[str, dict[str, Any]]]
    looks: list[Look]

    def require_sound(self, mode: str) -> None:
        """Times of a load generator that was starved say nothing of the site."""
        verdict = self.result[mode]["verdict"]
        if verdict["measurement"] != "sound":
            pytest.skip(" ".join(verdict["reasons"]))

    def took_ms(self, mode: str, status: int, from_s: float, until_s: float) -> Floats:
        """How long the votes planned then took that were answered so."""
        trial = self.folder.trial(mode)
        start_ns = trial.read_facts().load_start_ns
        with connect() as connection:
            rows = connection.execute(
                f"""SELECT (answered_ns - sent_ns) / 1e6 FROM {quoted(trial.ledger)}
                    WHERE kind = {int(RequestKind.VOTE)} AND status = {status}
                    AND planned_ns - {start_ns} BETWEEN {from_s * NS_PER_S} AND
                        {until_s * NS_PER_S}"""
            ).fetchall()
        return np.array(rows, dtype=np.float64).reshape(-1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Overloaded:
    cwd = tmp_path_factory.mktemp("overload")
    plan = overload()
    (cwd / "overload.toml").write_text(plan.to_toml())
    limit_s = len(MODES) * plan.duration_s + RUN_LIMIT_S
    with looking(plan.site.port) as looks:
        finished = pollstorm(
            "run", "overload.toml", "--out", "run", "--json", cwd=cwd, limit_s=limit_s
        )
    assert finished.returncode in (Exit.OK, Exit.INCONCLUSIVE), finished.stderr
    return Overloaded(plan, RunFolder.open(cwd / "run"), result_of(finished)["modes"], looks)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_that_was_acknowledged_is_lost_and_nothing_is_left_unsaid(
    run: Overloaded, mode: str
) -> None:
    accounts = run.result[mode]["accounts"]
    assert accounts["planned"] == accounts["counted"] + accounts["refused"]
    assert accounts["lost"] == accounts["unsent"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_what_it_cannot_take_it_refuses_at_once(run: Overloaded, mode: str) -> None:
    run.require_sound(mode)
    during = BEFORE_S, BEFORE_S + LASTS_S
    taken = run.took_ms(mode, TAKEN[mode], *during)
    refused = run.took_ms(mode, 503, *during)
    assert len(refused) > len(taken) > 0
    assert np.percentile(refused, 99) < REFUSED_WITHIN_MS
    site = run.plan.site
    longest_wait_ms = min(1000 * site.wait_s, EACH_MS * (site.waiting / site.threads + 1))
    assert np.percentile(taken, 99) < longest_wait_ms + REFUSED_WITHIN_MS


def test_it_stays_ready_and_no_more_are_inside_than_may_wait(run: Overloaded) -> None:
    site = run.plan.site
    for mode in MODES:
        start_ns = run.folder.trial(mode).read_facts().load_start_ns + BEFORE_S * NS_PER_S
        during = [look for look in run.looks if 0 < look.at_ns - start_ns < LASTS_S * NS_PER_S]
        assert len(during) > LASTS_S
        assert {look.ready for look in during} == {200}
        assert max(look.in_flight for look in during) <= site.workers * threads_of(site)


@pytest.mark.parametrize("mode", MODES)
def test_it_answers_as_before_soon_after(run: Overloaded, mode: str) -> None:
    run.require_sound(mode)
    normal_s = BEFORE_S + LASTS_S + NORMAL_AFTER_S
    before = run.took_ms(mode, TAKEN[mode], 0.0, BEFORE_S)
    after = run.took_ms(mode, TAKEN[mode], normal_s, run.plan.duration_s)
    assert min(len(before), len(after)) > 10
    assert np.median(after) < 2 * np.median(before)
    assert not len(run.took_ms(mode, 503, normal_s, run.plan.duration_s))
