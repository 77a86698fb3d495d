"""The ladder's page says what the kept explorations found, and they still find just that."""

import msgspec
import pytest

from bench.ladder import EXPLORATIONS, FOLDER, RATES, Asked, explore, read_exploration
from bench.ladder_page import PAGE, written
from harness.exploration.report import Exploration

QUICK_S = 1.5
QUICK = [asked for asked in EXPLORATIONS if read_exploration(asked).seconds < QUICK_S]


def found(report: Exploration) -> Exploration:
    """All but what depends on the machine."""
    return msgspec.structs.replace(report, seconds=0.0, peak_mib=0)


def test_the_page_says_what_the_kept_results_say() -> None:
    page = PAGE.read_text()
    assert written(page) == page, "run: python -m bench.ladder_page"


def test_a_figure_that_was_typed_does_not_stay() -> None:
    page = PAGE.read_text()
    assert page.count("12 commands: a cold start") == 1
    assert written(page.replace("12 commands: a cold start", "13 commands: a cold start")) == page


def test_a_page_without_the_mark_of_a_section_is_not_written() -> None:
    with pytest.raises(ValueError, match="0 sections 'schedule'"):
        written(PAGE.read_text().replace("<!-- schedule", "<!-- timetable"))


def test_every_kept_report_is_of_what_the_page_tells_of() -> None:
    assert sorted(FOLDER.glob("*.json")) == sorted([RATES, *(each.path for each in EXPLORATIONS)])
    for asked in EXPLORATIONS:
        report = read_exploration(asked)
        assert (report.protocol, report.bounds) == (asked.protocol, asked.bounds)


def test_each_rung_loses_where_the_next_one_does_not() -> None:
    verdicts = {(e.protocol, e.trouble): read_exploration(e).verdict for e in EXPLORATIONS}
    assert verdicts["classic", "a cold start"] == "loses"
    assert verdicts["owned", "a cold start"] == "safe"
    assert verdicts["owned", "a lock expires under its owner"] == "loses"
    assert {v for (protocol, _), v in verdicts.items() if protocol in ("ticket", "mirrored")} == {
        "safe"
    }
    taken = {e.protocol: read_exploration(e).taken for e in EXPLORATIONS if e.bounds.wipe}
    assert taken["ticket"]
    assert not taken["mirrored"]


@pytest.mark.parametrize("asked", QUICK, ids=lambda asked: asked.path.stem)
def test_an_exploration_still_finds_what_was_kept(asked: Asked) -> None:
    again = explore(asked)
    assert found(again) == found(read_exploration(asked)), "python -m bench.ladder_page --explore"
