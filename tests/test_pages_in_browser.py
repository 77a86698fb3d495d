"""The site as people use it, in Chromium: mouse, keyboard, phone, dark, and without JavaScript.

One browser and one site serve all tests; each has polls and a context, that is cookies, of its own.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from harness.cli import pollstorm
from harness.deployment import Deployment
from harness.errors import Exit
from harness.modes.mode import Answer
from harness.modes.polls import NOTICED_WITHIN_S
from harness.services.processes import Supervisor
from harness.services.site import start_site
from harness.vote import Poll, Vote, VoteId
from tests.browsing import CONTRASTS, LEAST_CONTRAST, needs_chromium
from tests.deployed import flush
from tests.site_in_thread import Town, crowded, serve_in_thread

pytestmark = needs_chromium

ORANGE = Poll(
    "town-hall", "Should the town hall be painted orange?", ("Yes", "No", "Only the door")
)
MARKET = Poll("market", "Shall the market stay?", ("Yes", "No"), closed=True)
LONG = Poll(
    "long",
    "Which of the following propositions concerning the former railway goods yard "
    "between Lower Station Road and the canal should the council pursue?",
    ("A park", "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamte", "حديقة"),
)
RESULTS = "/polls/town-hall/results"
STEP_MS = 4000  # more than the longest wait between two updates: 3 s and a quarter of it


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, str]]:
    town = Town()
    with serve_in_thread(tmp_path_factory.mktemp("site"), town) as url:
        yield town, url


@pytest.fixture(autouse=True)
def town(site: tuple[Town, str]) -> Town:
    town, _ = site
    town.start_anew(ORANGE, MARKET, LONG)
    return town


Opened = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, site: tuple[Town, str]) -> Iterator[Opened]:
    """Opens a page of the site for a new person; fails when the browser has a complaint."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(path: str = "/", **how: Any) -> Page:
        context = browser.new_context(base_url=site[1], **how)
        contexts.append(context)
        context.set_default_timeout(5000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda asked: elsewhere(asked.url))
        page.goto(path)
        return page

    def elsewhere(url: str) -> None:
        if not url.startswith(site[1]):
            complaints.append(url)

    yield opened
    for context in contexts:
        context.close()
    # What the browser says of every answer that is no success.
    expected = re.compile(r"Failed to load resource: the server responded with a status of")
    assert [each for each in complaints if not expected.match(each)] == []


def vote(page: Page, choice: str = "No") -> None:
    page.get_by_label(choice, exact=True).check()
    page.get_by_role("button", name="Vote", exact=True).click()


def others_vote(town: Town, *choices: int, poll: Poll = ORANGE) -> None:
    for choice in choices:
        number = len(town.ballots) + 1
        town.ballots[number] = Vote(VoteId(number), poll.name, choice, f"v{number}")


def test_from_the_list_to_a_vote_to_the_results(visit: Opened, town: Town) -> None:
    others_vote(town, 1, 1, 3)
    page = visit()
    page.get_by_role("link", name=ORANGE.question, exact=True).click()
    vote(page)
    expect(page).to_have_url(re.compile(f"{RESULTS}$"))
    expect(page.get_by_role("status").first).to_have_text("Thank you. Your vote is counted.")
    expect(page).to_have_title(re.compile(r"^Thank you\. .* Results: Should the town"))
    row = page.get_by_role("listitem").filter(has_text="Your vote")
    expect(row).to_contain_text("No")
    expect(row).to_contain_text("25 %")
    expect(page.locator("#total")).to_have_text("4 votes")
    page.reload()
    expect(page.get_by_text("Thank you")).to_have_count(0)


def test_results_update_by_themselves_as_the_page_would_show_them_anew(
    visit: Opened, town: Town
) -> None:
    page = visit("/")
    page.clock.install()
    page.goto(RESULTS)
    expect(page.locator("#total")).to_have_text("No votes yet")
    others_vote(town, *[1] * 1000, *[2] * 235)
    town.counted_ago_s = 60.5
    page.clock.run_for(STEP_MS)
    expect(page.locator("#total")).to_have_text("1,235 votes")
    page.clock.run_for(1000)
    expect(page.locator("#age")).to_have_text("1 minute ago")
    live = page.locator("#bars").inner_text()
    widths = [rect.get_attribute("width") for rect in page.locator("rect").all()]
    page.goto(RESULTS)
    assert page.locator("#bars").inner_text() == live
    assert [rect.get_attribute("width") for rect in page.locator("rect").all()] == widths


def test_updates_pause_when_asked_to_and_slow_down_when_the_site_is_in_trouble(
    visit: Opened, town: Town
) -> None:
    page = visit("/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.resource_type))
    page.clock.install()
    page.goto(RESULTS)
    page.get_by_role("button", name="Pause updates").click()
    expect(page.get_by_role("status")).to_have_text("Updates are paused.")
    expect(page.get_by_role("link", name="Update now")).to_be_visible()
    page.clock.run_for(10 * STEP_MS)
    assert asked.count("fetch") == 0
    page.get_by_role("button", name="Resume updates").click()
    expect(page.get_by_role("link", name="Update now")).to_be_hidden()
    town.silent = True
    with page.expect_response(lambda answer: answer.status == 503):
        page.clock.run_for(STEP_MS)
    expect(page.get_by_role("status")).to_have_text("No new count just now; trying again.")
    expect(page.get_by_role("link", name="Update now")).to_be_visible()
    before = asked.count("fetch")
    page.clock.run_for(4400)  # the next wait is at least 4.5 s
    assert asked.count("fetch") == before
    town.silent = False
    others_vote(town, 1)
    page.clock.run_for(2 * STEP_MS)
    expect(page.locator("#total")).to_have_text("1 vote")
    expect(page.get_by_role("status")).to_have_text("")


def test_a_page_that_nobody_touches_stops_asking(visit: Opened) -> None:
    page = visit("/")
    page.clock.install()
    page.goto(RESULTS)
    page.clock.fast_forward("31:00")  # fires once what is due, and then finds its time over
    expect(page.get_by_role("button", name="Resume updates")).to_be_visible()


def test_a_form_sent_twice_counts_once(visit: Opened, town: Town) -> None:
    page = visit("/polls/town-hall")
    page.get_by_label("No", exact=True).check()
    page.get_by_role("button", name="Vote", exact=True).dblclick()
    page.wait_for_url(f"**{RESULTS}")
    assert len(town.ballots) == 1
    page.goto("/polls/town-hall")
    vote(page, "Yes")
    page.wait_for_url(f"**{RESULTS}")
    assert len(town.ballots) == 2


def test_a_second_vote_in_a_once_only_poll(visit: Opened, town: Town) -> None:
    town.known[ORANGE.name] = ORANGE._replace(once=True)
    page = visit("/polls/town-hall")
    vote(page)
    expect(page.get_by_role("status").first).to_contain_text("Thank you.")
    expect(page.get_by_role("link", name="Vote", exact=True)).to_have_count(0)
    page.goto("/polls/town-hall")
    vote(page, "Yes")
    expect(page.get_by_role("status").first).to_contain_text("You have already voted.")
    other = visit("/polls/town-hall")  # another browser is another voter
    vote(other, "Yes")
    expect(other.get_by_role("status").first).to_contain_text("Thank you.")
    assert [ballot.choice for ballot in town.ballots.values()] == [2, 1]


def test_a_poll_that_closes_under_the_voters_hands(visit: Opened, town: Town) -> None:
    page = visit("/polls/town-hall")
    town.known[ORANGE.name] = ORANGE._replace(closed=True)
    vote(page)
    expect(page.get_by_role("status").first).to_contain_text("The poll had closed")
    expect(page.get_by_text("this poll is closed")).to_be_visible()
    expect(page.get_by_role("link", name="Vote", exact=True)).to_have_count(0)
    assert town.ballots == {}


@pytest.mark.parametrize(
    ("says", "heading"),
    [(Answer.REFUSED, "in trouble"), (Answer.UNKNOWN, "We do not know whether")],
)
def test_a_vote_that_met_trouble_is_sent_again_and_counts_once(
    visit: Opened, town: Town, says: Answer, heading: str
) -> None:
    page = visit("/polls/town-hall")
    town.says = says
    for _ in range(2):
        vote(page) if page.get_by_label("No", exact=True).count() else again(page)
        expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
    town.says = None
    again(page)
    expect(page.get_by_role("status").first).to_have_text("Thank you. Your vote is counted.")
    assert [ballot.choice for ballot in town.ballots.values()] == [2]


def again(page: Page) -> None:
    page.get_by_role("button", name="Vote again").click()


def test_a_site_that_cannot_answer_asks_to_try_again(visit: Opened, town: Town) -> None:
    town.silent = True
    page = visit(RESULTS)
    expect(page.get_by_role("heading", level=1)).to_have_text("Not available just now")
    town.silent = False
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(ORANGE.question)


def test_an_overloaded_site_says_so_and_takes_the_same_vote_later(
    visit: Opened, town: Town, site: tuple[Town, str]
) -> None:
    page = visit("/polls/town-hall")
    with crowded(town, site[1], ORANGE):
        vote(page)
        expect(page.get_by_role("heading", level=1)).to_have_text("Too many people at once")
        expect(page.get_by_text("Your vote was written nowhere.")).to_be_visible()
        answer = page.request.get("/", headers={"Accept": "text/html"})
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert town.ballots == {}
    again(page)
    expect(page.get_by_role("status").first).to_have_text("Thank you. Your vote is counted.")
    assert len(town.ballots) == 1


def test_by_keyboard_alone(visit: Opened, town: Town) -> None:
    page = visit()

    def focused() -> str:
        return str(
            page.evaluate("document.activeElement.textContent || document.activeElement.name")
        )

    press = page.keyboard.press
    press("Tab")
    assert "All polls" in focused()
    press("Tab")
    assert focused() == ORANGE.question
    press("Enter")
    page.wait_for_url("**/polls/town-hall")
    press("Tab")
    press("Tab")
    assert focused() == "choice"
    press("ArrowDown")  # from none to the first, or from the first to the second
    chosen = page.locator(":checked").get_attribute("value")
    assert (
        page.locator(".choice:has(:focus-visible)").evaluate(
            "label => getComputedStyle(label).outlineStyle"
        )
        == "solid"
    )
    press("Tab")
    assert focused() == "Vote"
    press("Enter")
    page.wait_for_url(f"**{RESULTS}")
    assert [str(ballot.choice) for ballot in town.ballots.values()] == [chosen]


def test_without_javascript(visit: Opened, town: Town) -> None:
    page = visit("/polls/town-hall", java_script_enabled=False)
    vote(page, "Only the door")
    expect(page.get_by_role("status").first).to_have_text("Thank you. Your vote is counted.")
    expect(page.get_by_role("button")).to_have_count(0)
    others_vote(town, 1)
    page.get_by_role("link", name="Update now").click()
    expect(page.locator("#total")).to_have_text("2 votes")


def test_without_cookies(visit: Opened, town: Town) -> None:
    page = visit("/polls/town-hall")
    page.context.clear_cookies()
    vote(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("No cookie")
    page.get_by_role("link", name="Open the poll").click()
    vote(page)
    page.wait_for_url(f"**{RESULTS}")
    assert len(town.ballots) == 1


def test_a_page_of_another_site_cannot_vote_for_its_visitors(
    browser: Browser, town: Town, site: tuple[Town, str]
) -> None:
    trap = (
        f"<form method=post action='{site[1]}/polls/town-hall/votes'>"
        "<input name=vote value=80000000000000a1><input name=choice value=1><button>Win</button>"
    )
    with browser.new_context(base_url=site[1]) as context:
        page = context.new_page()
        page.goto("/polls/town-hall")
        assert [cookie["name"] for cookie in context.cookies()] == ["pollstorm-voter"]
        page.route(
            "http://elsewhere.example/",
            lambda route: route.fulfill(content_type="text/html", body=trap),
        )
        page.goto("http://elsewhere.example/")
        page.get_by_role("button", name="Win").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sent from another site")
    assert town.ballots == {}


@pytest.mark.services
def test_on_a_real_queue_with_real_polls(
    browser: Browser, supervisor: Supervisor, deployment: Deployment, logs: Path
) -> None:
    """A poll made by the command line; a vote through memcached, counted; the poll is closed."""
    given = ["--database", deployment.database, "--memcached", deployment.memcached[0]]
    given += ["--prefix", deployment.plan.queue.prefix]
    choices = ["--choice", "Yes", "--choice", "No"]
    flags = ["--question", "Orange?", *choices, "--once", *given]
    site = start_site(supervisor, deployment, logs / "site.log")
    try:
        with browser.new_context(base_url=site.url) as context:
            page = context.new_page()
            polls("create", "orange", *flags)
            page.goto("/")
            page.get_by_role("link", name="Orange?", exact=True).click()
            vote(page)
            expect(page.get_by_role("status").first).to_contain_text("Your vote is taken in")
            assert flush(deployment) == Exit.OK
            expect(page.locator("#total")).to_have_text("1 vote")
            page.goto("/polls/orange")
            vote(page, "Yes")
            expect(page.get_by_role("status").first).to_contain_text("You have already voted.")
            polls("close", "orange", *given)
            closed = page.get_by_text("This poll is closed")
            until_s = monotonic() + NOTICED_WITHIN_S
            while not closed.count() and monotonic() < until_s:
                page.goto("/polls/orange")
            expect(closed).to_be_visible()
    finally:
        site.stop()


def polls(*arguments: str) -> None:
    assert pollstorm.main(["polls", *arguments], standalone_mode=False) == Exit.OK


LOOKS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1100, "height": 900}},
    "phone, dark": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
}


@pytest.mark.parametrize("how", LOOKS.values(), ids=LOOKS.keys())
def test_every_page_fits_and_can_be_read(visit: Opened, town: Town, how: dict[str, Any]) -> None:
    others_vote(town, 1, 2, 2)
    others_vote(town, 2, 2, 3, poll=LONG)
    page = visit("/", **how)
    seen = 0
    for path in (
        "/",
        *("/polls/long", "/polls/long/results", "/polls/market", "/polls/market/results"),
        *("/nowhere", "/polls/town-hall"),
    ):
        page.goto(path)
        seen += looked_at(page)
    vote(page)
    seen += looked_at(page)  # the thanks
    page.goto("/polls/town-hall")
    page.locator("form").evaluate("form => form.noValidate = true")
    page.get_by_role("button", name="Vote", exact=True).click()
    seen += looked_at(page)  # what is missing
    town.says = Answer.UNKNOWN
    vote(page)
    seen += looked_at(page)
    assert seen > 100


def looked_at(page: Page) -> int:
    """How many texts were looked at."""
    inner, outer = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert inner <= outer, page.url
    contrasts = page.evaluate(CONTRASTS)
    assert [found for found in contrasts if found[0] < LEAST_CONTRAST] == [], page.url
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("main").count() == page.get_by_role("navigation").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    return len(contrasts)


def test_who_wants_little_motion_sees_none(visit: Opened) -> None:
    moves = "getComputedStyle(document.querySelector('rect')).transitionDuration"
    assert visit(RESULTS).evaluate(moves) == "0.4s"
    assert visit(RESULTS, reduced_motion="reduce").evaluate(moves) == "0s"
