"""The two versions of the project that a check compares, each as a folder."""

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import harness
from harness.errors import PlanError, RecordingError
from harness.services.processes import Supervisor

GIT_LIMIT_S: Final = 60.0  # an archive of a project this size takes well under a second


class Version(NamedTuple):
    """A version: what the user calls it, its commit, and where it lies."""

    name: str
    commit: str  # abbreviated; with + behind it if there are uncommitted changes
    root: Path


def working_copy() -> Version:
    """The version that runs now, as it lies on disk. Raises PlanError outside a git checkout."""
    root = Path(harness.__file__).parent.parent
    try:
        _git(root, "rev-parse", "--git-dir")
    except PlanError as error:
        raise PlanError(
            f"{error}; a check compares versions of a git checkout: run it from a clone, with the "
            "packages that its `make setup` installs"
        ) from None
    commit = _git(root, "rev-parse", "--short", "HEAD").decode().strip()
    changed = _git(root, "status", "--porcelain", "--", "harness").strip()
    return Version("working copy", commit + ("+" if changed else ""), root)


def checked_out(reference: str, supervisor: Supervisor) -> Version:
    """A commit's tree in a temporary folder, gone with the supervisor. Raises PlanError.

    The user's repository and its list of worktrees stay as they are.
    """
    root = working_copy().root
    try:
        commit = _git(
            root, "rev-parse", "--short", "--verify", "--end-of-options", f"{reference}^{{commit}}"
        )
    except PlanError:
        shallow = _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"
        hint = "this clone is shallow, `git fetch --unshallow` brings the rest"
        raise PlanError(
            f"--against {reference}: no such commit, branch or tag in {root}; "
            + (hint if shallow else "`git log` has them")
        ) from None
    folder = supervisor.temporary_directory()
    archive = _git(root, "archive", commit.decode().strip())
    done = subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, capture_output=True)
    if done.returncode:
        raise RecordingError(f"{reference} cannot be unpacked into {folder}: {_last(done.stderr)}")
    if not (folder / "harness" / "cli" / "up.py").is_file():
        raise PlanError(f"--against {reference}: that version has no `pollstorm up` to start it by")
    return Version(reference, commit.decode().strip(), folder)


def _git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, timeout=GIT_LIMIT_S
        )
    except FileNotFoundError:
        raise PlanError("git is not installed; `apt-get install git` brings it") from None
    except subprocess.TimeoutExpired:
        raise PlanError(f"git {arguments[0]} took more than {GIT_LIMIT_S:g} s in {root}") from None
    if done.returncode:
        raise PlanError(f"{root}: git {arguments[0]}: {_last(done.stderr)}")
    return done.stdout


def _last(stderr: bytes) -> str:
    """The last line of what a command complained."""
    return next(reversed(stderr.decode(errors="replace").strip().splitlines()), "it failed")
