"""Traffic that really came: what is read from logs and tables, and what is refused."""

import gzip
import tomllib
from pathlib import Path

import pytest

from harness.cli.capacity import forecast_of
from harness.cli.traffic import traffic_of
from harness.errors import PlanError
from harness.load.arrivals import expected_votes
from harness.load.traffic import MOST_BINS, Traffic, read_traffic, replaying
from harness.plan import Plan, plan_from

LOG = """\
192.0.2.1 - - [10/Oct/2026:13:55:36 +0000] "POST /polls/x/votes HTTP/1.1" 201 23 "-" "browser"
192.0.2.2 - eve [10/Oct/2026:13:55:36 +0000] "GET /polls/x/results HTTP/1.1" 200 2326
192.0.2.3 - - [10/Oct/2026:15:55:38 +0200] "POST /polls/x/votes HTTP/1.1" 201 23
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text(LOG)
    return path


def test_an_access_log_is_counted_second_by_second_whatever_its_time_zones(log: Path) -> None:
    assert read_traffic(log) == Traffic(1.0, (2.0, 0.0, 1.0), 2.0)


def test_only_requests_that_match_are_counted(log: Path) -> None:
    assert read_traffic(log, "^POST .*/votes") == Traffic(1.0, (1.0, 0.0, 1.0), 1.0)


def test_a_packed_log_is_the_same(log: Path, tmp_path: Path) -> None:
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(LOG.encode()))
    assert read_traffic(packed) == read_traffic(log)


@pytest.mark.parametrize(
    "rows",
    [
        "time,count\n2026-10-10T13:00:00Z,5\n2026-10-10T13:00:03Z,7.5\n",
        "1000,5\n1003,7.5\n",
        "1003,7.5\n1000,2\n1000.9,3\n",
        '"time","count"\r\n"1000", "5"\r\n\r\n"1003",7.5\r\n',
    ],
)
def test_a_table_of_times_and_counts_with_or_without_a_header(rows: str, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(rows)
    assert read_traffic(path) == Traffic(1.0, (5.0, 0.0, 0.0, 7.5), 7.5)


def test_a_long_log_gets_longer_bins_and_loses_no_vote(tmp_path: Path) -> None:
    path = tmp_path / "year.csv"
    path.write_text("".join(f"{hour * 3600},10\n" for hour in range(24 * 365)))
    traffic = read_traffic(path)
    assert len(traffic.votes) <= MOST_BINS
    assert sum(traffic.votes) == 10 * 24 * 365
    assert traffic.duration_s == pytest.approx(3600 * 24 * 365, rel=0.001)


def test_the_busiest_second_of_a_long_log_is_not_lost_in_its_bin(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text("".join(f"{10 * n},1\n" for n in range(8640)) + "43201,1200\n")
    flags = {"traffic": path, "match": None, "scale": 2.0}
    traffic = traffic_of(flags)
    assert max(traffic.votes) / traffic.bin_s < 250
    assert traffic.busiest_per_s == forecast_of(None, flags) == 2400.0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("access.log", LOG.encode() * 10 + b"-- rotated --\n\xff\n"),
        ("votes.csv", b"time,count\n" + b"1000,1\n" * 30 + b"1000,1,more\n1000\n1e18,1\n"),
    ],
)
def test_a_few_strange_lines_are_left_out(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert sum(read_traffic(path).votes) == 30


@pytest.mark.parametrize(
    ("name", "content", "match", "why"),
    [
        ("access.log", "nothing of a log\n", None, "1 of 1 lines cannot be read"),
        ("access.log", "", None, "access.log is empty"),
        ("access.log", LOG, "DELETE", "no request matches 'DELETE'"),
        ("access.log", LOG, "(((", "--match '\\(\\(\\(' is no regular expression: missing \\)"),
        ("access.log", "\x00\xff\n" * 9, None, "9 of 9 lines"),
        ("access.log", LOG + LOG.replace("browser", "\udcfcber"), None, "1 of 6 lines"),
        ("votes.csv", "10:00,many\n", None, "a time and a count"),
        ("votes.csv", "1000,-5\n", None, "1 of 1 lines"),
        ("votes.csv", "1000,inf\n1001,nan\n", None, "2 of 2 lines"),
        ("votes.csv", "1000,0\n1001,0\n", None, "all of its counts are 0"),
        ("votes.csv", "1,1\n99999999999,1\n", None, "3171 years apart"),
        ("votes.csv", "1000,5\n", "POST", "no requests"),
        ("votes.csv.gz", "1000,5\n", None, "votes.csv.gz"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(
    name: str, content: str, match: str | None, why: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(PlanError, match=why):
        read_traffic(path, match)


def test_a_missing_file_is_refused_and_so_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such file"):
        read_traffic(tmp_path / "none.log")
    with pytest.raises(PlanError, match="is no file"):
        read_traffic(tmp_path)


def test_more_votes_than_anybody_plays_are_refused_by_the_name_of_their_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("1000,1e300\n")
    with pytest.raises(PlanError, match=r"votes\.csv: 1e\+300 votes in 1 s; no more"):
        traffic_of({"traffic": path, "match": None, "scale": None})


def test_a_plan_replays_it_scaled_and_can_be_written_and_read_again(log: Path) -> None:
    traffic = traffic_of({"traffic": log, "match": None, "scale": 50.0})
    plan = replaying(Plan(scenario="test"), traffic)
    assert plan.duration_s == 3.0
    assert expected_votes(plan) == pytest.approx(150.0, rel=0.001)
    assert traffic.busiest_per_s == 100.0
    assert plan_from(tomllib.loads(plan.to_toml()), "test") == plan


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_must_be_a_number_above_zero(log: Path, scale: float) -> None:
    with pytest.raises(PlanError, match="--scale"):
        traffic_of({"traffic": log, "match": None, "scale": scale})


def test_a_replay_without_votes_is_no_plan() -> None:
    with pytest.raises(PlanError, match="votes_per_bin"):
        plan_from({"scenario": "test", "arrivals": {"curve": "replay"}}, "test")
