"""Whether the tests run in a git checkout; a source archive has no commits to compare with."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _is_checkout() -> bool:
    try:
        argv = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        return subprocess.run(argv, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


needs_checkout = pytest.mark.skipif(not _is_checkout(), reason="this is no git checkout")
