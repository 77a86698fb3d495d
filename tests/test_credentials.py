"""Passwords and headers: taken from the environment, sent where they belong, written nowhere."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.audit.examination import audit_run
from harness.cli import pollstorm
from harness.cli.run import repeat_command
from harness.credentials import masked_url, masked_value
from harness.errors import PlanError, ServiceError
from harness.foreign import modes_of
from harness.load.fleet import Fleet, LoadedSite
from harness.load.shard import Shard
from harness.plan import Plan, TargetPlan, Voters, plan_from
from harness.report.page import render
from harness.run_folder import RunFolder
from harness.services.processes import Supervisor
from harness.services.targets import Existing
from tests.histories import attempt, make_trial
from tests.test_certificates import V, overwritten

SECRET = "zqsecretqz"
HEADERS = {"X-Api-Key": SECRET, "X-Site.Name": "${SITE}", "Authorization": "Bearer ${TOKEN}"}
QUERY = "?query=SELECT id AS vote, choice FROM votes WHERE name = 'a:b@c'"
BALLOTS = f"mysql://me:{SECRET}@127.0.0.1/site{QUERY}"
GIVEN = TargetPlan(url="http://127.0.0.1:1", headers=HEADERS, ballots=BALLOTS)
NAMED = TargetPlan(
    url="http://127.0.0.1:1",
    headers={"X-Api-Key": "${API_KEY}"},
    ballots=f"mysql://me:${{DB_PASSWORD}}@127.0.0.1/site{QUERY}",
)


def plan_of(target: TargetPlan, **changes: Any) -> Plan:
    return Plan(scenario="secrets", modes=("classic",), target=target, **changes)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (BALLOTS, f"mysql://me:***@127.0.0.1/site{QUERY}"),
        ("mysql://me:se@cr/et?@h/x", "mysql://me:***@h/x"),
        ("--database=mysql://me:secret@h:1/x", "--database=mysql://me:***@h:1/x"),
        (NAMED.ballots, NAMED.ballots),
        *((same, same) for same in ("mysql://me@h:3306/x?query=SELECT '@'", "a:b@c.csv", "")),
    ],
)
def test_of_a_url_only_the_password_is_masked(url: str, masked: str) -> None:
    assert masked_url(url) == masked_url(masked) == masked


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (SECRET, "***"),
        ("${API_KEY}", "${API_KEY}"),
        ("Bearer ${TOKEN}", "Bearer ${TOKEN}"),
        (f"{SECRET}1 ${{TOKEN}}", "***"),
        (f"a=${{TOKEN}}; b={SECRET}", "***"),
    ],
)
def test_of_a_header_only_what_names_its_value_is_written(value: str, masked: str) -> None:
    assert masked_value(value) == masked


def test_a_run_without_its_secrets_is_audited_explained_and_reported_and_holds_none(
    tmp_path: Path,
) -> None:
    folder = RunFolder.create(tmp_path, plan_of(GIVEN), tmp_path / "run")
    ledger = [attempt(0, planned_ms=0, answered_after_ms=100)]
    trial = folder.trial("classic").path
    make_trial(trial, ledger, (), overwritten(), mode="classic", promises=False)
    command = repeat_command(["run", "x", "--ballots", BALLOTS])
    render(folder, audit_run(folder, command=command, started_utc=None, partial=False))
    for verb in (["audit", "run"], ["report", "run"], ["explain", "run", f"{V:016x}"]):
        arguments = [verb[0], str(tmp_path / verb[1]), *verb[2:]]
        told = CliRunner().invoke(
            pollstorm, arguments, catch_exceptions=False, standalone_mode=False
        )
        assert SECRET not in told.output
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert "***" in folder.page.read_text()
    assert folder.plan().target.headers == HEADERS | {"X-Api-Key": "***"}
    assert folder.plan().to_toml() == folder.plan_file.read_text()


def test_what_was_written_without_its_secrets_starts_no_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = RunFolder.create(tmp_path, plan_of(GIVEN), tmp_path / "run").plan()
    with pytest.raises(PlanError, match=r"^target\.headers\.X-Api-Key is \*\*\*, .* write it anew"):
        modes_of(plan)
    monkeypatch.setenv("API_KEY", "k")
    with pytest.raises(PlanError, match=r"^target\.ballots: the password is \*\*\*, "):
        modes_of(plan_of(TargetPlan(url=GIVEN.url, ballots=plan.target.ballots)))
    with pytest.raises(PlanError, match=r"^--database: the password is \*\*\*, "):
        Existing((), "mysql://me:***@127.0.0.1/x").require_allowed(())


def test_what_is_named_comes_from_the_environment_and_only_its_name_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of(NAMED)
    with pytest.raises(PlanError, match=r"^target\.headers\.X-Api-Key: the environment has no API"):
        modes_of(plan)
    monkeypatch.setenv("API_KEY", SECRET)
    monkeypatch.setenv("DB_PASSWORD", "p@ss/${API_KEY}")
    told = plan.with_secrets().target
    assert told.headers == {"X-Api-Key": SECRET}
    assert told.ballots == f"mysql://me:p%40ss%2F%24%7BAPI_KEY%7D@127.0.0.1/site{QUERY}"
    existing = Existing((), "mysql://me:${DB_PASSWORD}@h/x").with_secrets()
    assert existing.database == "mysql://me:p%40ss%2F%24%7BAPI_KEY%7D@h/x"
    assert plan_from({"scenario": "x"}, "test").with_secrets() == Plan(scenario="x")
    assert SECRET not in plan.to_toml()
    assert "${API_KEY}" in plan.to_toml()
    monkeypatch.setenv("API_KEY", "two\r\nlines")
    with pytest.raises(PlanError, match=r"^the environment: target\.headers"):
        plan.with_secrets()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--set", f"target.headers.X={SECRET}"], "--set 'target.headers.X=\"***\"'"),
        ([f"--set=target.headers={{X = '{SECRET}'}}"], '\'--set=target.headers={"X" = "***"}\''),
        (
            [f"target={{headers = {{X.Y = '{SECRET}'}}}}"],
            """'target={"headers" = {"X" = {"Y" = "***"}}}'""",
        ),
        (["--set", "target.headers.X=${X}"], "--set 'target.headers.X=${X}'"),
        (["--set", f"target.ballots={BALLOTS}"], None),
        (["--set", "seed=3", "a=b"], "--set seed=3 a=b"),
    ],
)
def test_the_command_that_repeats_a_run_has_no_secret_of_a_setting(
    words: list[str], shown: str | None
) -> None:
    command = repeat_command(["run", *words])
    assert SECRET not in command
    assert shown is None or command == f"pollstorm run {shown}"


def test_workers_are_told_the_headers_but_not_where_the_ballots_are(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Shard] = []

    def spawn(_: Fleet, shards: tuple[Shard, ...], *__: object) -> None:
        sent.extend(shards)
        raise ServiceError("that is enough")

    monkeypatch.setattr(Fleet, "_spawn_master", spawn)
    plan = plan_of(GIVEN, voters=Voters(master="127.0.0.1:5557", generators=2))
    with pytest.raises(ServiceError, match="enough"):
        Fleet(plan, supervisor, tmp_path, LoadedSite("127.0.0.1", 1, tmp_path)).run()
    assert [shard.plan.target.headers for shard in sent] == [HEADERS, HEADERS]
    assert {shard.plan.target.ballots for shard in sent} == {""}
