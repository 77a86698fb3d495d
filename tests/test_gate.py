"""The gate: what fails a check, what leaves it open, and how it says so."""

import math
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from random import Random
from typing import cast
from xml.etree import ElementTree as Xml

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from harness.cli import pollstorm
from harness.cli.check import margins_of, print_check
from harness.errors import Exit, Interrupted, PlanError
from harness.gate import history, versions
from harness.gate.check import MARGINS, Findings, Order, judge
from harness.gate.duet import SIDES, Duet, Slices, paired, pooled, sliced
from harness.gate.outcome import CheckResult, Counts, ModeCheck, Side, Votes
from harness.gate.outputs import MOST_ANNOTATIONS, annotations, junit, markdown, rows
from harness.gate.versions import Version, checked_out, working_copy
from harness.history.ledger import LEDGER_DTYPE
from harness.services.processes import Supervisor
from tests.checkouts import needs_checkout

COUNTS = Counts(
    memcached_commands=3,
    memcached_round_trips=2,
    sql_statements=0,
    sql_round_trips=0,
    votes=Votes(sent=251, acknowledged=251, lost=0, doubled=0),
)
KEPT = Votes(sent=8000, acknowledged=8000, lost=0, doubled=0)
STARTS = 8


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(pollstorm, arguments, catch_exceptions=False, standalone_mode=False)


def order(**margins: float) -> Order:
    return Order(["ticket"], 40, 200.0, MARGINS | margins, seed=1, starts=STARTS)


def duet(
    slower: float = 0.0, *, noise: float = 0.01, doubts: tuple[str, ...] = (), starts: int = STARTS
) -> Duet:
    random = Random(1)
    played = []
    for _ in range(starts):
        slices = {side: Slices([], [], []) for side in SIDES}
        for _ in range(5):
            machine = random.uniform(1.0, 2.0)
            for side in SIDES:
                factor = 1 + slower if side == "candidate" else 1.0
                for figure in slices[side]:
                    figure.append(machine * factor * random.lognormvariate(0, noise))
        played.append(slices)
    return Duet(tuple(played), dict.fromkeys(SIDES, KEPT), doubts)


def of_candidate(votes: Votes) -> Duet:
    return duet()._replace(votes={"baseline": KEPT, "candidate": votes})


def judged(found: Findings, mode: str = "ticket", **margins: float) -> ModeCheck:
    return judge({mode: found}, order(**margins))[mode]


def counts(**changes: float | Votes) -> dict[str, Counts]:
    return {"baseline": COUNTS, "candidate": msgspec.structs.replace(COUNTS, **changes)}


def test_the_same_version_passes() -> None:
    found = judged(Findings(counts(), duet()))
    assert (found.verdict, found.reasons) == ("passed", ())


def test_a_single_command_more_per_vote_fails_unless_it_is_put_up_with() -> None:
    found = judged(Findings(counts(memcached_commands=4), duet()))
    assert found.verdict == "failed"
    assert found.reasons == ("Memcached commands per vote: 4, 3 before.",)
    allowed = judged(Findings(counts(memcached_commands=4), duet()), memcached_commands=1)
    assert allowed.verdict == "passed"


def test_a_command_less_is_no_failure() -> None:
    assert judged(Findings(counts(memcached_commands=2), duet())).verdict == "passed"


def test_ten_per_cent_slower_fails_and_says_by_how_much() -> None:
    found = judged(Findings(counts(), duet(0.10)))
    assert found.verdict == "failed"
    assert any(reason.startswith("The median latency is +") for reason in found.reasons)
    assert found.timed["p50"].change == pytest.approx(0.10, abs=0.02)


def test_a_p99_that_grew_is_advice_only() -> None:
    each = duet()
    starts = [
        start | {"candidate": start["candidate"]._replace(p99_ms=[9.0] * 5)}
        for start in each.starts
    ]
    found = judged(Findings(counts(), each._replace(starts=tuple(starts))))
    assert (found.verdict, found.timed["p99"].judgement) == ("passed", "worse")
    assert not found.timed["p99"].decides


def test_noise_beyond_the_margin_is_inconclusive() -> None:
    found = judged(Findings(counts(), duet(noise=0.3)))
    assert found.verdict == "inconclusive"
    assert "too uncertain" in found.reasons[0]


def test_a_starved_generator_is_inconclusive_but_exact_counts_still_fail() -> None:
    for slower in (0.0, 0.2):  # whatever it measured
        starved = duet(slower, doubts=("The load generator was starved.",))
        found = judged(Findings(counts(), starved))
        assert (found.verdict, found.timed) == ("inconclusive", {})
    assert judged(Findings(counts(sql_statements=1), starved)).verdict == "failed"


def test_a_lost_vote_fails_a_mode_that_promises_and_is_told_of_one_that_does_not() -> None:
    lossy = of_candidate(Votes(sent=9, acknowledged=9, lost=2, doubled=0))
    assert judged(Findings(counts(), lossy)).reasons == ("2 acknowledged votes were lost.",)
    assert judged(Findings(counts(), lossy), mode="classic").verdict == "passed"


@pytest.mark.parametrize("mode", ["ticket", "classic"])
def test_a_version_that_refuses_what_the_other_takes_is_worse_however_quick_it_is(
    mode: str,
) -> None:
    refusing = of_candidate(Votes(sent=8000, acknowledged=7900, lost=0, doubled=0))
    found = judged(Findings(counts(), refusing), mode=mode)
    assert found.reasons == ("100 of 8,251 votes were not taken; before, 0 of 8,251.",)
    none = Votes(sent=251, acknowledged=0, lost=0, doubled=0)
    assert (
        judged(Findings(counts(votes=none, sql_statements=0), None), mode=mode).verdict == "failed"
    )


def test_counts_alone_can_be_compared_with_stored_ones() -> None:
    found = judged(Findings(counts(), None))
    assert (found.verdict, found.timed) == ("passed", {})
    assert found.votes["candidate"] == Votes(sent=251, acknowledged=251, lost=0, doubled=0)


@pytest.mark.parametrize("starts", [0, 3])
def test_too_few_starts_are_told_and_judged_by_nothing_but_counts(starts: int) -> None:
    few = duet(starts=starts, doubts=("In a start only 0 of 5 slices could be measured.",))
    found = judged(Findings(counts(), few))
    assert (found.verdict, found.timed) == ("inconclusive", {})
    assert found.reasons[0] == few.doubts[0]
    assert found.reasons[1].startswith(f"Only {starts} starts could be measured")


def test_a_slice_in_which_a_thread_took_its_time_away_is_left_out() -> None:
    whole = Slices([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, -0.5, 3.0])
    other = Slices([1.0, 1.0, math.nan], [2.0, 2.0, math.nan], [3.0, 3.0, math.nan])
    kept = paired({"baseline": whole, "candidate": other})
    assert kept["baseline"].cpu_ms == kept["candidate"].cpu_ms == [3.0]


def test_votes_lost_while_they_were_counted_and_in_the_duet_are_told_together() -> None:
    lossy = of_candidate(Votes(sent=9, acknowledged=9, lost=2, doubled=1))
    one_lost = counts(votes=Votes(sent=251, acknowledged=251, lost=1, doubled=0))
    found = judged(Findings(one_lost, lossy))
    assert found.votes["candidate"] == Votes(sent=260, acknowledged=260, lost=3, doubled=1)
    told = {row[0]: row[1:] for row in rows(found)}
    assert told["lost votes"] == ("0", "3", "+3", "0", "worse")
    unpromised = judged(Findings(one_lost, lossy), mode="classic")
    assert {row[0]: row[-1] for row in rows(unpromised)}["doubled votes"] == "promises nothing"


def test_slices_are_cut_by_when_votes_were_sent() -> None:
    ledger = np.zeros(4, LEDGER_DTYPE)
    ledger["sent_ns"] = np.array([0, 1, 2, 12]) * 10**6 + 10**9
    ledger["answered_ns"] = ledger["sent_ns"] + np.array([1, 2, 9, 5]) * 10**6
    moments = [
        (10**9 + at * 10**6, used * 10**6) for at, used in ((0, 0), (10, 6), (20, 10), (30, 10))
    ]
    slices = sliced(ledger, moments)
    assert slices.p50_ms[:2] == [2.0, 5.0]
    assert slices.cpu_ms[:2] == [2.0, 4.0]
    assert np.isnan(slices.p50_ms[2])
    kept = paired({"baseline": slices, "candidate": slices})
    assert kept["candidate"].p50_ms == [2.0, 5.0]


def test_starts_are_pooled() -> None:
    both = pooled([duet(starts=4), duet(starts=4, doubts=("x",))])
    assert len(both.starts) == 8
    assert (both.votes["candidate"].acknowledged, both.doubts) == (16_000, ("x",))


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
    ],
)
def test_flags_that_make_no_sense_are_refused(arguments: list[str], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        invoked("check", *arguments)
