"""Three times as many votes as a small site can take, for half a minute.

    locust -f locustfiles/overload.py --host http://127.0.0.1:8000

The plan stands in the TOML file beside; `pollstorm run overload` plays it with services, ledger
and audit.
"""

from pathlib import Path

from harness.load.locustfile import scenario

Overload = scenario(Path(__file__).with_suffix(".toml"))
