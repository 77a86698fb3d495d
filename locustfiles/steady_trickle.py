"""A steady trickle of votes, as on any ordinary day.

    locust -f locustfiles/steady_trickle.py --host http://127.0.0.1:8000

The plan stands in the TOML file beside; `pollstorm run steady-trickle` plays it with services,
ledger and audit.
"""

from pathlib import Path

from harness.load.locustfile import scenario

SteadyTrickle = scenario(Path(__file__).with_suffix(".toml"))
