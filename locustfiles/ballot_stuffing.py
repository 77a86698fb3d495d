"""Ballot stuffing: one voter, one vote, and voters who try to cast four of them at once.

    locust -f locustfiles/ballot_stuffing.py --host http://127.0.0.1:8000

The plan stands in the TOML file beside; `pollstorm run ballot-stuffing` plays it with services,
ledger and audit.
"""

from pathlib import Path

from harness.load.locustfile import scenario

BallotStuffing = scenario(Path(__file__).with_suffix(".toml"))
