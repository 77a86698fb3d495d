"""Each scenario under `locust -f` alone: headless, with its web page, and with workers."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.load.arrivals import schedule, users_needed
from harness.plan import find_scenario, read_plan
from tests.fake_site import FakeSite

LOCUSTFILES = Path(__file__).parent.parent / "locustfiles"
SCENARIOS = [
    "steady_trickle",
    "controversial_poll",
    "on_air_promotion",
    "results_stampede",
    "ballot_stuffing",
    "overload",
]
LIMIT_S = 40.0  # a run here lasts a few seconds, on a machine with other things to do


@contextmanager
def fake_site() -> Iterator[FakeSite]:
    fake = FakeSite(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    yield fake
    fake.close()


@pytest.fixture
def site() -> Iterator[FakeSite]:
    with fake_site() as fake:
        yield fake


@contextmanager
def locust(name: str, *options: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILES / f"{name}.py"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_locustfile_has_a_plan_of_its_own_name(name: str) -> None:
    scenario = name.replace("_", "-")
    assert read_plan(find_scenario(scenario)).scenario == scenario
    assert f"pollstorm run {scenario}" in (LOCUSTFILES / f"{name}.py").read_text()


def test_there_are_no_other_scenarios() -> None:
    assert {path.stem for path in LOCUSTFILES.glob("*.toml")} == set(SCENARIOS)
    assert {path.stem for path in LOCUSTFILES.glob("*.py")} == set(SCENARIOS)


class Alone(NamedTuple):
    """What a locustfile did that ran headless by itself."""

    code: int
    output: str
    seen: list[int]  # by its site: votes by number, -1 for a results page


@pytest.fixture(scope="module")
def alone() -> dict[str, Alone]:
    """All of them at the same time, each with a site of its own: they wait more than they do."""
    with ExitStack() as ending:
        sites = {name: ending.enter_context(fake_site()) for name in SCENARIOS}
        running = {}
        for name, site in sites.items():
            options = ("--headless", "-t", "3", "--host", f"http://127.0.0.1:{site.port}")
            running[name] = ending.enter_context(locust(name, *options))
        told = {name: process.communicate(timeout=LIMIT_S)[0] for name, process in running.items()}
        return {
            name: Alone(process.returncode, told[name], list(sites[name].seen))
            for name, process in running.items()
        }


@pytest.mark.services
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_locustfile_runs_headless_by_itself_with_all_the_users_that_its_load_takes(
    name: str, alone: dict[str, Alone]
) -> None:
    code, output, site_saw = alone[name]
    assert code == 0, output
    assert "Traceback" not in output
    plan = read_plan(LOCUSTFILES / f"{name}.toml")
    users = users_needed(schedule(plan, 1, 1), plan.voters)
    assert f"({users} total users)" in output
    rows = re.findall(r"^(GET|POST) +/polls/controversial-poll/\w+ +(\d+) +0\(0", output, re.M)
    told = {method: int(number) for method, number in rows}  # the last table is the final one
    seen = len([vote for vote in site_saw if vote >= 0])
    assert seen - 1 <= told["POST"] <= seen, "one may be under way at the end"
    assert seen > 1


@pytest.mark.services
def test_master_and_workers_share_out_one_load(site: FakeSite) -> None:
    host, port = f"http://127.0.0.1:{site.port}", str(free_port())
    worker = ("--worker", "--master-port", port)
    master = ("--master", "--master-bind-port", port, "--expect-workers", "2")
    headless = ("--headless", "-t", "5", "--host", host)
    with (
        locust("steady_trickle", *worker),
        locust("steady_trickle", *worker),
        locust("steady_trickle", *master, *headless) as process,
    ):
        output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output
    votes = [vote for vote in site.seen if vote >= 0]
    assert max(votes.count(vote) for vote in votes) == 2, "each worker numbers its votes from 0"
    assert 4 < len(votes) < 18  # of the 15 of these five seconds, and not each of them twice


@pytest.mark.services
def test_the_web_page_starts_and_stops_the_load_as_often_as_one_likes(site: FakeSite) -> None:
    page = f"http://127.0.0.1:{free_port()}"
    options = ("--host", f"http://127.0.0.1:{site.port}", "--web-host", "127.0.0.1")
    with locust("steady_trickle", *options, "--web-port", page.rpartition(":")[2]):
        until_s = time.monotonic() + LIMIT_S
        while not _answers(page):
            assert time.monotonic() < until_s
            time.sleep(0.1)
        for _ in range(2):
            before = len(site.seen)
            swarm = {"user_count": 30, "spawn_rate": 30, "host": options[1]}
            assert _ask(f"{page}/swarm", swarm)["success"]
            while len(site.seen) < before + 5:
                assert time.monotonic() < until_s
                time.sleep(0.1)
            _ask(f"{page}/stop", {})
            assert _ask(f"{page}/stats/requests")["state"] == "stopped"


@pytest.mark.services
def test_a_host_off_this_machine_is_refused_in_one_line() -> None:
    with locust("steady_trickle", "--headless", "--host", "http://192.0.2.1") as process:
        output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    ours = [line for line in output.splitlines() if line.startswith("pollstorm: ")]
    assert len(ours) == 1
    assert "POLLSTORM_ALLOW_TARGET=192.0.2.1" in ours[0]
    assert "Traceback" not in output


def _answers(page: str) -> bool:
    try:
        urllib.request.urlopen(page, timeout=LIMIT_S).close()
    except urllib.error.URLError:
        return False
    return True


def _ask(url: str, form: dict[str, object] | None = None) -> dict[str, object]:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=LIMIT_S) as answer:
        found: dict[str, object] = json.load(answer)
    return found
