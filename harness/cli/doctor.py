"""`pollstorm doctor`: what is missing on this machine, and what to do about it."""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import Exit
from harness.services.programs import (
    CHROMIUM,
    MARIADB_INSTALL_DB,
    MARIADBD,
    MEMCACHED,
    Program,
    clean_environment,
)

PYTHON: Final = (3, 11)
META_COMMANDS: Final = (1, 6)  # the memcached that brought them; the journal needs their CAS
FREE_BYTES: Final = 2 * 2**30  # a run's data folder, 400 MiB a mode, and room for its records
CORES: Final = 2  # one for the load generator alone
OPEN_FILES: Final = 8192  # one socket for each of some thousand voters, and as many in the site
VERSION_LIMIT_S: Final = 10.0  # printing a version takes milliseconds

EXAMPLES = """\b
Examples:
  pollstorm doctor
  pollstorm doctor | grep -v ^ok
"""


class State(Enum):
    """What a finding means for a run."""

    OK = "ok"
    WEAK = "weak"  # a run works, and its figures or a test suffer
    MISSING = "missing"  # no run is possible


class Finding(NamedTuple):
    """One thing looked at: what there is, and what to do if that is not enough."""

    state: State
    subject: str
    found: str
    advice: str = ""


@click.command(epilog=EXAMPLES)
def doctor() -> int:
    """Say what is missing on this machine and what to do. Exit code 1 if no run is possible."""
    findings = examine()
    print_findings(findings, Console())
    possible = all(finding.state is not State.MISSING for finding in findings)
    return Exit.OK if possible else Exit.FAILED


def examine() -> list[Finding]:
    """Everything a run stands on, what is needed first."""
    return [
        _python(),
        _memcached(),
        _present(MARIADBD),
        _present(MARIADB_INSTALL_DB),
        _disk(),
        _cores(),
        _open_files(),
        _chromium(),
    ]


def print_findings(findings: list[Finding], console: Console) -> None:
    """A table on a terminal; elsewhere one line each, the state first."""
    if not console.is_terminal:
        for f in findings:
            advice = f": {f.advice}" if f.advice else ""
            click.echo(f"{f.state.value} {f.subject}: {f.found}{advice}")
        return
    colours = {State.OK: "green", State.WEAK: "yellow", State.MISSING: "red"}
    table = Table("", "what", "found", "what to do")
    for f in findings:
        state = Text(f.state.value, style=colours[f.state])
        table.add_row(state, f.subject, Text(f.found), Text(f.advice))
    console.print(table)


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info >= PYTHON:
        return Finding(State.OK, "Python", found)
    return Finding(State.MISSING, "Python", found, "install Python 3.11 or later")


def _memcached() -> Finding:
    present = _present(MEMCACHED)
    version = re.search(r"(\d+)\.(\d+)", present.found)
    if present.state is not State.OK:
        return present
    if version and tuple(map(int, version.groups())) >= META_COMMANDS:
        return present
    return present._replace(state=State.MISSING, advice="install memcached 1.6 or later")


def _present(program: Program) -> Finding:
    """Whether the program is there; with its version, if it is one that tells."""
    path = program.find()
    if path is None:
        advice = f"apt-get install {program.package}"
        return Finding(State.MISSING, program.name, "not found", advice)
    if program is MARIADB_INSTALL_DB:
        return Finding(State.OK, program.name, path)  # it has no --version
    try:
        answer = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_LIMIT_S,
            env=clean_environment(),
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        advice = f"reinstall the package {program.package}"
        return Finding(State.MISSING, program.name, f"{path} does not run: {error}", advice)
    return Finding(State.OK, program.name, answer.stdout.strip().partition("\n")[0])


def _disk() -> Finding:
    places = {Path.cwd(), Path(tempfile.gettempdir())}
    free, place = min((shutil.disk_usage(place).free, place) for place in places)
    found = f"{free / 2**30:.1f} GiB free in {place}"
    if free >= FREE_BYTES:
        return Finding(State.OK, "disk", found)
    return Finding(State.WEAK, "disk", found, f"make room: {FREE_BYTES / 2**30:g} GiB will do")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    if cores >= CORES:
        return Finding(State.OK, "cores", str(cores))
    advice = "measure on two or more: the generator competes with the site"
    return Finding(State.WEAK, "cores", str(cores), advice)


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= OPEN_FILES:
        return Finding(State.OK, "open files", "unlimited" if soft == unlimited else str(soft))
    raisable = hard == unlimited or hard >= OPEN_FILES
    advice = f"`ulimit -n {OPEN_FILES}`, or fewer voters and threads" + (
        "" if raisable else " (only root may raise it here)"
    )
    return Finding(State.WEAK, "open files", str(soft), advice)


def _chromium() -> Finding:
    if path := CHROMIUM.find():
        return Finding(State.OK, CHROMIUM.name, path)
    advice = f"apt-get install {CHROMIUM.package}; only tests that look at pages need it"
    return Finding(State.WEAK, CHROMIUM.name, "not found", advice)
