"""A private MariaDB with a temporary data folder.

Its durability is InnoDB's own: every commit is flushed. What is switched off or made small has to
do with starting, not with committing.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

import pymysql

from harness.errors import ServiceError
from harness.plan import DatabasePlan
from harness.services.disk import SmallDisk, mount_small_disk
from harness.services.mariadb_data import SIZES, as_root, fresh_data
from harness.services.ports import LOOPBACK, on_free_port
from harness.services.processes import Child, Supervisor
from harness.services.programs import MARIADBD
from harness.services.service import Service

DATABASE: Final = "pollstorm"
FULL_DISK: Final = "full-disk"
SLOW_COMMIT: Final = "slow-commit"
START_LIMIT_S: Final = 30.0  # it takes a quarter of a second; a slow disk a few
ANSWER_LIMIT_S: Final = 2.0
LOCK_WAIT_S: Final = 5  # InnoDB's 50 s would outlast every voter's patience
COMMIT_WAIT_COUNT: Final = 10_000  # so many never come together: every commit waits in full


class MariadbServer:
    """A MariaDB with one empty database, reached as root without password at `url`."""

    def __init__(
        self,
        supervisor: Supervisor,
        service: Service,
        port: int,
        data: Path,
        disk: SmallDisk | None = None,
    ) -> None:
        self.url = f"mysql://root@{LOOPBACK}:{port}/{DATABASE}?ssl_disabled=1"
        self.service = service
        self.disk = disk
        self._supervisor = supervisor
        self._data = data

    @property
    def child(self) -> Child:
        return self.service.child

    def stop(self) -> None:
        """End it at once and remove its data: nobody will read them."""
        self.child.stop(grace_s=0)
        self._supervisor.remove(self._data)


def start_mariadb(
    supervisor: Supervisor,
    plan: DatabasePlan,
    log: Path,
    cpus: frozenset[int] | None = None,
    faults: Collection[str] = (),
) -> MariadbServer:
    """A fresh MariaDB on a free port, answering. Raises ServiceError.

    It has what faults of these kinds need from its start: the binary log, a small disk if root.
    """
    program = MARIADBD.require()
    fresh = fresh_data(supervisor, log)

    def start(port: int) -> MariadbServer:
        data = supervisor.temporary_directory()
        disk = mount_small_disk(data) if FULL_DISK in faults else None
        try:
            ignored = shutil.ignore_patterns(SIZES)
            shutil.copytree(fresh.path, data, ignore=ignored, dirs_exist_ok=True)
        except OSError as error:
            raise ServiceError(f"no room for MariaDB's data in {data.parent}: {error}") from error
        service = Service(
            supervisor,
            "mariadbd",
            [program, *_options(plan, port, data, binlog=SLOW_COMMIT in faults)],
            log=log,
            is_ready=lambda _: _has_created_database(port, data),
            limit_s=START_LIMIT_S,
            cpus=cpus,
        )
        service.wait_until_ready()
        return MariadbServer(supervisor, service, port, data, disk)

    try:
        server = on_free_port(start)
    except ServiceError:
        if not fresh.is_found:
            raise
        fresh.make_anew()
        server = on_free_port(start)
    fresh.is_found = False
    return server


def _options(plan: DatabasePlan, port: int, data: Path, *, binlog: bool) -> list[str]:
    options = [
        "--no-defaults",
        *as_root(),
        f"--datadir={data}",
        f"--tmpdir={data}",
        f"--port={port}",
        f"--bind-address={LOOPBACK}",
        "--socket=socket",  # relative to the data folder: a long path would not fit
        "--pid-file=pid",
        "--skip-name-resolve",
        f"--max-connections={plan.max_connections}",
        f"--innodb-lock-wait-timeout={LOCK_WAIT_S}",
        "--innodb-flush-log-at-trx-commit=1",
        "--character-set-server=utf8mb4",
        "--default-time-zone=+00:00",
    ]
    if plan.commit_wait_us or binlog:
        options += [
            "--log-bin=binlog",
            "--server-id=1",
            f"--binlog-commit-wait-usec={plan.commit_wait_us}",
            f"--binlog-commit-wait-count={COMMIT_WAIT_COUNT}",
        ]
    return options


def _has_created_database(port: int, data: Path) -> bool:
    """Whether the server on these data answers and now has its database."""
    try:
        with (
            pymysql.connect(
                host=LOOPBACK,
                port=port,
                user="root",
                ssl_disabled=True,
                connect_timeout=ANSWER_LIMIT_S,
                read_timeout=ANSWER_LIMIT_S,
                autocommit=True,
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT @@datadir")
            answer = cursor.fetchone()
            if answer is None or Path(answer[0]) != data:
                return False
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4")
    except pymysql.Error:
        return False
    return True
