"""The process that outlives a killed harness and ends what the harness started.

Run as a script with a pipe as its input; the only write ends are the harness's and, until it is
registered, that of a child just started. Notes on the pipe end with a NUL:

    +<group>    end this process group        -<group>    forget it, it is gone
    D<path>     remove this folder            d<path>     forget it

When the pipe ends, the harness is gone, by whatever death. Standard library only: it starts in
some 20 ms and imports nothing of the harness.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

KILL_LIMIT_S = 5.0  # a killed process is gone in milliseconds, unless its disk hangs
POLL_S = 0.01
READ_BYTES = 65_536


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the pipe's end may end the reaper
    groups: set[int] = set()
    folders: set[str] = set()
    rest = b""
    while chunk := os.read(sys.stdin.fileno(), READ_BYTES):
        *notes, rest = (rest + chunk).split(b"\0")
        for note in notes:
            take(note, groups, folders)
    kill(groups)
    for folder in folders:
        remove(folder)


def remove(folder: str) -> None:
    """Remove a folder, and before it the small disk that may be mounted there."""
    if os.path.ismount(folder):
        os.spawnlp(os.P_WAIT, "umount", "umount", "--lazy", folder)
    shutil.rmtree(folder, ignore_errors=True)


def take(note: bytes, groups: set[int], folders: set[str]) -> None:
    """Add or forget what the note names."""
    kind, subject = note[:1], note[1:]
    if kind == b"+":
        groups.add(int(subject))
    elif kind == b"-":
        groups.discard(int(subject))
    elif kind == b"D":
        folders.add(os.fsdecode(subject))
    elif kind == b"d":
        folders.discard(os.fsdecode(subject))


def kill(groups: set[int]) -> None:
    """Kill the groups until nobody of them lives; at most KILL_LIMIT_S."""
    deadline = time.monotonic() + KILL_LIMIT_S
    while groups and time.monotonic() < deadline:
        for group in list(groups):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
            if not lives(group):
                groups.remove(group)
        if groups:
            time.sleep(POLL_S)


def lives(group: int) -> bool:
    """Whether a process of the group lives. One that is dead, but not buried yet, does not.

    Orphans are buried by init, and some take seconds for it. proc(5) has the fields.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    with os.scandir("/proc") as entries:
        return any(_is_of(entry.path, group) for entry in entries if entry.name.isdigit())


def _is_of(process: str, group: int) -> bool:
    try:
        file = os.open(f"{process}/stat", os.O_RDONLY)
        try:
            stat = os.read(file, READ_BYTES)
        finally:
            os.close(file)
    except OSError:
        return False  # it has ended meanwhile
    state, _parent, its_group, *_ = stat[stat.rindex(b")") + 2 :].split(None, 3)
    return int(its_group) == group and state not in (b"Z", b"X")


if __name__ == "__main__":
    main()
