"""The page as a browser shows it: light, dark, printed, and as wide as a phone."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from harness.report.page import render
from harness.result import FaultRecord, SloResult
from harness.run_folder import RunFolder
from tests.browsing import CONTRASTS, LEAST_CONTRAST, needs_chromium
from tests.histories import make_run
from tests.results import classic_result, mode_result, run_result

EARLY = [
    FaultRecord(kind="wipe", target="memcached", start_s=at_s, end_s=at_s, hit=True)
    for at_s in (0.0, 0.1, 0.9)
]  # where their labels could run into the title and into one another

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = make_run(tmp_path_factory.mktemp("browser") / "run", modes=("direct", "classic"))
    classic = classic_result(
        faults=(*EARLY, *folder.trial("classic").read_facts().faults),
        slo=(SloResult(text="p99<250ms", value=1203.1, held=False),),
    )
    render(folder, run_result({"direct": mode_result(), "classic": classic}, partial=True))
    return folder


@pytest.fixture(params=["light", "dark", "print", "phone", "phone, dark"])
def shown(request: pytest.FixtureRequest, browser: Browser, run: RunFolder) -> Iterator[Page]:
    """The page, opened; fails when the browser complains or asks the network for anything."""
    how = str(request.param)
    width = 390 if "phone" in how else 700 if how == "print" else 1100  # 700: paper, A4
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if "dark" in how or how == "print" else "light",
    )
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.append(asked.url))
    if how == "print":
        page.emulate_media(media="print")
    page.goto(run.page.as_uri())
    yield page
    assert complaints == [run.page.as_uri()]
    page.close()


def test_nothing_overflows_and_every_text_can_be_read(shown: Page) -> None:
    widths = shown.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
    contrasts = shown.evaluate(CONTRASTS)
    assert len(contrasts) > 200
    assert [c for c in contrasts if c[0] < LEAST_CONTRAST] == []


def test_the_verdicts_are_what_the_eye_meets_first(shown: Page) -> None:
    tops = [
        shown.get_by_text(text).first.bounding_box() for text in ("Votes lost", "Measurement sound")
    ]
    assert all(box is not None and box["y"] < 600 for box in tops)
    assert shown.get_by_role("img", name="Where the votes went").is_visible()


def test_short_words_stay_whole_and_meanings_have_room(shown: Page) -> None:
    assert (
        shown.get_by_role("cell", name="F1", exact=True).first.evaluate(
            "cell => getComputedStyle(cell).whiteSpace"
        )
        == "nowrap"
    )
    meaning = shown.get_by_text("acknowledged, and in the database as cast").bounding_box()
    assert meaning is not None
    assert meaning["width"] >= 200


def test_texts_in_a_figure_do_not_cover_one_another(shown: Page) -> None:
    overlaps = shown.evaluate("""
    () => [...document.querySelectorAll('svg.figure')].flatMap(svg => {
      const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim());
      const boxes = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
      return boxes.flatMap(([a, p], i) => boxes.slice(i + 1)
        .filter(([b, q]) => p.left + 1 < q.right && q.left + 1 < p.right
                         && p.top + 2 < q.bottom && q.top + 2 < p.bottom)
        .map(([b]) => [a, b]));
    })""")
    assert overlaps == []
