"""A small disk in memory for MariaDB's data, which can be made full and roomy again.

It is a tmpfs whose limit is set to what lies on it, and back: that costs no memory, as a file that
fills it would. Only root may mount.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from harness.errors import ServiceError

SIZE_MIB: Final = 1024  # a fresh MariaDB takes 125; the rest is room for millions of ballots
PAGE_BYTES: Final = 4096
TRIES: Final = 20  # whoever writes between the look and the change makes the new limit too low
MOUNT_LIMIT_S: Final = 10.0  # it takes milliseconds


class SmallDisk:
    """A disk mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no room. Raises ServiceError."""
        for _ in range(TRIES):
            used_bytes = shutil.disk_usage(self.path).used
            if _mount(f"remount,size={max(PAGE_BYTES, used_bytes)}", self.path) is None:
                return
        raise ServiceError(f"the disk at {self.path} could not be filled in {TRIES} tries")

    def make_room(self) -> None:
        """Give all room back. Raises ServiceError."""
        why = _mount(f"remount,size={SIZE_MIB}m", self.path)
        if why is not None:
            raise ServiceError(f"the disk at {self.path} got no room again: {why}")


def mount_small_disk(path: Path) -> SmallDisk | None:
    """Mount a small disk there, which ends with its folder; None where that is not allowed."""
    if os.geteuid() != 0 or _mount(f"size={SIZE_MIB}m,mode=700", path) is not None:
        return None
    return SmallDisk(path)


def _mount(options: str, path: Path) -> str | None:
    """Mount a tmpfs; None, or why it cannot be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOUNT_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or "mount failed" if done.returncode else None
