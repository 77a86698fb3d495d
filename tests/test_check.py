"""`pollstorm check`: its flags, and how it says what it found: to people, to CI, to a history."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as Xml

import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from harness.cli import pollstorm
from harness.cli.check import margins_of, print_check
from harness.errors import Exit, Interrupted, PlanError
from harness.gate import history, versions
from harness.gate.check import Findings, judge
from harness.gate.outcome import CheckResult, ModeCheck, Side
from harness.gate.outputs import MOST_ANNOTATIONS, annotations, junit, markdown
from harness.gate.versions import Version, checked_out, working_copy
from harness.services.processes import Supervisor
from tests.checkouts import needs_checkout
from tests.findings import counts, duet, order


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(pollstorm, arguments, catch_exceptions=False, standalone_mode=False)


@pytest.fixture
def result() -> CheckResult:
    found = judge(
        {
            "ticket": Findings(counts(sql_statements=1), duet(0.2)),
            "direct": Findings(counts(), duet()),
        },
        order(),
    )
    return CheckResult(
        schema_version=1,
        command="pollstorm check --against main",
        started_utc="2026-01-01T00:00:00+00:00",
        took_s=100.0,
        baseline=Side(name="main", commit="abc1234"),
        candidate=Side(name="working copy", commit="def5678+"),
        modes=found,
    )


def test_what_is_known_when_a_check_is_interrupted_is_kept_and_not_called_passed(
    result: CheckResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a step's summary that cannot be written change what is said."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", f"{tmp_path}/none/summary.md")

    def growing(*_: object) -> Iterator[dict[str, ModeCheck]]:
        yield {"direct": result.modes["direct"]}
        raise Interrupted("interrupted\x1b by SIGINT")

    here = Version("working copy", "def5678", tmp_path)
    monkeypatch.setattr("harness.cli.check.check_versions", growing)
    monkeypatch.setattr("harness.cli.check.working_copy", lambda: here)
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match=f"by SIGINT; what is known .* in {out}"):
        invoked("check", "--calibrate", "--out", str(out))
    kept = CheckResult.from_json((out / "check.json").read_bytes())
    assert (list(kept.modes), kept.verdict) == (["direct"], "inconclusive")
    assert kept.modes["direct"].verdict == "passed"
    why = "It was stopped: interrupted\x1b by SIGINT."
    assert why in (out / "summary.md").read_text()
    assert Xml.fromstring((out / "junit.xml").read_bytes()).get("errors") == "1"
    assert annotations(kept) == [f"::warning title=pollstorm check::{why}"]


@pytest.mark.parametrize(
    ("flag", "name"), [("--history", "checks.jsonl"), ("--out", "out/check.json")]
)
def test_what_can_no_longer_be_written_does_not_hide_the_verdict(
    flag: str,
    name: str,
    result: CheckResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = {"--history": tmp_path / "checks.jsonl", "--out": tmp_path / "out"}
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"")

    def growing(*_: object) -> Iterator[dict[str, ModeCheck]]:
        file.unlink(missing_ok=True)
        file.mkdir()
        yield result.modes

    here = Version("working copy", "def5678", tmp_path)
    monkeypatch.setattr("harness.cli.check.check_versions", growing)
    monkeypatch.setattr("harness.cli.check.working_copy", lambda: here)
    told = invoked("check", "--calibrate", *(f"{key}={path}" for key, path in named.items()))
    assert told.return_value == Exit.BROKEN_PROMISE
    assert f"pollstorm: {flag} {named[flag]}: Is a directory" in told.output
    assert "Failed." in told.output


def test_nothing_of_an_earlier_check_is_taken_for_the_one_that_did_not_come_so_far(
    result: CheckResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object) -> Iterator[dict[str, ModeCheck]]:
        assert list(tmp_path.glob("*.*")) == []
        yield result.modes

    (tmp_path / "junit.xml").write_bytes(b"of the last one")
    monkeypatch.setattr("harness.cli.check.check_versions", begun)
    monkeypatch.setattr(
        "harness.cli.check.working_copy", lambda: Version("working copy", "def5678", tmp_path)
    )
    invoked("check", "--calibrate", "--out", str(tmp_path))
    assert len(list(tmp_path.glob("*.*"))) == 3


def test_one_failed_mode_fails_the_check(result: CheckResult) -> None:
    assert (result.verdict, result.exit_code) == ("failed", Exit.BROKEN_PROMISE)


def test_the_summary_names_every_figure_and_reason(result: CheckResult) -> None:
    text = markdown(result)
    for word in (
        "failed",
        "sql statements",
        "| direct | p50",
        "+1",
        "pollstorm check --against main",
    ):
        assert word in text
    assert all(reason in text for reason in result.modes["ticket"].reasons)


def test_the_table_has_every_figure_and_remark_in_80_columns(result: CheckResult) -> None:
    console = Console(width=80, file=StringIO())
    print_check(result, console)
    text = cast(StringIO, console.file).getvalue()
    assert "…" not in text
    for word in ("baseline", "candidate", "margin", "not worse", "advice", "lost votes", "ticket"):
        assert word in text


def test_junit_counts_its_own_failures(result: CheckResult) -> None:
    suite = Xml.fromstring(junit(result))
    assert suite.get("tests") == str(len(suite.findall("testcase")))
    failed = {
        case.get("name") for case in suite.findall("testcase") if case.find("failure") is not None
    }
    assert failed == {"sql_statements", "p50", "cpu", "verdict"}


def test_annotations_are_escaped_and_at_most_ten(result: CheckResult) -> None:
    lines = annotations(result)
    assert lines[0].startswith("::error title=pollstorm ticket::SQL statements per vote: 1")
    assert "%25" in "".join(lines)
    many = msgspec.structs.replace(result.modes["ticket"], reasons=("a\nb",) * 30)
    crowded = msgspec.structs.replace(result, modes={"ticket": many})
    assert annotations(crowded) == ["::error title=pollstorm ticket::a%0Ab"] * MOST_ANNOTATIONS


def test_a_history_grows_by_a_line_and_is_read_again(result: CheckResult, tmp_path: Path) -> None:
    file = tmp_path / "new" / "history.jsonl"
    history.append(file, result)
    history.append(file, result)
    assert history.read(file) == [result, result]
    file.write_text(file.read_text() + "{}\n")
    with pytest.raises(PlanError, match="line 3"):
        history.read(file)


def test_a_check_of_another_schema_is_named_so_and_read_no_further(
    result: CheckResult, tmp_path: Path
) -> None:
    file = tmp_path / "check.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(result, schema_version=2)))
    with pytest.raises(PlanError, match=r"check\.json is no check\.json: its schema version is 2"):
        invoked("check", "--baseline", str(file), "--out", str(tmp_path / "out"))
    with pytest.raises(PlanError, match="line 1: its schema version is 2"):
        history.read(file)


def test_a_history_that_cannot_be_written_is_refused_before_anything_is_played(
    tmp_path: Path,
) -> None:
    for place in (str(tmp_path), "/proc/checks.jsonl"):
        with pytest.raises(PlanError, match="--history"):
            invoked("check", "--calibrate", "--history", place, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_baseline_that_the_check_itself_would_replace_is_refused(
    result: CheckResult, tmp_path: Path
) -> None:
    file = tmp_path / "check.json"
    file.write_bytes(msgspec.json.encode(result))
    with pytest.raises(PlanError, match="keep a copy of it elsewhere"):
        invoked("check", "--baseline", str(file), "--out", str(tmp_path))
    with pytest.raises(PlanError, match="has no mode cached; it has ticket, direct"):
        invoked("check", "--baseline", str(file), "--modes", "cached", "--out", str(tmp_path / "o"))
    assert CheckResult.from_json(file.read_bytes()) == result


def test_a_baseline_whose_counts_are_not_all_there_is_refused(
    result: CheckResult, tmp_path: Path
) -> None:
    file = tmp_path / "baseline.json"
    modes = {name: msgspec.structs.replace(mode, counts={}) for name, mode in result.modes.items()}
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(result, modes=modes)))
    with pytest.raises(PlanError, match="its counts of direct are not all there"):
        invoked("check", "--baseline", str(file), "--out", str(tmp_path / "out"))


def test_outside_a_checkout_there_is_nothing_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions.harness, "__file__", str(tmp_path / "harness" / "__init__.py"))
    with pytest.raises(PlanError, match="run it from a clone"):
        invoked("check", "--calibrate", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_history_is_drawn_as_a_trend(result: CheckResult, tmp_path: Path) -> None:
    file = tmp_path / "checks.jsonl"
    for _ in range(3):
        history.append(file, result)
    found = invoked("report", str(file), "--out", str(tmp_path / "trend"))
    page = tmp_path / "trend" / "index.html"
    assert found.output.strip() == str(page)
    text = page.read_text()
    for words in ("3 checks", "Median latency", "Processor time", "def5678+", "SQL statements"):
        assert words in text
    assert (tmp_path / "trend" / "trend-p50.png").is_file()


def test_an_empty_history_has_no_trend(tmp_path: Path) -> None:
    file = tmp_path / "checks.jsonl"
    file.write_text("")
    with pytest.raises(PlanError, match="holds no check yet"):
        invoked("report", str(file))


def test_margins_are_read_with_their_units() -> None:
    assert margins_of(("p50=3%,sql_statements=1",))["p50"] == 0.03
    assert margins_of(("sql_statements=1",))["sql_statements"] == 1


@pytest.mark.parametrize(
    "text", ["p50", "p50=5", "sql_statements=5%", "p51=5%", "p50=-5%", "p50=%"]
)
def test_a_margin_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="--margin"):
        margins_of((text,))


@needs_checkout
def test_a_commit_is_checked_out_beside_the_working_copy(supervisor: Supervisor) -> None:
    here = working_copy()
    there = checked_out("HEAD", supervisor)
    assert there.commit == here.commit.removesuffix("+")
    assert (there.root / "harness" / "site" / "votes.py").is_file()
    assert there.root != here.root


@needs_checkout
@pytest.mark.parametrize("reference", ["no-such-branch", "--help", ""])
def test_an_unknown_commit_is_refused(reference: str, supervisor: Supervisor) -> None:
    with pytest.raises(PlanError, match="no such commit"):
        checked_out(reference, supervisor)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "give one of"),
        (["--against", "HEAD", "--calibrate"], "give one of"),
        (["--calibrate", "--modes", "tickt"], "did you mean 'ticket'"),
        (["--calibrate", "--modes", ","], "at least one"),
        (["--baseline", "missing.json"], "missing.json"),
        (["--baseline", __file__], "no check.json"),
        (["--baseline", "x", "--pairs", "40"], "--pairs: with --baseline only counts"),
        (["--baseline", "x", "--margin", "cpu=3%"], "--margin cpu: with --baseline only counts"),
    ],
)
def test_flags_that_make_no_sense_are_refused(arguments: list[str], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        invoked("check", *arguments)
