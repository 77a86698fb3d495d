"""What page, terminal, summary and CI say of a once-only poll."""

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from harness.report.accounts_figure import paint_accounts
from harness.report.junit import junit
from harness.report.page import render
from harness.report.sentences import rule_headline, rule_of, rule_sentence, votes_headline
from harness.report.summary import summary
from harness.report.table import print_result
from harness.result import ModeResult, RunResult
from tests.histories import make_run
from tests.results import classic_result, mode_result, run_result

KEPT = {
    "sent": 12_000, "voters": 3000, "voters_counted": 2990, "refused": 8930, "rejected": 60,
    "absent": 10, "counted": 3000,
}  # fmt: skip


def once(rule_kept: bool | None = True, *, lost: int = 0, **accounts: int) -> ModeResult:
    """3,060 of 12,000 votes were acknowledged, by a mode that promises nothing."""
    return classic_result(
        lost=lost, duplicated=0, acknowledged=3060, accounts=KEPT | accounts, rule_kept=rule_kept
    )


def ruled(**modes: ModeResult) -> RunResult:
    return run_result(modes, once=True)


def printed(result: RunResult, width: int = 100) -> str:
    file = io.StringIO()
    print_result(result, Console(file=file, width=width, force_terminal=True, color_system=None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        (
            once(),
            "3,000 voters cast 12,000 votes: 2,990 of the voters are counted, each once; "
            "8,930 votes were refused at the door, 60 rejected at the count.",
        ),
        (
            once(voters_counted=3000, refused=1, rejected=0),
            "3,000 voters cast 12,000 votes: all of the voters are counted, each once; "
            "1 vote was refused at the door.",
        ),
        (
            once(None, refused=0),
            "3,000 voters cast 12,000 votes: 2,990 of the voters are counted, so far none more "
            "than once; 60 votes were rejected at the count.",
        ),
        (
            once(False, refused=0, rejected=0, overvotes=3),
            "3,000 voters cast 12,000 votes: 2,990 of the voters are counted, "
            "3 of them MORE THAN ONCE.",
        ),
        (mode_result(), ""),
    ],
)
def test_a_sentence_tells_where_the_votes_went_that_were_too_many(mode, sentence):
    assert rule_sentence(mode) == sentence


def test_the_rules_verdict_is_the_worst_of_all_modes():
    kept, unknown, broken = once(), once(None), once(False, overvotes=2)
    assert rule_of(ruled(a=kept, b=kept)) is True
    assert rule_of(ruled(a=kept, b=unknown)) is None
    assert rule_of(ruled(a=unknown, b=broken)) is False
    assert rule_headline(ruled(a=kept)) == "No voter was counted more than once."
    assert "not proven in b." in rule_headline(ruled(a=kept, b=unknown))
    broke = rule_headline(ruled(a=unknown, b=broken))
    assert broke == "b counted 2 voters more than once, which the poll forbids in every mode."


def test_what_was_lost_is_said_as_loudly_as_ever():
    result = ruled(direct=once(), classic=once(lost=37))
    assert votes_headline(result).startswith("classic lost 37 of 3,060 acknowledged votes.")
    assert "but for further votes of voters who are counted" in votes_headline(ruled(a=once()))
    assert "but for" not in votes_headline(ruled(a=once(rejected=0)))


@pytest.mark.parametrize("width", [100, 60])
def test_the_terminal_shows_the_rule_and_no_such_column_without_it(width):
    told = printed(ruled(classic=once(False, overvotes=3)), width)
    assert "Rule broken. classic counted 3 voters more than once" in " ".join(told.split())
    assert max(map(len, told.splitlines())) <= width
    row = next(line for line in told.splitlines() if " 60" in line)
    assert row.split()[-3:] == ["8,930", "60", "3"] if width == 100 else "rejected" in row
    assert "rejec" not in printed(run_result({"classic": classic_result()}), width)


def test_the_summary_has_the_rule_and_its_columns():
    text = summary(ruled(classic=once(None)))
    assert "**Rule unknown.**" in text
    heading, lines, row = [line for line in text.splitlines() if line.startswith("|")]
    assert heading.count("|") == lines.count("|") == row.count("|")
    assert row.endswith("| 8,930 | 60 | 0 |")
    assert "Rule" not in summary(run_result({"classic": classic_result()}))


def test_ci_fails_where_a_voter_was_counted_twice_whatever_the_mode_promises():
    result = ruled(a=once(), b=once(None), c=once(False, overvotes=1))
    cases = {
        str(case.get("classname")).rpartition(".")[2]: [inner.tag for inner in case]
        for case in ElementTree.fromstring(junit(result)).iter("testcase")
        if case.get("name") == "each voter counted once at most"
    }
    assert cases == {"a": ["system-out"], "b": ["error"], "c": ["failure"]}


def labels(*modes: ModeResult) -> set[str]:
    figure = Figure()
    paint_accounts(figure, [(str(n), mode) for n, mode in enumerate(modes)])
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def test_the_legend_names_what_is_there():
    assert {"rejected at the count", "refused"} <= labels(once())
    assert "rejected at the count" not in labels(once(rejected=0))
    assert "voters counted more than once" in labels(mode_result(), once(False, overvotes=1))
    assert labels(mode_result()) == {"counted"}


def test_the_page_has_a_third_verdict_and_the_accounts_of_voters(tmp_path: Path):
    folder = make_run(tmp_path / "run", modes=("direct",), duration_s=4.0)
    render(folder, ruled(direct=once(False, overvotes=3)))
    page = folder.page.read_text(encoding="utf-8")
    assert '<div class="verdict bad">\n  <strong><span aria-hidden="true">✗</span> Rule' in page
    assert "3 of them MORE THAN ONCE" in page
    assert "voters who have more than one there" in page
    assert "Rejected at the count are" in page
    render(folder, run_result({"direct": mode_result()}))
    page = folder.page.read_text(encoding="utf-8")
    assert "Rule" not in page
    assert "voters_counted" not in page
