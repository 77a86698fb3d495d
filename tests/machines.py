"""Machines beside this one: network namespaces, each with a cable to us and a clock of its own.

They are gone when the block ends, with all that runs in them, whatever happened.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

NETWORK = "198.18"  # RFC 2544 keeps it for tests of networks
AGES_S = (500_000, -60)  # a machine that was booted days before ours, and one a minute after
LIMIT_S = 10.0  # for a command that takes milliseconds


class Machine(NamedTuple):
    """One of them; `address` is ours at its cable's end."""

    name: str
    cable: str
    address: str
    age_s: int

    def command(self, argv: Sequence[str]) -> list[str]:
        """What starts a program there."""
        clock = ["unshare", "--time", "--monotonic", str(self.age_s)] if _has_clocks() else []
        return ["ip", "netns", "exec", self.name, *clock, *argv]

    def cut(self) -> None:
        """Pull its cable out."""
        _do("ip", "link", "set", self.cable, "down")


@contextmanager
def machines() -> Iterator[tuple[Machine, ...]]:
    """Two of them. Skips the test where they cannot be had."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("network namespaces take root's rights and iproute2")
    made: list[Machine] = []
    try:
        for number, age_s in enumerate(AGES_S):
            block = f"{NETWORK}.{os.getpid() % 256}"
            name = f"pollstorm-{os.getpid()}-{number}"
            machine = Machine(name, f"ps{os.getpid()}-{number}", f"{block}.{4 * number + 1}", age_s)
            made.append(machine)
            try:
                _connect(machine, f"{block}.{4 * number + 2}")
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield tuple(made)
    finally:
        for machine in made:
            _remove(machine)


def _connect(machine: Machine, address: str) -> None:
    inside = ("ip", "-n", machine.name)
    _do("ip", "netns", "add", machine.name)
    _do("ip", "link", "add", machine.cable, "type", "veth", "peer", "eth0", "netns", machine.name)
    _do("ip", "addr", "add", f"{machine.address}/30", "dev", machine.cable)
    _do("ip", "link", "set", machine.cable, "up")
    _do(*inside, "addr", "add", f"{address}/30", "dev", "eth0")
    _do(*inside, "link", "set", "lo", "up")
    _do(*inside, "link", "set", "eth0", "up")
    _do(*inside, "route", "add", "default", "via", machine.address)


def _remove(machine: Machine) -> None:
    """The processes first: a namespace lives as long as one of them."""
    found = subprocess.run(
        ["ip", "netns", "pids", machine.name], capture_output=True, check=False, timeout=LIMIT_S
    )
    for pid in found.stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue  # it went with its parent
    for what in (("link", "del", machine.cable), ("netns", "del", machine.name)):
        subprocess.run(["ip", *what], capture_output=True, check=False, timeout=LIMIT_S)


def _do(*argv: str) -> None:
    subprocess.run(argv, capture_output=True, check=True, timeout=LIMIT_S)


def _has_clocks() -> bool:
    return Path("/proc/self/ns/time").exists() and shutil.which("unshare") is not None
