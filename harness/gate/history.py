"""The history of checks: a line of JSON each, appended, never rewritten."""

import fcntl
from pathlib import Path

import msgspec

from harness.errors import PlanError
from harness.gate.outcome import CheckResult


def require_writable(path: Path) -> None:
    """Raises PlanError when a check cannot be added there: asked before it is played."""
    _write(path, b"")


def append(path: Path, result: CheckResult) -> None:
    """Add the check. Raises PlanError when the file cannot be written."""
    _write(path, msgspec.json.encode(result) + b"\n")


def _write(path: Path, line: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two checks may end at once
            file.write(line)
    except OSError as error:
        raise PlanError(
            f"--history {path}: {error.strerror}; name a file in a folder of yours"
        ) from error


def read(path: Path) -> list[CheckResult]:
    """All checks, oldest first. Raises PlanError that names the line that is none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found.append(CheckResult.from_json(line))
            except ValueError as error:
                raise PlanError(f"{path}, line {number}: {error}") from error
    return found
