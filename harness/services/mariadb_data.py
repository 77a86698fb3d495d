"""A freshly installed data folder of MariaDB, kept for later runs: to copy it is ten times quicker.

It lies in the user's cache folder under a name that says which MariaDB made it. One that is not
as it was when it was made is thrown away and made anew. Where none can be kept, each harness
makes its own.
"""

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from harness.errors import ServiceError
from harness.services.processes import Supervisor
from harness.services.programs import MARIADB_INSTALL_DB, MARIADBD

INSTALL_LIMIT_S: Final = 60.0  # it takes under a second; a slow disk a few
NAME: Final = "mariadb"
SIZES: Final = "pollstorm-sizes.json"  # of all other files of a kept folder, by their names
OPTIONS: Final = (
    "--auth-root-authentication-method=normal",
    "--skip-test-db",
    "--skip-name-resolve",
    "--innodb-log-file-size=8M",  # quick to copy; the server makes it its own size
)


class FreshData:
    """Where a supervisor's MariaDBs get their data folders from."""

    def __init__(self, supervisor: Supervisor, log: Path) -> None:
        """Find or make one. Raises ServiceError when it can be neither."""
        self._supervisor = supervisor
        self._log = log
        self._kept = _place()
        self.is_found = self._kept is not None and _is_whole(self._kept)
        """It was made by another harness, and nobody has started a server on a copy of it yet."""
        self.path = self._kept if self.is_found and self._kept else self._make()

    def make_anew(self) -> None:
        """Throw away what was found: no server starts on it. Raises ServiceError."""
        self.is_found = False
        shutil.rmtree(self.path, ignore_errors=True)
        self.path = self._make()

    def _make(self) -> Path:
        with suppress(OSError, ServiceError):  # no room there; it may be elsewhere
            if self._kept:
                return self._keep(self._kept)
        aside = self._supervisor.temporary_directory()
        _install(self._supervisor, aside, self._log)
        return aside

    def _keep(self, kept: Path) -> Path:
        """Installed aside, then put in its place whole: others may do the same at this moment."""
        aside = self._supervisor.temporary_directory(kept.parent)
        _install(self._supervisor, aside, self._log)
        (aside / SIZES).write_bytes(msgspec.json.encode(_sizes(aside)))
        for other in kept.parent.glob(f"{NAME}-*"):
            if other != kept or not _is_whole(other):
                shutil.rmtree(other, ignore_errors=True)  # broken, or of a MariaDB of before
        try:
            aside.rename(kept)
        except OSError:  # another harness has been quicker
            return aside
        self._supervisor.remove(aside)
        return kept


_data: WeakKeyDictionary[Supervisor, FreshData] = WeakKeyDictionary()


def fresh_data(supervisor: Supervisor, log: Path) -> FreshData:
    """The supervisor's, found or made at the first call. Raises ServiceError."""
    if supervisor not in _data:
        _data[supervisor] = FreshData(supervisor, log)
    return _data[supervisor]


def as_root() -> list[str]:
    """MariaDB refuses to run as root unless told to."""
    return ["--user=root"] if os.geteuid() == 0 else []


def _install(supervisor: Supervisor, data: Path, log: Path) -> None:
    argv = [
        MARIADB_INSTALL_DB.require(),
        "--no-defaults",
        *as_root(),
        f"--datadir={data}",
        f"--tmpdir={data}",  # a server that starts removes others' tables in /tmp
        *OPTIONS,
    ]
    installer = supervisor.spawn("mariadb-install-db", argv, log=log)
    code = installer.wait(INSTALL_LIMIT_S)
    installer.stop(grace_s=0)
    if code != 0:
        how = f"took over {INSTALL_LIMIT_S:g} s" if code is None else f"ended with {code}"
        raise ServiceError(f"mariadb-install-db {how}: {installer.log_tail()} ({log})")


def _place() -> Path | None:
    """Where this MariaDB's is kept; None where no folder of ours can be."""
    told = [os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME", "")]
    caches = [Path(told[0]), Path(told[1], ".cache")]
    caches = [cache for cache in caches if cache.is_absolute()]
    if not caches:
        return None
    folder = caches[0] / "pollstorm"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid() or not os.access(folder, os.W_OK):
            return None
    except OSError:
        return None
    return folder / f"{NAME}-{_fingerprint()}"


def _fingerprint() -> str:
    """Of the programs as they lie there now, and of what they are told."""
    told = [*OPTIONS]
    for program in (MARIADB_INSTALL_DB, MARIADBD):
        path = Path(program.require()).resolve()
        facts = path.stat()
        told += [str(path), str(facts.st_size), str(facts.st_mtime_ns)]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]


def _is_whole(folder: Path) -> bool:
    """Whether it has all the files that were made, each as long as it was."""
    with suppress(OSError, msgspec.DecodeError):
        told = msgspec.json.decode((folder / SIZES).read_bytes(), type=dict[str, int])
        return _sizes(folder) == told
    return False


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.name != SIZES
    }
