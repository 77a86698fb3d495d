"""Real services that tests may share: one of each for the whole session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.plan import DatabasePlan, MemcachedPlan
from harness.services.mariadb import MariadbServer, start_mariadb
from harness.services.memcached import MemcachedServer, start_memcached
from harness.services.processes import Supervisor


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
def mariadb(supervisor: Supervisor, logs: Path) -> MariadbServer:
    """Shared, with an empty database: create the tables first, drop them afterwards."""
    return start_mariadb(supervisor, DatabasePlan(), logs / "mariadb.log")
