"""The controversial poll: a trickle, then everybody, then it ebbs away.

    locust -f locustfiles/controversial_poll.py --host http://127.0.0.1:8000

The plan stands in the TOML file beside; `pollstorm run controversial-poll` plays it with services,
ledger and audit.
"""

from pathlib import Path

from harness.load.locustfile import scenario

ControversialPoll = scenario(Path(__file__).with_suffix(".toml"))
