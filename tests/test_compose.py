"""The compose file names only things that exist, and its parts agree with one another.

No Docker engine is needed: what can be run without one (health checks, `--help`) is run.
"""

import http.server
import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

import harness.site.__main__
from harness.deployment import Deployment
from harness.flusher import MODE_VARIABLE, ready_file
from harness.modes.mode import find_mode, known_modes, require_memcached
from harness.plan import read_plan
from harness.services.memcached import MemcachedServer
from harness.site.cookie import SECRET

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OWN = sorted(name for name, service in SERVICES.items() if "build" in service)
WITHOUT_HEALTH_CHECK = {"worker"}  # listens on no port; the master's page lists those it hears
PINNED = re.compile(r"[a-z0-9./-]+:\d+\.\d+\.\d+[a-z0-9.-]*")
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
COMMAND_LIMIT_S = 30


def deployment() -> Deployment:
    return Deployment.read(ROOT / "docker/deployment.toml")


def words(value: object) -> str:
    """The text as compose hands it on, its variables at their defaults."""
    return VARIABLE.sub(r"\2", str(value)).replace("$$", "$")


def command(name: str) -> list[str]:
    return [words(word) for word in SERVICES[name]["command"]]


def health_check(name: str) -> list[str]:
    kind, *argv = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    return [words(word) for word in argv]


def dockerfile() -> list[list[str]]:
    """The Dockerfile's instructions, each split into words."""
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines()]
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


def test_the_services_are_there() -> None:
    ours = {"site", "flusher", "master", "worker"}
    assert set(SERVICES) == {"memcached", "mirror", "mariadb"} | ours


def test_images_are_pinned_to_a_patch_release() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    images += [words[1] for words in dockerfile() if words[0] == "FROM"]
    assert len(images) == 4
    assert [image for image in images if not PINNED.fullmatch(image)] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_that_can_fail(name: str) -> None:
    if name in WITHOUT_HEALTH_CHECK:
        assert "healthcheck" not in SERVICES[name]
        return
    assert health_check(name)
    assert {"interval", "timeout", "retries"} <= set(SERVICES[name]["healthcheck"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_until_what_it_needs_is_healthy(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] == "service_healthy"
        assert "healthcheck" in SERVICES[needed]


def test_the_site_stops_before_the_flusher_and_the_flusher_before_memcached() -> None:
    assert "flusher" in SERVICES["site"]["depends_on"]
    assert {"memcached", "mirror", "mariadb"} <= set(SERVICES["flusher"]["depends_on"])
    grace_s = int(SERVICES["flusher"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > deployment().plan.limits.drain_s


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_exists(name: str) -> None:
    declared = yaml.safe_load(COMPOSE.read_text())["volumes"]
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).is_file() if source.startswith("./") else source in declared


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_workers_can_be_scaled() -> None:
    assert not {"container_name", "ports"} & set(SERVICES["worker"])


@pytest.mark.parametrize("name", OWN)
def test_our_image_is_built_from_this_folder(name: str) -> None:
    assert (ROOT / SERVICES[name]["build"] / "Dockerfile").is_file()


def test_the_image_copies_what_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    sources = {source for words in dockerfile() if words[0] == "COPY" for source in words[1:-1]}
    assert {"harness", "locustfiles", "pyproject.toml", "constraints.txt"} <= sources
    assert [source for source in sorted(sources) if not (ROOT / source).exists()] == []
    assert {line[1:] for line in ignored if line.startswith("!")} == sources


def test_the_image_does_not_run_as_root() -> None:
    users = [words[1] for words in dockerfile() if words[0] == "USER"]
    assert users == ["pollstorm"]


def test_the_image_installs_constrained_versions_only() -> None:
    installs = [words for words in dockerfile() if words[0] == "RUN" and "install" in words]
    assert len(installs) == 2
    assert all("constraints.txt" in words for words in installs)


@pytest.mark.parametrize("name", ["site", "flusher"])
def test_modules_and_their_deployment_file_exist(name: str) -> None:
    python, dash_m, module, file, *_ = command(name)
    assert (python, dash_m) == ("python", "-m")
    assert importlib.util.find_spec(module)
    mounts = [volume.split(":") for volume in SERVICES[name]["volumes"]]
    assert ["./docker/deployment.toml", file, "ro"] in mounts


def test_the_site_has_the_flags_and_the_variable_that_it_is_given() -> None:
    known = {name for p in harness.site.__main__.site.params for name in p.opts}
    assert {word for word in command("site") if word.startswith("--")} <= known
    variables = {getattr(p, "envvar", None) for p in harness.site.__main__.site.params}
    assert set(SERVICES["site"]["environment"]) <= variables | {SECRET}
    assert find_mode(words(SERVICES["site"]["environment"]["POLLSTORM_MODE"])).queues


def test_site_and_flusher_are_told_the_same_mode() -> None:
    site = SERVICES["site"]["environment"]
    assert SERVICES["flusher"]["environment"] == {MODE_VARIABLE: site[MODE_VARIABLE]}


def test_the_deployment_has_memcached_daemons_enough_for_every_mode() -> None:
    for name in known_modes():
        require_memcached(find_mode(name), len(deployment().memcached))


def test_addresses_of_the_deployment_are_those_of_the_services() -> None:
    known = deployment()
    assert known.memcached == ("memcached:11211", "mirror:11211")
    assert "/dev/tcp/127.0.0.1/11211" in health_check("memcached")[-1]
    database = urlsplit(known.database)
    environment = SERVICES["mariadb"]["environment"]
    assert (database.hostname, database.port) == ("mariadb", 3306)
    assert database.username == environment["MARIADB_USER"]
    assert database.password == environment["MARIADB_PASSWORD"]
    assert database.path == f"/{environment['MARIADB_DATABASE']}"
    assert known.host == "0.0.0.0"
    assert SERVICES["site"]["ports"] == [f"127.0.0.1:{known.port}:{known.port}"]
    assert f"http://127.0.0.1:{known.port}/health/ready" in health_check("site")[-1]
    assert f"--host=http://site:{known.port}" in command("master")
    assert "--master-host=master" in command("worker")


@pytest.mark.parametrize("name", ["site", "flusher"])
def test_the_deployments_folder_is_one_that_the_user_may_write(name: str) -> None:
    assert f"{deployment().folder}:mode=1777" in SERVICES[name]["tmpfs"]


def test_the_flusher_is_healthy_once_its_ready_file_is_there() -> None:
    assert health_check("flusher") == ["test", "-f", str(ready_file(Path(deployment().folder)))]


@pytest.mark.parametrize("name", ["master", "worker"])
def test_locust_has_the_options_that_it_is_given(name: str) -> None:
    program, *options = command(name)
    assert SERVICES[name]["environment"] == {"POLLSTORM_ALLOW_TARGET": "site"}
    locust = Path(sys.executable).with_name(program)
    shown = subprocess.run(
        [locust, "--help"], capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=True
    ).stdout
    known = set(re.findall(r"--[a-z-]+", shown))
    assert {option.partition("=")[0] for option in options} <= known


@pytest.mark.parametrize("name", ["master", "worker"])
def test_every_scenario_is_a_locustfile_about_the_poll_that_the_site_has(name: str) -> None:
    default = command(name)[1].removeprefix("--locustfile=")
    assert (ROOT / default).is_file()
    template = SERVICES[name]["command"][1]
    for toml in sorted((ROOT / "locustfiles").glob("*.toml")):
        locustfile = VARIABLE.sub(toml.stem, template).removeprefix("--locustfile=")
        assert (ROOT / locustfile).is_file()
        poll = read_plan(toml).poll
        # Whether each voter is counted once is the site's own affair.
        assert msgspec.structs.replace(poll, once=False) == deployment().plan.poll


@pytest.mark.services
def test_memcacheds_health_check_tells_a_living_one_from_none(memcached: MemcachedServer) -> None:
    port = memcached.address.rpartition(":")[2]
    assert _ends_well(health_check("memcached"), "11211", port)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port = str(silent.getsockname()[1])
        assert not _ends_well(health_check("memcached"), "11211", silent_port)
    assert not _ends_well(health_check("memcached"), "11211", silent_port)


@pytest.mark.parametrize(("name", "port"), [("site", "8000"), ("master", "8089")])
def test_health_checks_over_http_tell_ready_from_not_ready(
    name: str, port: str, pages: "Pages"
) -> None:
    here = str(pages.server_port)
    assert _ends_well(health_check(name), port, here)
    pages.status = http.HTTPStatus.SERVICE_UNAVAILABLE
    assert not _ends_well(health_check(name), port, here)


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")
def test_docker_compose_reads_the_file() -> None:
    docker = ["docker", "compose"]
    has_plugin = subprocess.run(
        [*docker, "version"], capture_output=True, timeout=COMMAND_LIMIT_S, check=False
    )
    if has_plugin.returncode != 0:
        pytest.skip("the docker client here has no compose plugin")
    # Variables at their defaults, whatever the environment says.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POLLSTORM_")}
    answer = subprocess.run(
        [*docker, "-f", str(COMPOSE), "config", "--quiet"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


class Pages(http.server.ThreadingHTTPServer):
    """Answers everything with one status."""

    status = http.HTTPStatus.OK


class Page(http.server.BaseHTTPRequestHandler):
    """One answer of `Pages`."""

    server: Pages

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is pytest's."""


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _ends_well(argv: list[str], port: str, other_port: str) -> bool:
    """Whether the health check succeeds when it looks at the other port."""
    moved = [word.replace(port, other_port) for word in argv]
    program = sys.executable if moved[0] == "python" else moved[0]
    ended = subprocess.run(
        [program, *moved[1:]], capture_output=True, timeout=COMMAND_LIMIT_S, check=False
    )
    return ended.returncode == 0
