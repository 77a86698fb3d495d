"""What a site says of itself: answers counted, and what is under way."""

import threading
from pathlib import Path

import falcon.testing
import pytest

from harness.modes.mode import Answer
from harness.plan import Site
from harness.site.app import create_app, threads_of
from harness.site.metrics import SPARE_ROWS, in_flight
from tests.documented import DocumentedClient
from tests.scripted_mode import GOOD, Scripted, post
from tests.site_with_fake_mode import deployment


@pytest.fixture
def mode() -> Scripted:
    return Scripted()


@pytest.fixture
def site(tmp_path: Path, mode: Scripted) -> falcon.testing.TestClient:
    return DocumentedClient(create_app(deployment(tmp_path), mode))


def test_metrics_count_each_answer_and_what_is_under_way(
    site: falcon.testing.TestClient, mode: Scripted, tmp_path: Path
) -> None:
    seen: list[float] = []
    mode.while_accepting = lambda: seen.append(in_flight(tmp_path))
    post(site, GOOD)
    mode.accepts = Answer.UNKNOWN
    post(site, GOOD)
    post(site, b"")
    site.simulate_get("/polls/town-hall/results")
    page = site.simulate_get("/metrics").text
    for line in (
        'pollstorm_requests_total{kind="vote",status="201"} 1.0',
        'pollstorm_requests_total{kind="vote",status="504"} 1.0',
        'pollstorm_requests_total{kind="vote",status="422"} 1.0',
        'pollstorm_requests_total{kind="results",status="200"} 1.0',
        'pollstorm_request_seconds_bucket{kind="vote",le="+Inf"} 3.0',
        "pollstorm_in_flight 0.0",
    ):
        assert line in page
    assert seen == [1.0, 1.0]
    assert in_flight(tmp_path) == 0.0


def test_a_dead_workers_requests_are_counted_but_no_longer_under_way(
    site: falcon.testing.TestClient, mode: Scripted, tmp_path: Path
) -> None:
    page = next((tmp_path / "metrics").iterdir())
    killed_at = bytearray()
    mode.while_accepting = lambda: killed_at.extend(page.read_bytes())
    post(site, GOOD)
    post(site, GOOD)
    dead = tmp_path / "dead"
    (dead / "metrics").mkdir(parents=True)
    # As SIGKILL leaves it: one request answered, one in flight, and nobody holds the lock.
    (dead / "metrics" / page.name).write_bytes(killed_at[len(killed_at) // 2 :])
    successor = falcon.testing.TestClient(create_app(deployment(dead), mode))
    assert in_flight(dead) == 0.0
    assert 'kind="vote",status="201"} 1.0' in successor.simulate_get("/metrics").text


def test_a_threads_row_goes_to_the_next_one(site: falcon.testing.TestClient) -> None:
    rows = threads_of(Site(threads=4)) + SPARE_ROWS
    for _ in range(rows + 1):
        thread = threading.Thread(target=post, args=(site, GOOD))
        thread.start()
        thread.join()
    assert f'status="201"}} {rows + 1:.1f}' in site.simulate_get("/metrics").text


def test_in_flight_is_zero_where_no_site_ever_was(tmp_path: Path) -> None:
    assert in_flight(tmp_path) == 0.0
