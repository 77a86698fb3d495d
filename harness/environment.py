"""What a run ran on: `environment.json`, so that two runs can be compared honestly."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from harness import __version__

PACKAGES: Final = ("locust", "granian", "falcon", "pymemcache", "pymysql", "duckdb", "numpy")
ANSWER_S: Final = 10.0  # printing a version takes milliseconds


def describe_environment() -> dict[str, Any]:
    """Versions and the machine's size; no host name, no path, no user."""
    return {
        "pollstorm": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "memcached": _first_line("memcached", "--version"),
        "mariadb": _first_line("mariadbd", "--no-defaults", "--version"),
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _first_line(*command: str) -> str:
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "not found"
    return answer.stdout.strip().partition("\n")[0]
