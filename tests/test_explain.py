"""`pollstorm explain`: causes with an example each, and one vote's life and death."""

import pytest
from click.testing import CliRunner

from harness.audit.examination import audit_run
from harness.cli.explain import explain, read_id
from harness.errors import Exit, PlanError
from harness.plan import Plan
from harness.report.page import render
from harness.run_folder import RunFolder
from tests.histories import attempt, ballot, make_trial, vote_id
from tests.test_certificates import FIRST, V, drain, overwritten, vote


def run_with(tmp_path, journal, ballots=()) -> RunFolder:
    folder = RunFolder.create(tmp_path, Plan(scenario="x", modes=("classic",)), tmp_path / "run")
    ledger = [attempt(0, planned_ms=0, answered_after_ms=100)]
    make_trial(
        folder.trial("classic").path, ledger, ballots, journal, mode="classic", promises=False
    )
    return folder


def audited(folder: RunFolder):
    return audit_run(folder, command="x", started_utc="2026-01-01", partial=False)


def invoke(*arguments: object) -> tuple[int, str]:
    outcome = CliRunner().invoke(explain, [str(a) for a in arguments], standalone_mode=False)
    if outcome.exception:
        raise outcome.exception
    return outcome.return_value, outcome.output


def test_a_killed_vote_is_told_with_the_fatal_line_marked(tmp_path):
    folder = run_with(tmp_path, overwritten())
    result = audited(folder).modes["classic"]
    assert (result.causes["overwritten"].certain, result.unexplained) == (1, 0)
    code, output = invoke(folder.path)
    assert code == Exit.OK
    assert f"explain {folder.path} {V:016x} --mode classic" in output
    code, output = invoke(folder.path, "1:0")
    (fatal,) = [line for line in output.splitlines() if line.startswith(">>>")][:1]
    assert "site 200/0" in fatal
    assert "set slot 1 → another vote was stored" in fatal
    assert "lost: overwritten (certain)" in output


def test_a_counted_vote_has_a_life_too(tmp_path):
    journal = FIRST + vote(0, 1, 10) + drain(20, 50, (1, 11), {1: (V, 12)})
    folder = run_with(tmp_path, journal, [ballot(0)])
    audited(folder)
    code, output = invoke(folder.path, f"{V:016x}", "--mode", "classic")
    assert code == Exit.OK
    assert "counted" in output
    assert ">>>" not in output.split("\n\n")[1]
    assert "no vote was lost" in invoke(folder.path)[1]


def test_an_unexplained_loss_is_an_audit_that_failed(tmp_path):
    folder = run_with(tmp_path, FIRST + vote(0, 1, 10))
    result = audited(folder)
    assert (result.exit_code, result.modes["classic"].unexplained) == (Exit.INCONCLUSIVE, 1)
    assert any("failed to explain 1 votes" in reason for reason in result.verdict.reasons)
    assert invoke(folder.path)[0] == Exit.INCONCLUSIVE


def test_what_cannot_be_explained_is_one_line(tmp_path):
    folder = run_with(tmp_path, overwritten())
    with pytest.raises(PlanError, match="has no certificates; `pollstorm audit"):
        invoke(folder.path)
    audited(folder)
    with pytest.raises(PlanError, match="no vote 1:77 in classic"):
        invoke(folder.path, "1:77")
    with pytest.raises(PlanError, match="no trial ticket; it has classic"):
        invoke(folder.path, "--mode", "ticket")
    with pytest.raises(PlanError, match="no run folder"):
        invoke(tmp_path)


@pytest.mark.parametrize("text", ["", "xyz", "1:", "70000:1", "1:2:3", "-1:2"])
def test_a_vote_id_that_is_none_is_refused(text):
    assert read_id("1:0") == read_id(f"{vote_id(0):016X}") == V
    with pytest.raises(PlanError, match="no vote id"):
        read_id(text)


def test_the_report_tells_each_cause_by_an_example(tmp_path):
    folder = run_with(tmp_path, overwritten())
    render(folder, audited(folder))
    page = folder.page.read_text(encoding="utf-8")
    assert "Why votes were lost or doubled" in page
    assert f"overwritten: one such vote, {V:016x}" in page
    assert "← killed it" in page
    assert "is not told" not in page
