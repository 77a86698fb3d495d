"""The vote server as real processes: what survives a killed worker, and what a killed master."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from harness.database import schema
from harness.deployment import Deployment
from harness.plan import Plan, Site
from harness.services.mariadb import MariadbServer
from harness.site.metrics import in_flight

pytestmark = pytest.mark.services

START_LIMIT_S = 20.0  # a loaded two-core machine imports everything within a few seconds
REPO = Path(__file__).parent.parent
PAGE = REPO / "docs" / "site.md"


class RunningSite:
    """One site in processes of its own."""

    def __init__(self, command: list[str], port: int | None = None) -> None:
        self.master = psutil.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPO,
        )
        self.port = port or int(self.master.stdout.readline())

    def request(
        self, method: str, path: str, body: bytes = b"", timeout_s: float = 5.0
    ) -> tuple[int, dict[str, object]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body=body or None)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def vote(self, number: int = 1, voter: str = "v1") -> int:
        body = {"vote": f"{number:016x}", "choice": 1, "voter": voter}
        return self.request("POST", "/polls/town-hall/votes", json.dumps(body).encode())[0]

    def is_ready(self) -> bool:
        try:
            return self.request("GET", "/health/ready")[0] == 200
        except OSError:
            return False

    def workers(self) -> list[psutil.Process]:
        return list(self.master.children())

    def take_votes(self, workers: int) -> bool:
        """Whether so many workers listen. One that is still starting would not hear a SIGTERM."""
        try:
            sockets = [socket for each in self.workers() for socket in each.net_connections("tcp")]
        except psutil.NoSuchProcess:
            return False
        return sum(each.status == psutil.CONN_LISTEN for each in sockets) == workers


def wait_until(condition: object, limit_s: float = START_LIMIT_S) -> None:
    assert callable(condition)
    end = monotonic() + limit_s
    while not condition():
        assert monotonic() < end, "waited in vain"
        sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RunningSite]:
    running = RunningSite(["tests.site_with_fake_mode", str(tmp_path)])
    started: list[psutil.Process] = []
    try:
        wait_until(lambda: running.take_votes(2))
        started = running.workers()
        wait_until(running.is_ready)
        yield running
    finally:
        if running.master.is_running():
            started += running.workers()
        for process in [running.master, *started]:
            if process.is_running():
                process.kill()
        running.master.communicate()


def test_a_killed_worker_is_replaced_and_the_master_stays(
    site: RunningSite, tmp_path: Path
) -> None:
    first = site.workers()
    slow = [threading.Thread(target=try_slow_vote, args=(site, n)) for n in range(3)]
    for thread in slow:
        thread.start()
    wait_until(lambda: in_flight(tmp_path) == 3)
    for worker in first:
        worker.kill()
    wait_until(lambda: in_flight(tmp_path) == 0, limit_s=0.9)  # not because they were answered
    for thread in slow:
        thread.join()
    wait_until(lambda: len(site.workers()) == 2 and not set(first) & set(site.workers()))
    wait_until(site.is_ready)
    assert site.vote() == 201
    assert site.master.is_running()


def try_slow_vote(site: RunningSite, number: int) -> None:
    try:
        site.vote(number, "slow")
    except (OSError, http.client.HTTPException):
        return  # its worker was killed


def test_a_killed_master_takes_its_workers_along(site: RunningSite) -> None:
    workers = site.workers()
    site.master.kill()
    assert psutil.wait_procs([site.master, *workers], timeout=5)[1] == []


def test_sigterm_lets_requests_under_way_finish(site: RunningSite, tmp_path: Path) -> None:
    workers = site.workers()
    answers: list[int] = []
    slow = threading.Thread(target=lambda: answers.append(site.vote(1, "slow")))
    slow.start()
    wait_until(lambda: in_flight(tmp_path) == 1)
    site.master.terminate()
    slow.join()
    assert answers == [201]
    assert site.master.wait(10) == 0
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    assert site.master.stderr.read() == ""


def test_a_two_mebibyte_body_gets_its_answer_through_a_real_socket(site: RunningSite) -> None:
    for _ in range(30):  # a site that answers before it has read breaks a few in a hundred
        status, problem = site.request("POST", "/polls/town-hall/votes", b"x" * (2 << 20))
        assert (status, problem["type"]) == (413, "urn:pollstorm:problem:body-too-large")


def test_a_port_in_use_is_one_line_and_exit_code_2(site: RunningSite, tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    deployment_on("mysql://nobody@127.0.0.1:1/nothing", tmp_path).write(file)
    done = subprocess.run(
        [sys.executable, "-m", "harness.site", str(file), "--port", str(site.port)],
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
        cwd=REPO,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{site.port}: Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere.json"], 2, "nowhere.json: No such file"),
        (["FILE", "--mode", "dirct"], 2, "did you mean 'direct'?"),
        (["FILE", "--port", "99999"], 2, "99999"),
        (["FILE", "--create-schema"], 1, "the database cannot hold our tables"),
    ],
)
def test_a_site_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    file = tmp_path / "deployment.json"
    deployment_on("mysql://nobody@127.0.0.1:1/nothing", tmp_path).write(file)
    command = [str(file) if argument == "FILE" else argument for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "harness.site", *command],
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
        cwd=REPO,
    )
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_secret_that_is_too_short_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    deployment_on("mysql://nobody@127.0.0.1:1/nothing", tmp_path).write(file)
    done = subprocess.run(
        [sys.executable, "-m", "harness.site", str(file)],
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
        cwd=REPO,
        env={**os.environ, "POLLSTORM_SECRET": "guessable"},
    )
    assert done.returncode == 2
    assert "has fewer than 32 characters" in done.stderr
    assert "guessable" not in done.stderr


def deployment_on(database: str, folder: Path) -> Deployment:
    plan = Plan(scenario="test", site=Site(workers=2, threads=4))
    return Deployment(
        plan=plan, mode="direct", memcached=("127.0.0.1:1",), database=database, folder=str(folder)
    )


def test_votes_reach_a_real_database_and_a_repeated_one_changes_nothing(
    mariadb: MariadbServer, tmp_path: Path
) -> None:
    """With the deployment as docs/site.md has it, which names no memcached."""
    (text,) = re.findall(r"```toml\n(# deployment.*?)```", PAGE.read_text(), re.DOTALL)
    for there, here in (
        ("mysql://me:secret@127.0.0.1/votes", mariadb.url),
        ("/var/lib/pollstorm", str(tmp_path / "made")),
        ("8000", "0"),
    ):
        assert there in text
        text = text.replace(there, here)
    file = tmp_path / "deployment.toml"
    file.write_text(text)
    deployment = Deployment.read(file)
    running = RunningSite(["harness.site", str(file), "--create-schema"], port=1)
    try:
        running.port = int(running.master.stdout.readline().rpartition(":")[2])
        wait_until(running.is_ready)
        path = f"/polls/{deployment.plan.poll.name}"
        vote = {"vote": "00000000000000a1", "choice": 2, "voter": "v1"}
        told = [
            running.request("POST", f"{path}/votes", json.dumps(body).encode())[0]
            for body in (vote, vote, vote | {"choice": 1})
        ]
        assert told == [201, 201, 409]
        assert (
            running.request("POST", "/polls/elsewhere/votes", json.dumps(vote).encode())[0] == 404
        )
        assert running.request("GET", f"{path}/results")[1]["total"] == 1
    finally:
        running.master.send_signal(signal.SIGTERM)
        running.master.communicate()
        schema.drop(mariadb.url)
