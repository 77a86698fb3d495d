"""The poll is promoted on air: from one second to the next, everybody.

    locust -f locustfiles/on_air_promotion.py --host http://127.0.0.1:8000

The plan stands in the TOML file beside; `pollstorm run on-air-promotion` plays it with services,
ledger and audit.
"""

from pathlib import Path

from harness.load.locustfile import scenario

OnAirPromotion = scenario(Path(__file__).with_suffix(".toml"))
