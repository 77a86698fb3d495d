"""Somebody else's server: its own routes and fields, its own ballots, and what it forgets."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from harness import foreign
from harness.capacity import study
from harness.capacity.stand import Stand
from harness.cli import pollstorm
from harness.database.connections import connect
from harness.database.foreign import read_foreign_ballots, require_source
from harness.errors import Exit, PlanError, ServiceError
from harness.foreign import aimed_at_target, modes_of
from harness.load.request import ForeignRequests, Target
from harness.modes.mode import Mode
from harness.plan import Limits, Plan, TargetPlan, Voters, plan_from
from harness.run_folder import TrialFolder
from harness.services.mariadb import MariadbServer
from harness.services.ports import free_port
from harness.services.processes import Supervisor, wait_until
from harness.vote import Outcome, Poll, mint
from tests.fake_site import FakeSite, Reply

PLAN = """
scenario = "foreign"
duration_s = 2.0
[arrivals]
trickle_per_s = 100.0
results_per_vote = 0.2
[target]
vote_path = "/stimme"
results_path = "/ergebnis"
content_type = "application/x-www-form-urlencoded"
body = "id={vote}&wahl={choice}&wer={voter}"
acknowledged = [303]
headers = {X-Key = "${POLLSTORM_TEST_KEY}", X-Other = "zqotherqz"}
"""
SECRETS = ("zqkeyqz", "zqotherqz")
TARGET = {
    "url": "http://127.0.0.1:1",
    "vote_path": "/stimme",
    "body": "id={vote}&wahl={choice}&wer={voter}",
    "acknowledged": [303],
    "headers": {"X-Test": "yes"},
}


@pytest.fixture
def server(supervisor: Supervisor, tmp_path: Path) -> Iterator[str]:
    port_file = tmp_path / "port"
    script = Path(__file__).with_name("foreign_server.py")
    files = (str(port_file), str(tmp_path / "votes.csv"))
    argv = [sys.executable, str(script), *files, SECRETS[0]]
    child = supervisor.spawn("foreign server", argv, log=tmp_path / "foreign.log")
    assert wait_until(lambda: port_file.is_file() and port_file.read_text() != "", 10)
    yield f"http://127.0.0.1:{port_file.read_text()}"
    child.stop(1)


def played(tmp_path: Path, *flags: str, verb: str = "run") -> Result:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    arguments = [str(plan), "--out", str(tmp_path / "run"), "--json", *flags]
    return CliRunner(env={"POLLSTORM_TEST_KEY": SECRETS[0]}).invoke(
        pollstorm, [verb, *arguments], catch_exceptions=False, standalone_mode=False
    )


@pytest.mark.services
def test_a_server_of_somebody_elses_is_loaded_and_every_forgotten_vote_is_found(
    server: str, tmp_path: Path
) -> None:
    ballots = str(tmp_path / "votes.csv")
    # The server does not know that it is to count each voter once.
    settings = ("limits.drain_s=1.0", "poll.once=true", "voters.votes_each=4")
    changes = [word for setting in settings for word in ("--set", setting)]
    played(tmp_path, "--target", server, "--ballots", ballots, *changes)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    accounts = result["modes"]["target"]["accounts"]
    kept = len((tmp_path / "votes.csv").read_text().splitlines()) - 1
    assert accounts["acknowledged"] == accounts["sent"] > 100
    assert accounts["counted"] == kept
    assert accounts["lost"] == accounts["sent"] - kept > 0
    assert result["verdict"]["votes"] == "lost"
    assert 0 < accounts["overvotes"] <= accounts["voters_counted"] <= accounts["voters"]
    assert result["exit_code"] == Exit.BROKEN_PROMISE
    assert (tmp_path / "run" / "index.html").is_file()
    written = b"".join(
        file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()
    )
    assert b"${POLLSTORM_TEST_KEY}" in written
    assert not [secret for secret in SECRETS if secret.encode() in written]


@pytest.mark.services
def test_without_its_ballots_nothing_is_said_about_its_votes(server: str, tmp_path: Path) -> None:
    found = played(tmp_path, "--target", server)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["verdict"]["votes"] == "unknown"
    assert "Its ballots were not given" in " ".join(result["verdict"]["reasons"])
    assert found.return_value == 3
    assert result["modes"]["target"]["latency_ms"]["p50"] > 0


@pytest.mark.services
def test_its_capacity_is_searched_by_what_can_be_seen_of_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ceiling(stand: Stand, _: Mode) -> None:
        stand.ceiling_per_s = 10_000.0

    monkeypatch.setattr(study, "STEP_S", 1.0)
    monkeypatch.setattr(study, "CONFIRM_S", 1.5)
    monkeypatch.setattr(Stand, "usable_per_s", 100.0)
    monkeypatch.setattr(Stand, "measure_ceiling", ceiling)
    found = played(tmp_path, "--target", server, "--budget", "60s", verb="capacity")
    result = json.loads((tmp_path / "run" / "capacity.json").read_text())
    mode = result["modes"]["target"]
    assert mode["capacity_per_s"] == {"lower": 100.0, "upper": None}
    assert (mode["limited_by"], mode["confirmed"]) == ("generator", True)
    assert (found.return_value, result["slo"]) == (Exit.OK, ["p99<250ms"])
    step = mode["steps"][-1]
    assert step["acknowledged_per_s"] > 50
    unknown = ("counted_p99_s", "deepest_backlog", "backlog_growth_per_s", "cpu_s_per_vote")
    assert {step[name] for name in unknown} == {None}
    assert "its own; without its ballots" in (tmp_path / "run" / "index.html").read_text()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://127.0.0.1", "give it as http"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://127.0.0.1:99999", "out of range"),
        ("http://127.0.0.1/votes", "plan's table"),
        ("http://me:secret@127.0.0.1", "plan's table"),
    ],
)
def test_what_is_no_server_s_address_is_refused(url: str, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        Target.from_url(url)


def test_requests_are_made_as_that_server_takes_them() -> None:
    server = plan_from({"scenario": "x", "target": TARGET}, "test").target
    requests = ForeignRequests(
        Target("127.0.0.1", 80), Poll("p", "?", ("a", "b")), Voters(), 1, server
    )
    vote = mint(300, 7)
    head, _, body = requests.vote(vote, 2).decode().partition("\r\n\r\n")
    assert body == f"id={vote:016x}&wahl=2&wer=v{vote:016x}"
    assert head.startswith("POST /stimme HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}" in head
    assert "X-Test: yes" in head
    assert requests.outcome_of(303) is Outcome.ACKNOWLEDGED
    assert requests.outcome_of(503) is Outcome.REFUSED
    assert requests.outcome_of(302) is Outcome.UNKNOWN


def test_a_plan_with_a_target_drives_it_alone_with_ids_of_its_own() -> None:
    plan = plan_from({"scenario": "x", "target": TARGET}, "test")
    aimed = [aimed_at_target(plan) for _ in range(8)]
    assert {each.modes for each in aimed} == {("target",)}
    assert len({each.voters.first_generator for each in aimed}) > 1
    assert [mode.name for mode in modes_of(aimed[0])] == ["target"]
    assert aimed_at_target(Plan(scenario="x")) == Plan(scenario="x")


def test_a_body_without_the_votes_id_is_refused() -> None:
    with pytest.raises(PlanError, match=r"\{vote\}"):
        plan_from({"scenario": "x", "target": TARGET | {"body": "wahl={choice}"}}, "test")


def test_troubles_of_services_are_refused_for_a_server_of_somebody_elses() -> None:
    fault = {"kind": "wipe", "at_s": 1.0}
    plan = plan_from({"scenario": "x", "target": TARGET, "faults": [fault]}, "test")
    with pytest.raises(PlanError, match="--no-faults"):
        modes_of(plan)


def test_a_server_that_is_not_this_machine_is_refused() -> None:
    elsewhere = Plan(scenario="x", target=TargetPlan(url="http://192.0.2.1"))
    with pytest.raises(PlanError, match="not this machine"):
        modes_of(elsewhere)


def test_ballots_are_those_of_our_generators_in_either_notation(tmp_path: Path) -> None:
    ours, other = mint(9, 3), mint(8, 3)
    file = tmp_path / "b.csv"
    file.write_text(f"vote,choice\n{ours:016x},2\n{ours:016x},2\n{other:016x},1\nnonsense,1\n")
    frame = read_foreign_ballots(str(file), frozenset({9}), 1.0)
    assert frame["vote"].tolist() == [ours, ours]
    assert frame["choice"].tolist() == [2, 2]
    file.write_text(f"number,choice\n{ours},2\n{other},1\nnonsense,1\n")
    assert read_foreign_ballots(str(file), frozenset({9}), 1.0)["vote"].tolist() == [ours]
    for nothing_yet in ("vote,choice\n", "number,choice\n"):
        file.write_text(nothing_yet)
        assert read_foreign_ballots(str(file), frozenset({9}), 1.0).empty


def test_no_digit_of_a_long_id_is_rounded_away_beside_one_that_is_none(tmp_path: Path) -> None:
    votes = [mint(64_999, 2**47 + number) for number in range(3)]
    file = tmp_path / "b.csv"
    rows = "".join(f"{vote},1\n" for vote in votes)
    file.write_text(f"number,choice\n,1\n{rows}{2**64},1\n")
    found = read_foreign_ballots(str(file), frozenset({64_999}), 1.0)
    assert found["vote"].tolist() == votes


@pytest.mark.services
def test_ballots_are_read_from_a_database_with_tables_of_its_own(mariadb: MariadbServer) -> None:
    votes = [mint(64_998, 2**47 + number) for number in range(3)]
    with connect(mariadb.url, 5) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE stimmen (kennung BIGINT UNSIGNED, wahl VARCHAR(3))")
        try:
            rows = [(vote, "2") for vote in votes]
            cursor.executemany("INSERT INTO stimmen VALUES (%s, %s)", [*rows, (None, "x")])
            for column in ("kennung AS vote", "HEX(kennung) AS vote", "kennung AS number"):
                source = f"{mariadb.url}&query=SELECT {column}, wahl+0 AS choice FROM stimmen # all"
                found = read_foreign_ballots(source, frozenset({64_998}), 5.0)
                assert sorted(found["vote"].tolist()) == votes
                assert found["choice"].tolist() == [2, 2, 2]
                require_source(source, 5.0)
            # Twice of one name, and much to do: as it is typed, and no row is made.
            slow = "SELECT kennung AS vote, wahl AS choice, SLEEP(9) AS x, 1 AS x FROM stimmen"
            require_source(f"{mariadb.url}&query={slow}", 5.0)
            for query, why in (("1 FROM nirgends", "nirgends"), ("kennung FROM stimmen", "choice")):
                with pytest.raises(PlanError, match=why):
                    require_source(f"{mariadb.url}&query=SELECT {query}", 5.0)
            with pytest.raises(PlanError, match="nirgends"):
                read_foreign_ballots(f"{mariadb.url}&query=SELECT+1+FROM+nirgends", frozenset(), 5)
        finally:
            cursor.execute("DROP TABLE stimmen")


def test_ballots_that_still_come_when_the_time_is_over_are_not_taken_for_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = plan_from({"scenario": "x", "target": TARGET | {"ballots": "x.csv"}}, "test")
    plan = msgspec.structs.replace(plan, limits=Limits(drain_s=0.0))
    monkeypatch.setattr(foreign, "_acknowledged", lambda _: {1, 2, 3})
    monkeypatch.setattr(foreign, "sleep", lambda _: None)
    for seen, complete in (([[1], [1]], True), ([[1], [1, 2]], False), ([[1, 2, 3]], True)):
        frames = iter(pd.DataFrame({"vote": votes}) for votes in seen)
        monkeypatch.setattr(foreign, "read_foreign_ballots", lambda *_, f=frames: next(f))
        clock = iter([0.0, *[0.0] * (len(seen) - 1), 1.0])
        monkeypatch.setattr(foreign, "monotonic", lambda c=clock: next(c))
        assert foreign._settled(plan, TrialFolder(tmp_path))[1] is complete


def test_a_server_that_is_down_is_one_line_and_no_run(tmp_path: Path) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=r"nobody answers \(Connection refused"):
        played(tmp_path, "--target", down)
    assert not (tmp_path / "run").exists()


@pytest.mark.services
def test_a_server_that_speaks_no_http_leaves_every_vote_open(
    serve: Callable[[Reply], FakeSite], tmp_path: Path
) -> None:
    site = serve(lambda *_: b"SSH-2.0-OpenSSH_9.2\r\n")
    body = '--set=target.body={"vote":"{vote}"}'
    url = f"http://127.0.0.1:{site.port}"
    found = played(tmp_path, "--target", url, "--duration", "1", body)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    accounts = result["modes"]["target"]["accounts"]
    assert accounts["acknowledged"] == accounts["refused"] == 0
    assert accounts["sent"] > 20
    assert result["verdict"]["votes"] == "unknown"
    assert "Its ballots were not given" in " ".join(result["verdict"]["reasons"])
    assert found.return_value == 3


@pytest.mark.parametrize("name", ["X-A\r\nX-B", "X: A", "", "X\u00e9"])
def test_a_header_that_would_break_the_request_is_refused(name: str) -> None:
    with pytest.raises(PlanError, match="headers"):
        plan_from({"scenario": "x", "target": TARGET | {"headers": {name: "yes"}}}, "test")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no such file"),
        ("vote\n1\n", "no column choice"),
        ("", "b.csv|no column"),
        (f"vote,choice,deliveries\n{mint(1, 1):016x},1,often\n", "deliveries must be"),
        (f"vote,choice\n{mint(1, 1):016x},1.5\n", "choice's number"),
    ],
)
def test_ballots_that_cannot_be_read_are_refused(
    content: str | None, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "b.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PlanError, match=why):
        read_foreign_ballots(str(file), frozenset({1}), 1.0)


def test_a_choice_that_is_no_number_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "b.csv"
    file.write_text(f"vote,choice\n{mint(1, 1):016x},yes\n")
    with pytest.raises(PlanError, match="choice's number"):
        read_foreign_ballots(str(file), frozenset({1}), 1.0)


def test_ballots_alone_and_an_address_without_a_query_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="--target"):
        played(tmp_path, "--ballots", "x.csv")
    with pytest.raises(PlanError, match="there is no query"):
        played(tmp_path, "--target", "http://127.0.0.1:1", "--ballots", "mysql://a@localhost/b")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("nowhere/votes.csv", "there is no folder .*nowhere;"),
        (".", "is no file"),
        ("wrong.csv", "no column choice"),
    ],
)
def test_ballots_that_cannot_be_read_later_are_refused_before_the_load(
    source: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong.csv").write_text("vote,wahl\n")
    with pytest.raises(PlanError, match=why):
        played(tmp_path, "--target", "http://127.0.0.1:1", "--ballots", str(tmp_path / source))
    assert not (tmp_path / "run").exists()


def test_a_database_that_does_not_answer_is_told_before_the_load(tmp_path: Path) -> None:
    source = f"mysql://me@127.0.0.1:{free_port()}/site?query=SELECT vote, choice FROM votes"
    with pytest.raises(PlanError, match="--ballots: Can't connect"):
        played(tmp_path, "--target", "http://127.0.0.1:1", "--ballots", source)


def test_a_file_of_ballots_may_still_have_to_come(tmp_path: Path) -> None:
    file = tmp_path / "votes.csv"
    for content in (None, "", "vote,choice\n", "number,choice,deliveries\n7,1,1\n"):
        if content is not None:
            file.write_text(content)
        require_source(str(file), 1.0)
