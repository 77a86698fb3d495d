"""Real services that tests may share: one of each for the whole session."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, sync_playwright

from harness.cache.meta_client import MetaClient
from harness.database import schema
from harness.deployment import Deployment
from harness.plan import DatabasePlan, MemcachedPlan
from harness.services.mariadb import MariadbServer, start_mariadb
from harness.services.memcached import MemcachedServer, start_memcached
from harness.services.processes import Supervisor
from harness.services.programs import CHROMIUM
from tests.browsing import ARGUMENTS
from tests.deployed import PLAN, POLL
from tests.fake_site import FakeSite, Reply


@pytest.fixture(scope="session")
def supervisor() -> Iterator[Supervisor]:
    """What it starts lives until the session's end."""
    with Supervisor() as session:
        yield session


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def memcached(supervisor: Supervisor, logs: Path) -> MemcachedServer:
    """Shared: wipe it first, or use keys of your own."""
    return start_memcached(supervisor, MemcachedPlan(), logs / "memcached.log")


@pytest.fixture(scope="session")
def mirror(supervisor: Supervisor, logs: Path) -> MemcachedServer:
    """A second one, as shared as the first."""
    return start_memcached(supervisor, MemcachedPlan(), logs / "mirror.log")


@pytest.fixture(scope="session")
def mariadb(supervisor: Supervisor, logs: Path) -> MariadbServer:
    """Shared, with an empty database: create the tables first, drop them afterwards."""
    return start_mariadb(supervisor, DatabasePlan(), logs / "mariadb.log")


@pytest.fixture
def deployment(
    memcached: MemcachedServer, mariadb: MariadbServer, tmp_path: Path
) -> Iterator[Deployment]:
    memcached.wipe()
    schema.create(mariadb.url, POLL)
    yield Deployment(
        plan=PLAN,
        mode="classic",
        memcached=(memcached.address,),
        database=mariadb.url,
        folder=str(tmp_path),
    )
    schema.drop(mariadb.url)


@pytest.fixture
def two_daemons(deployment: Deployment, mirror: MemcachedServer) -> Deployment:
    """Every mode can be at work on it."""
    mirror.wipe()
    return msgspec.structs.replace(deployment, memcached=(*deployment.memcached, mirror.address))


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], FakeSite]]:
    """Starts sites that answer as they are told to; closed at the test's end."""
    sites: list[FakeSite] = []

    def start(reply: Reply) -> FakeSite:
        sites.append(FakeSite(reply))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM.require(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def client(memcached: MemcachedServer) -> Iterator[MetaClient]:
    """Of the shared memcached, wiped."""
    memcached.wipe()
    with closing(MetaClient(memcached.address, 1.0)) as client:
        yield client
