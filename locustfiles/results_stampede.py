"""The result is worth more than the vote: many readers for each voter.

    locust -f locustfiles/results_stampede.py --host http://127.0.0.1:8000

The plan stands in the TOML file beside; `pollstorm run results-stampede` plays it with services,
ledger and audit.
"""

from pathlib import Path

from harness.load.locustfile import scenario

ResultsStampede = scenario(Path(__file__).with_suffix(".toml"))
