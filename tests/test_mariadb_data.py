"""A kept data folder of MariaDB: used again, thrown away when broken, and nobody's trouble."""

import shutil
import threading
from pathlib import Path

import pytest

from harness.errors import ServiceError
from harness.plan import DatabasePlan
from harness.services import mariadb_data
from harness.services.mariadb import start_mariadb
from harness.services.mariadb_data import SIZES, FreshData
from harness.services.processes import Supervisor


class Installer:
    """Stands for mariadb-install-db, and counts."""

    def __init__(self) -> None:
        self.runs = 0
        self.fails_in: Path | None = None

    def __call__(self, _supervisor: Supervisor, data: Path, _log: Path) -> None:
        self.runs += 1
        if data.parent == self.fails_in:
            raise ServiceError("no room")
        (data / "mysql").mkdir()
        (data / "mysql" / "user").write_bytes(b"root")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pollstorm"


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> Installer:
    stands_in = Installer()
    monkeypatch.setattr(mariadb_data, "_install", stands_in)
    return stands_in


def found(tmp_path: Path) -> tuple[bool, str]:
    """By a new harness: whether there was one, and what it holds."""
    with Supervisor() as supervisor:
        fresh = FreshData(supervisor, tmp_path / "log")
        return fresh.is_found, (fresh.path / "mysql" / "user").read_text()


def test_the_second_harness_finds_what_the_first_has_made(
    cache: Path, installer: Installer, tmp_path: Path
) -> None:
    assert found(tmp_path) == (False, "root")
    assert found(tmp_path) == (True, "root")
    assert installer.runs == 1
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("harm", ["shorter", "gone", "one more", "unfinished"])
def test_one_that_is_not_as_it_was_made_is_made_anew(
    cache: Path, installer: Installer, tmp_path: Path, harm: str
) -> None:
    found(tmp_path)
    (kept,) = cache.iterdir()
    user = kept / "mysql" / "user"
    if harm == "shorter":
        user.write_bytes(b"ro")
    elif harm == "gone":
        user.unlink()
    elif harm == "one more":
        (kept / "binlog").touch()
    else:
        (kept / SIZES).write_text("{")
    assert found(tmp_path) == (False, "root")
    assert found(tmp_path) == (True, "root")
    assert installer.runs == 2


def test_that_of_another_mariadb_goes_when_one_is_made(
    cache: Path, installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(tmp_path)
    monkeypatch.setattr(mariadb_data, "OPTIONS", ("--innodb-log-file-size=9M",))
    assert found(tmp_path) == (False, "root")
    assert installer.runs == 2
    assert len(list(cache.iterdir())) == 1


def test_harnesses_that_make_it_at_once_all_have_one(
    cache: Path, installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_installed = threading.Barrier(3)

    def together(supervisor: Supervisor, data: Path, log: Path) -> None:
        installer(supervisor, data, log)
        all_installed.wait(10)

    monkeypatch.setattr(mariadb_data, "_install", together)
    told: list[tuple[bool, str]] = []
    threads = [threading.Thread(target=lambda: told.append(found(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [(False, "root")] * 3
    (kept,) = cache.iterdir()
    assert found(tmp_path) == (True, "root")
    assert kept.name.startswith("mariadb-")


@pytest.mark.parametrize("told", ["no folder", "a file", "somebody else's", "full"])
def test_where_none_can_be_kept_each_harness_has_its_own(
    installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", "" if told == "no folder" else str(cache))
    monkeypatch.delenv("HOME")
    if told == "a file":
        cache.touch()
    elif told == "somebody else's":
        (cache / "pollstorm").mkdir(parents=True)
        monkeypatch.setattr("os.geteuid", lambda: 12345)
    elif told == "full":
        installer.fails_in = cache / "pollstorm"
    with Supervisor() as supervisor:
        fresh = FreshData(supervisor, tmp_path / "log")
        assert (fresh.path / "mysql" / "user").read_text() == "root"
        assert cache not in fresh.path.parents
    assert not fresh.path.exists()
    assert list(cache.rglob("*/*")) == []


@pytest.mark.services
def test_a_server_starts_although_what_was_kept_has_become_useless(
    cache: Path, tmp_path: Path
) -> None:
    with Supervisor() as supervisor:
        start_mariadb(supervisor, DatabasePlan(), tmp_path / "first.log").stop()
    (kept,) = cache.iterdir()
    system = kept / "ibdata1"
    system.write_bytes(bytes(system.stat().st_size))
    with Supervisor() as supervisor:
        start_mariadb(supervisor, DatabasePlan(), tmp_path / "second.log").stop()
    assert system.read_bytes().strip(b"\0")
    shutil.rmtree(kept)
