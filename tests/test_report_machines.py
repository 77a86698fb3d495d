"""What machines and terminals read of a result: JUnit, CSV, Markdown, the table, the schema."""

import io
import shutil
from pathlib import Path
from typing import get_args, get_type_hints
from xml.etree import ElementTree

import msgspec
import pandas as pd
import pytest
from click.testing import CliRunner
from rich.console import Console

import harness.result
from harness.cli.report import report
from harness.errors import PlanError
from harness.report.junit import junit
from harness.report.notation import number, share
from harness.report.sentences import (
    fault_sentence,
    promise_sentence,
    slo_sentence,
    votes_headline,
    votes_sentence,
)
from harness.report.summary import summary
from harness.report.table import print_result
from harness.report.tables import tables, to_csv
from harness.result import FaultRecord, SloResult, Verdict
from tests.histories import make_run
from tests.results import classic_result, mode_result, run_result

SLO = SloResult(text="p99<250ms", value=1203.1, held=False)
UNKNOWN = Verdict(votes="unknown", measurement="invalid", reasons=("The queue was not drained.",))


def printed(width: int, is_terminal: bool = True, **modes: harness.result.ModeResult) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None
    )
    print_result(run_result(modes), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_loss_fails_only_in_a_mode_that_promised() -> None:
    result = run_result({"direct": mode_result(lost=1), "classic": classic_result(slo=(SLO,))})
    root = ElementTree.fromstring(junit(result))
    failed = {
        (case.get("classname"), case.get("name"))
        for case in root.iter("testcase")
        if case.find("failure") is not None
    }
    assert failed == {
        ("pollstorm.controversial-poll.direct", "votes kept"),
        ("pollstorm.controversial-poll.classic", "p99<250ms"),
    }
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "2", "0")


def test_a_promise_that_is_broken_without_a_loss_fails_as_well() -> None:
    doubled = mode_result(promise_kept=False, duplicated=1)
    root = ElementTree.fromstring(junit(run_result({"direct": doubled})))
    (failure,) = root.iter("failure")
    assert "BROKE" in (failure.text or "")


def test_what_cannot_be_proven_is_an_error_and_says_why() -> None:
    root = ElementTree.fromstring(junit(run_result({"direct": mode_result(verdict=UNKNOWN)})))
    errors = list(root.iter("error"))
    assert len(errors) == 2
    assert all("not drained" in (error.text or "") for error in errors)
    assert root.get("errors") == "2"


def test_tables_have_a_row_per_mode_and_per_trial() -> None:
    fault = FaultRecord(kind="pause", target="lock-holder", start_s=1.0, end_s=2.2, hit=True)
    trials = (classic_result(lost=4, faults=(fault,)), classic_result(lost=9))
    both = classic_result(lost=13, trials=trials, lost_range=(4, 9), slo=(SLO,))
    frames = tables(run_result({"direct": mode_result(), "classic": both}))
    read = {name: pd.read_csv(io.BytesIO(to_csv(frame))) for name, frame in frames.items()}
    assert read["modes"]["accounts.lost"].tolist() == [0, 13]
    assert read["modes"]["lock.wait_ms.max"][1] == 1077.0
    assert read["trials"]["accounts.lost"].tolist() == [0, 4, 9]
    assert read["slo"]["text"].tolist() == ["p99<250ms"]
    assert read["faults"]["end_s"].tolist() == [2.2]


def test_the_summary_has_the_verdicts_a_row_per_mode_and_the_command() -> None:
    text = summary(run_result({"direct": mode_result(), "classic": classic_result(slo=(SLO,))}))
    assert "**Votes lost.** classic lost 37 of 4,512 acknowledged votes." in text
    assert "**Measurement sound.**" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({row.count("|") for row in rows}) == 1
    assert len(rows) == 3
    assert "p99\\<250ms: not held, 1,203 measured" in text
    assert "    pollstorm run controversial-poll" in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits_the_terminal_and_keeps_names_whole(width: int) -> None:
    lines = printed(
        width,
        direct=mode_result(acknowledged=45_120),
        mirrored=mode_result(verdict=UNKNOWN),
        classic=classic_result(lost=1234),
    )
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if line.startswith("classic"))
    assert row.split()[1:6] == ["lost", "4,512", "4,512", "1,234", "5"]
    assert "7/2/386" in row
    assert any(line.startswith("mirrored") for line in lines)
    assert "\x1b" not in "".join(lines)
    assert any("The queue was not drained." in line for line in lines)


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_gets_a_block_per_mode_and_no_number_is_cut(width: int) -> None:
    lines = printed(
        width, direct=mode_result(acknowledged=45_120), classic=classic_result(lost=1234)
    )
    assert max(map(len, lines)) <= width
    assert "direct" in lines
    block = lines[lines.index("classic") + 1 :]
    block = block[: block.index("")]
    values = dict(line.strip().rsplit(maxsplit=1) for line in block)
    assert values["votes"] == "lost"
    assert values["sent"] == "4,512"
    assert values["lost"] == "1,234"
    assert values["max ms"] == "1,302"
    assert values["takeover/cold/overlap"] == "7/2/386"


def test_what_is_piped_has_a_row_per_mode_whatever_the_width_around_it() -> None:
    lines = printed(60, is_terminal=False, classic=classic_result(lost=1234))
    row = next(line for line in lines if line.startswith("classic"))
    assert row.split()[1:6] == ["lost", "4,512", "4,512", "1,234", "5"]
    assert max(map(len, lines)) <= 100


def test_a_count_that_a_threshold_asks_for_has_no_decimals() -> None:
    lost = SloResult(text="lost=0", value=2.0, held=False)
    assert slo_sentence(lost) == "lost=0: not held, 2 measured"
    slow = SloResult(text="p50<=2ms", value=2.0, held=True)
    assert slo_sentence(slow) == "p50<=2ms: held, 2.00 measured"


@pytest.mark.parametrize(
    ("lasted_s", "told"), [(0.0004, "at 5.20 s."), (1.2, "at 5.20 s for 1.20 s.")]
)
def test_a_fault_of_an_instant_has_a_moment_and_no_duration(lasted_s: float, told: str) -> None:
    fault = FaultRecord(
        kind="wipe", target="memcached", start_s=5.2, end_s=5.2 + lasted_s, hit=True
    )
    assert fault_sentence(fault) == f"wipe of memcached {told}"


def test_the_headline_of_a_kept_run_sums_nothing_over_modes() -> None:
    both = run_result({"direct": mode_result(), "cached": mode_result()})
    assert votes_headline(both) == "Every mode counted every vote that it acknowledged, as cast."
    one = run_result({"direct": mode_result()})
    assert votes_headline(one) == "direct counted every vote that it acknowledged, as cast."


def test_sentences_say_exactly_what_the_accounts_say() -> None:
    assert votes_sentence("classic", classic_result()) == (
        "classic acknowledged 4,512 votes and lost 37 of them; "
        "5 reached the database more than once."
    )
    assert votes_sentence("direct", mode_result(acknowledged=1000)) == (
        "direct acknowledged 1,000 votes and lost none "
        "(at 95 % confidence it loses at most 0.30 %)."
    )
    altered = mode_result(
        verdict=Verdict(votes="lost", measurement="sound"),
        accounts={"altered": 1, "pending": 2},
        promise_kept=False,
    )
    assert votes_sentence("owned", altered) == (
        "owned acknowledged 4,512 votes and lost none; 1 was altered and 2 are still in the queue."
    )
    assert votes_headline(run_result({"owned": altered})) == (
        "owned lost 0 and altered 1 of 4,512 acknowledged votes. "
        "owned had promised to lose nothing."
    )


WIPED = {
    "promise_kept": None,
    "promise_void_by": ("wipe",),
    "faults": (FaultRecord(kind="wipe", target="memcached", start_s=5.0, end_s=5.0, hit=True),),
}


def test_a_loss_that_the_promise_does_not_cover_is_told_with_its_reason() -> None:
    ticket = mode_result(lost=2, **WIPED)
    assert promise_sentence(ticket) == (
        "It promises to lose nothing; its promise does not cover a wipe of memcached."
    )
    assert votes_headline(run_result({"classic": classic_result(), "ticket": ticket})) == (
        "classic lost 37 of 4,512 acknowledged votes "
        "and ticket lost 2 of 4,512 acknowledged votes. "
        "classic promises nothing. ticket's promise does not cover a wipe of memcached."
    )
    assert votes_headline(run_result({"ticket": ticket})) == (
        "ticket lost 2 of 4,512 acknowledged votes. "
        "ticket's promise does not cover a wipe of memcached."
    )
    both = run_result({"direct": mode_result(lost=1), "ticket": ticket})
    assert "direct had promised to lose nothing. ticket's promise" in votes_headline(both)
    root = ElementTree.fromstring(junit(run_result({"ticket": ticket})))
    assert root.get("failures") == "0"


def test_numbers_keep_three_figures_and_no_exponent() -> None:
    assert [number(v) for v in (None, 0, 0.0123, 1.489, 12.34, 1203.1)] == [
        "–",
        "0",
        "0.012",
        "1.49",
        "12.3",
        "1,203",
    ]
    assert [share(v) for v in (0, 0.00066, 0.012, 0.37)] == ["0 %", "0.066 %", "1.2 %", "37 %"]


def test_every_field_of_the_result_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "result.md").read_text()
    missing = [
        f"{kind.__name__}.{field.name}"
        for kind in vars(harness.result).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind != msgspec.Struct
        for field in msgspec.structs.fields(kind)
        if f"`{field.name}`" not in text
    ]
    assert not missing
    for word in get_args(get_type_hints(Verdict)["votes"]):
        assert f"`{word}`" in text


def test_one_run_is_rendered_where_it_lies_and_several_beside_one_another(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", modes=("direct", "classic"), duration_s=4.0)
    result = run_result({"direct": mode_result(), "classic": classic_result()})
    one.result_file.write_bytes(msgspec.json.encode(result))
    shutil.copytree(one.path, tmp_path / "two")
    invoke = CliRunner().invoke
    again = invoke(report, [str(one.path)], catch_exceptions=False)
    assert again.output.strip() == str(one.page)
    assert one.summary.is_file()
    runs = [str(one.path), str(tmp_path / "two"), "--out", str(tmp_path / "both")]
    several = invoke(report, runs, catch_exceptions=False)
    page = tmp_path / "both" / "index.html"
    assert several.output.strip() == str(page)
    html = page.read_text()
    assert "2 runs compared" in html
    assert "classic, A" in html
    assert "classic, B" in html
    assert html.count("<svg") == 3
    assert isinstance(invoke(report, runs).exception, PlanError)  # never overwritten


def test_a_run_without_a_result_is_audited_first_and_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", modes=("direct",), duration_s=2.0)
    shown = CliRunner().invoke(report, [str(folder.path)], catch_exceptions=False)
    assert "auditing what it left" in shown.stderr
    assert set(folder.result().modes) == {"direct"}
    assert folder.page.is_file()


@pytest.mark.parametrize("damage", ["no folder", "no plan", "other schema"])
def test_a_folder_that_is_no_run_is_one_line_that_names_it(tmp_path: Path, damage: str) -> None:
    folder = make_run(tmp_path / "run", modes=("direct",), duration_s=2.0)
    if damage == "no folder":
        shutil.rmtree(folder.path)
    elif damage == "no plan":
        folder.plan_file.unlink()
    elif damage == "other schema":
        folder.result_file.write_text('{"schema_version": 1}')
    with pytest.raises(PlanError, match="run") as caught:
        CliRunner().invoke(report, [str(folder.path)], catch_exceptions=False)
    assert "\n" not in str(caught.value)
