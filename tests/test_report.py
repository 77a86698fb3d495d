"""The page of a run: whole, safe, and readable whatever is missing."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from harness.plan import PollPlan
from harness.report.page import render
from harness.result import FaultRecord, SloResult, Verdict
from harness.run_folder import RunFolder
from tests.histories import make_run
from tests.results import classic_result, mode_result, run_result

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "<script>alert('&amp;')</script>"


class Page(HTMLParser):
    """Tags in order, ids, addresses, text; fails on a tag that is closed wrongly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A rendered run of two modes, with a fault, a threshold and losses."""
    folder = make_run(
        tmp_path_factory.mktemp("report") / "run", modes=("direct", "classic"), duration_s=6.0
    )
    classic = classic_result(
        faults=folder.trial("classic").read_facts().faults,
        slo=(SloResult(text="p99<250ms", value=1203.1, held=False),),
    )
    render(folder, run_result({"direct": mode_result(), "classic": classic}))
    return folder


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Page:
    return Page(run.page.read_text())


@pytest.fixture
def copy(run: RunFolder, tmp_path: Path) -> RunFolder:
    """The same run, to be damaged."""
    shutil.copytree(run.path, tmp_path / "copy")
    return RunFolder.open(tmp_path / "copy")


def test_the_page_needs_nothing_from_anywhere(run: RunFolder, page: Page) -> None:
    assert not [address for address in page.addresses if not address.startswith("#")]
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    html = run.page.read_text()
    assert not re.findall(r"url\((?!#)|@import", html)
    assert not [u for u in re.findall(r'https?://[^"\s<]+', html) if "www.w3.org/" not in u]


def test_both_verdicts_and_the_sentences_stand_before_the_first_figure(page: Page) -> None:
    before = page.text.split("Where the votes went")[0]
    assert "Votes lost" in before
    assert "Measurement sound" in before
    assert "classic acknowledged 4,512 votes and lost 37 of them" in before
    assert "5 reached the database more than once" in before
    assert "at most 0.066 %" in before
    assert "pollstorm run controversial-poll --modes direct,classic --seed 1" in before


def test_ids_are_unique_and_every_reference_meets_one(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses} <= set(page.ids)


def test_every_figure_is_there_as_vector_and_as_picture(run: RunFolder) -> None:
    svgs = re.findall(r"<svg.*?</svg>", run.page.read_text(), flags=re.DOTALL)
    names = ["accounts", "rates", "latency", "percentiles", "counting", "lock"]
    assert len(svgs) == len(names)
    for svg, name in zip(svgs, names, strict=True):
        assert ElementTree.fromstring(svg).get("aria-label")
        assert (run.figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_figures_follow_the_scheme_in_every_colour(run: RunFolder) -> None:
    for svg in re.findall(r"<svg.*?</svg>", run.page.read_text(), flags=re.DOTALL):
        bare = re.sub(r"var\(--[a-z0-9-]+, #[0-9a-f]{6}\)", "", svg)
        assert not re.findall(r"#[0-9a-f]{6}\b", bare)
        for text in re.findall(r"<text[^>]*>", svg):
            assert "fill: var(--" in text  # black would not show on dark paper


def test_faults_are_numbered_in_the_figures_and_in_the_list(run: RunFolder, page: Page) -> None:
    svgs = re.findall(r"<svg.*?</svg>", run.page.read_text(), flags=re.DOTALL)
    for place in (1, 2, 4, 5):
        assert ">F1" in svgs[place]
    assert "pause of lock-holder at" in page.text
    assert "not held" in page.text


def test_the_same_run_gives_the_same_page(run: RunFolder) -> None:
    before = run.page.read_bytes(), (run.figures / "lock.png").read_bytes()
    classic = classic_result(
        faults=run.trial("classic").read_facts().faults,
        slo=(SloResult(text="p99<250ms", value=1203.1, held=False),),
    )
    render(run, run_result({"direct": mode_result(), "classic": classic}))
    assert (run.page.read_bytes(), (run.figures / "lock.png").read_bytes()) == before
    assert not list(run.path.rglob("*.part"))


def test_hostile_names_are_text(copy: RunFolder) -> None:
    plan = msgspec.structs.replace(copy.plan(), poll=PollPlan(question=HOSTILE))
    copy.plan_file.write_text(plan.to_toml())
    copy.environment_file.write_text('{"machine": {"name": "<script>alert(3)</script>"}}')
    fault = FaultRecord(
        kind="<b>", target="$x^2$", start_s=1.0, end_s=2.0, hit=False, detail=HOSTILE
    )
    verdict = Verdict(votes="unknown", measurement="invalid", reasons=(HOSTILE,))
    hostile = mode_result(verdict=verdict, faults=(fault,))
    render(copy, run_result({HOSTILE: hostile, "direct": mode_result()}, command=HOSTILE))
    shown = Page(copy.page.read_text())
    assert "script" not in shown.tags
    assert "b" not in shown.tags
    assert shown.text.count(HOSTILE) >= 5
    assert "machine.name" in shown.text
    assert "&lt;script>" not in copy.summary.read_text()
    assert "\\<script>" in copy.summary.read_text()


def test_a_missing_ledger_leaves_a_sentence_and_the_accounts(copy: RunFolder) -> None:
    for name in ("direct", "classic"):
        copy.trial(name).ledger.unlink()
    render(copy, run_result({"direct": mode_result(), "classic": classic_result()}))
    shown = Page(copy.page.read_text())
    assert "direct is not drawn" in shown.text
    assert "classic is not drawn" in shown.text
    assert shown.tags.count("svg") == 1
    assert "37 lost" in shown.text


def test_a_journal_that_cannot_be_read_costs_only_the_figures_made_of_it(copy: RunFolder) -> None:
    copy.trial("classic").journal.write_bytes(b"no Parquet")
    render(copy, run_result({"direct": mode_result(), "classic": classic_result()}))
    figures = re.findall(
        r'<figure id="figure-(\w+)">(.*?)</figure>', copy.page.read_text(), flags=re.DOTALL
    )
    with_classic = {name for name, html in figures if ">classic<" in html}
    assert with_classic == {"accounts", "rates", "latency", "percentiles"}
    complaining = {name for name, html in figures if "classic is not drawn" in html}
    assert complaining == {"counting", "lock"}


def test_a_fault_that_every_mode_suffered_is_labelled_once_where_modes_share_axes(
    copy: RunFolder,
) -> None:
    wipes = [
        FaultRecord(kind="wipe", target="memcached", start_s=at_s, end_s=at_s, hit=True)
        for at_s in (2.0, 2.001)
    ]
    modes = {
        name: mode_result(faults=(wipe,))
        for name, wipe in zip(("direct", "classic"), wipes, strict=True)
    }
    render(copy, run_result(modes))
    svgs = re.findall(r"<svg.*?</svg>", copy.page.read_text(), flags=re.DOTALL)
    a_panel_each, together = svgs[1], svgs[4]
    assert (a_panel_each.count(">F1"), together.count(">F1")) == (2, 1)
    assert together.count(">F1 wipe<") == 1
    assert a_panel_each.count("var(--fault") > together.count("var(--fault")  # shaded once too


def test_every_colour_of_where_the_votes_went_is_in_its_legend(run: RunFolder) -> None:
    accounts = re.findall(r"<svg.*?</svg>", run.page.read_text(), flags=re.DOTALL)[0]
    keys = re.findall(r">([^<>]+)</text>", accounts)
    assert {"counted", "lost", "delivered twice"} <= set(keys)


def test_a_run_without_modes_votes_or_files_still_has_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", modes=("direct",), duration_s=2.0)
    folder.plan_file.write_text("no plan")
    shutil.rmtree(folder.trial("direct").path)
    for modes in ({}, {"direct": mode_result(acknowledged=0)}):
        render(folder, run_result(modes, partial=True, simulated=True))
        text = Page(folder.page.read_text()).text
        assert "Simulated" in text
        assert "Partial" in text
        assert "No vote was acknowledged" in text


def test_repetitions_show_their_range_and_which_one_is_drawn(copy: RunFolder) -> None:
    trials = (classic_result(lost=4, name="classic.2"), classic_result(lost=9, name="classic.3"))
    shutil.copytree(copy.trial("classic").path, copy.trial("classic", 2).path)
    copy.trial("classic").path.rename(copy.trial("classic", 3).path)  # the first has no files
    both = classic_result(lost=13, trials=trials, lost_range=(4, 9))
    render(copy, run_result({"classic": both}))
    text = Page(copy.page.read_text()).text
    assert "2 repetitions lost between 4 and 9 each" in text
    assert "the one that lost most is drawn: classic.3" in text
    assert "not drawn" not in text
