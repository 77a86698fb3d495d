"""The programs that a run needs from the machine, and where they are found."""

import os
import shutil
from typing import Final, NamedTuple

from harness.errors import ServiceError


class Program(NamedTuple):
    """A program's name and the Debian package that brings it."""

    name: str
    package: str

    def find(self) -> str | None:
        """Its absolute path, or None."""
        return shutil.which(self.name, path=search_path())

    def require(self) -> str:
        """Its absolute path. Raises ServiceError that says how to get it."""
        path = self.find()
        if path is None:
            raise ServiceError(
                f"{self.name} is not installed; `apt-get install {self.package}` brings it, "
                "and `pollstorm doctor` shows what else is missing"
            )
        return path


MEMCACHED: Final = Program("memcached", "memcached")
MARIADBD: Final = Program("mariadbd", "mariadb-server")
MARIADB_INSTALL_DB: Final = Program("mariadb-install-db", "mariadb-server")
CHROMIUM: Final = Program("chromium", "chromium")

SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where servers lie on Debian; a plain user's PATH lacks them."""

INHERITED: Final = ("PATH", "HOME", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")


def search_path() -> str:
    """The caller's PATH, and behind it the folders of servers."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])


def clean_environment() -> dict[str, str]:
    """What children see of the caller's environment: no locale, no time zone, no options."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return kept | {"PATH": search_path(), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
