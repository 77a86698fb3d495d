"""The site as people see it, asked for as a browser asks; without JavaScript, and without one."""

import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.modes.mode import Answer
from harness.site.app import prefers_pages
from harness.site.pages import age, percent
from harness.vote import Poll
from tests.person import CHROMIUM, FORM, PAPER, POLL, Person, notice_in, paper_in
from tests.site_in_thread import Town
from tests.site_with_fake_mode import deployment


@pytest.fixture
def town() -> Town:
    return Town(POLL)


@pytest.fixture
def person(tmp_path: Path, town: Town) -> Person:
    return Person(deployment(tmp_path), town)


@pytest.mark.parametrize(
    ("accept", "pages"),
    [
        (CHROMIUM, True),
        ("text/html", True),
        ("text/*", True),
        ("text/html;q=0.5, application/json;q=0.4", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0.5, */*", False),
        ("text/html;q=0", False),
        ("text/plain", False),
        ("text/", False),
        ("text/html;q=much", False),
    ],
)
def test_whoever_prefers_html_to_json_gets_pages(accept: str, pages: bool) -> None:
    assert prefers_pages({"HTTP_ACCEPT": accept}) is pages


def test_who_says_nothing_gets_json_at_the_same_addresses(person: Person, town: Town) -> None:
    for path in ("/", "/polls/town-hall", "/polls/town-hall/results", "/nowhere"):
        asked = person.simulate_get(path, headers={"Accept": "*/*"})
        assert "json" in asked.headers["content-type"]
        shown = person.simulate_get(path)
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert asked.headers["vary"] == shown.headers["vary"] == "Accept"
    form = person.simulate_post(
        "/polls/town-hall/votes",
        body='{"vote": "00000000000000a1", "choice": 1, "voter": "v1"}',
        headers={"Accept": "*/*", "Content-Type": FORM},  # as `curl -d` sends it
    )
    assert form.status_code == 201
    assert town.ballots.keys() == {0xA1}


def test_what_is_no_page_is_shown_to_people_all_the_same(person: Person) -> None:
    assert person.simulate_get("/health/ready").json == {"status": "ready"}
    assert "pollstorm_in_flight" in person.simulate_get("/metrics").text
    assert person.simulate_get("/openapi.json").json["openapi"]


def test_the_list_has_open_polls_first_and_leads_to_them(person: Person, town: Town) -> None:
    town.known = {
        "b": Poll("b", "Closed?", ("x", "y"), closed=True),
        "a": Poll("a", "Open?", ("x", "y"), once=True),
    }
    page = person.open("/")
    assert page.index("Open?") < page.index("Closed?")
    assert '<a class="question" dir="auto" href="/polls/a">Open?</a>' in page
    assert '<a class="question" dir="auto" href="/polls/b/results">Closed?</a>' in page
    town.known = {}
    assert "nothing to vote on" in person.open("/")


def test_a_poll_for_programs_stands_in_the_list_with_its_state(person: Person) -> None:
    listed = person.simulate_get("/", headers={"Accept": "*/*"}).json["polls"]
    assert listed == [
        {"poll": "town-hall", "question": POLL.question, "once": False, "closed": False}
    ]


def test_a_vote_leads_to_the_results_which_thank_once(person: Person, town: Town) -> None:
    answer = person.vote(2)
    assert (answer.status_code, answer.headers["location"]) == (303, "/polls/town-hall/results")
    (ballot,) = town.ballots.values()
    assert (ballot.poll, ballot.choice, ballot.voter[:4]) == ("town-hall", 2, "web-")
    page = person.open("/polls/town-hall/results")
    assert notice_in(page) == "Thank you. Your vote is counted."
    assert re.search(r"No <span[^>]*>Your vote</span></span>\s*<span class=\"share\">100 %", page)
    again = person.open("/polls/town-hall/results")
    assert notice_in(again) == ""
    assert "Your vote" not in again


def test_a_queued_vote_is_thanked_for_too(person: Person, town: Town) -> None:
    town.says = Answer.QUEUED
    person.vote()
    assert "Your vote is taken in" in person.told()


def test_a_paper_that_is_sent_twice_counts_once(person: Person, town: Town) -> None:
    paper = paper_in(person.open("/polls/town-hall"))
    for choice in (2, 2, 1):
        assert person.vote(choice, paper).status_code == 303
    assert person.told().startswith("You had sent this form before, with another choice.")
    assert [vote.choice for vote in town.ballots.values()] == [2]
    assert person.vote().status_code == 303  # a fresh paper
    assert len(town.ballots) == 2


def test_who_has_voted_in_a_once_only_poll_is_told_so(person: Person, town: Town) -> None:
    town.known = {POLL.name: POLL._replace(once=True)}
    assert "counted once" in person.open("/polls/town-hall")
    paper = paper_in(person.open("/polls/town-hall"))
    assert person.vote(2, paper).status_code == 303
    assert person.vote(2, paper).status_code == 303  # a double click is no second vote
    assert person.told().startswith("Thank you.")
    assert person.vote(1).status_code == 303
    page = person.open("/polls/town-hall/results")
    assert notice_in(page).startswith("You have already voted.")
    assert "Your vote" not in page
    assert 'class="button" href' not in page  # nothing more to vote
    assert [(vote.choice, vote.once) for vote in town.ballots.values()] == [(2, True)]


def test_a_closed_poll_has_no_form_and_takes_no_paper_that_is_still_out(
    person: Person, town: Town
) -> None:
    paper = paper_in(person.open("/polls/town-hall"))
    town.known = {POLL.name: POLL._replace(closed=True)}
    page = person.open("/polls/town-hall")
    assert "takes no votes any more" in page
    assert "<form" not in page
    assert person.vote(2, paper).status_code == 303
    page = person.open("/polls/town-hall/results")
    assert notice_in(page) == "The poll had closed before your vote came, so it was not counted."
    assert "this poll is closed" in page
    assert 'class="button" href' not in page  # nothing more to vote
    assert town.ballots == {}


def test_after_an_unknown_outcome_the_same_vote_can_be_sent_again(
    person: Person, town: Town
) -> None:
    town.says = Answer.UNKNOWN
    answer = person.vote(3)
    assert answer.status_code == 504
    assert "it never counts twice" in answer.text
    paper = paper_in(answer.text)
    assert 'name="choice" value="3"' in answer.text
    town.says = None
    assert person.vote(3, paper).status_code == 303
    assert set(town.ballots) == {int(paper, 16)}


def test_a_refused_vote_can_be_sent_again_after_a_while(person: Person, town: Town) -> None:
    town.says = Answer.REFUSED
    answer = person.vote(3)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "Your vote was written nowhere." in answer.text
    assert paper_in(answer.text)


def test_who_has_voted_is_thanked_although_the_results_cannot_be_shown(
    person: Person, town: Town
) -> None:
    person.vote()
    town.silent = True
    for _ in range(2):
        answer = person.ask("GET", "/polls/town-hall/results")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert notice_in(answer.text) == "Thank you. Your vote is counted."
    town.silent = False
    assert person.told() == "Thank you. Your vote is counted."
    assert person.told() == ""


def test_an_empty_paper_comes_back_with_what_is_missing(person: Person, town: Town) -> None:
    paper = paper_in(person.open("/polls/town-hall"))
    answer = person.ask("POST", "/polls/town-hall/votes", f"vote={paper}")
    assert answer.status_code == 422
    assert notice_in(answer.text) == "Choose one of the answers."
    assert "<title>Error: Choose one" in answer.text
    assert paper_in(answer.text) == paper
    assert town.ballots == {}


PAPERS = {
    "nothing": "",
    "no form": "{}",
    "no number": "choice=1",
    "a number of the load's": "vote=00000000000000a1&choice=1",
    "a number in upper case": "vote=80000000000000A1&choice=1",
    "choice 0": f"vote={PAPER}&choice=0",
    "choice of another poll": f"vote={PAPER}&choice=4",
    "choice huge": f"vote={PAPER}&choice={10**40}",
    "choice in other digits": f"vote={PAPER}&choice=%D9%A1",
    "choice and newline": f"vote={PAPER}&choice=1%0A",
    "bad UTF-8": f"vote={PAPER}&choice=%ff",
    "raw UTF-8": f"vote={PAPER}&choice=é",
    "many fields": f"vote={PAPER}&choice=1" + "&a=1" * 20,
}


@pytest.mark.parametrize("body", PAPERS.values(), ids=PAPERS.keys())
def test_a_bad_paper_is_no_vote(person: Person, town: Town, body: str) -> None:
    person.open("/polls/town-hall")
    answer = person.ask("POST", "/polls/town-hall/votes", body)
    assert answer.status_code == 422
    assert "That was no vote" in answer.text
    assert town.ballots == {}


def test_a_form_that_is_too_large_or_of_another_kind_is_no_vote(person: Person, town: Town) -> None:
    person.open("/polls/town-hall")
    body = f"vote={PAPER}&choice=1&x={'x' * 5000}"
    assert person.ask("POST", "/polls/town-hall/votes", body).status_code == 413
    plain = person.vote(1, PAPER, Content_Type="text/plain")
    assert plain.status_code == 422
    assert town.ballots == {}


def test_a_name_that_no_poll_can_have_stands_on_no_page(person: Person) -> None:
    answer = person.ask("POST", "/polls/Nobody%27s/votes", f"vote={PAPER}&choice=1")
    assert answer.status_code == 404
    assert "Nobody" not in answer.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    fields=st.lists(
        st.tuples(st.sampled_from(["vote", "choice", "x"]), st.just(PAPER) | st.text(max_size=20)),
        max_size=5,
    )
)
def test_no_form_whatever_is_a_server_error(person: Person, fields: list[tuple[str, str]]) -> None:
    person.open("/polls/town-hall")
    body = urlencode(fields, errors="surrogatepass")
    assert person.ask("POST", "/polls/town-hall/votes", body).status_code in (303, 422)


def test_texts_of_a_poll_are_never_markup(person: Person, town: Town) -> None:
    hostile = "</title><script>alert('1')</script>\"'"
    town.known = {POLL.name: Poll(POLL.name, hostile, (hostile, "No"))}
    for path in ("/", "/polls/town-hall", "/polls/town-hall/results"):
        page = person.open(path)
        assert "<script>" not in page
        assert "&lt;script&gt;alert(&#39;1&#39;)" in page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/polls/elsewhere", 404),
        ("/polls/elsewhere/results", 404),
        ("/polls/a%0Ab/results", 404),
        ("/polls/a%0Ab/votes", 404),
        ("/static/results.js", 404),
        ("/static/%2e%2e/app.py", 404),
    ],
)
def test_an_address_without_a_page_leads_back_to_the_list(
    person: Person, path: str, status: int
) -> None:
    answer = person.simulate_get(path)
    assert answer.status_code == status
    assert 'class="button" href="/"' in answer.text


def test_a_wrong_method_and_a_failure_that_nobody_foresaw_are_pages_too(
    person: Person, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = person.simulate_delete("/polls/town-hall")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert answer.headers["content-type"].startswith("text/html")

    def fail(*_: object) -> None:
        raise ZeroDivisionError("voter v1 fell over")

    monkeypatch.setattr(town, "totals", fail)
    answer = person.simulate_get("/polls/town-hall/results")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "fell over" not in answer.text


def test_who_asks_for_the_address_of_votes_is_led_to_the_poll(person: Person) -> None:
    answer = person.simulate_get("/polls/town-hall/votes")
    assert (answer.status_code, answer.headers["location"]) == (303, "/polls/town-hall")


def test_head_is_get_without_the_body(person: Person) -> None:
    for path in ("/", "/polls/town-hall", "/polls/town-hall/results"):
        answer = person.simulate_head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_every_answer_keeps_browsers_on_a_short_lead(person: Person) -> None:
    for accept in (CHROMIUM, "*/*"):
        for method, path in (
            ("GET", "/"),
            ("GET", "/polls/town-hall"),
            ("GET", "/nowhere"),
            ("POST", "/polls/town-hall/votes"),
            ("PUT", "/void"),
            ("GET", "/metrics"),
        ):
            headers = person.simulate_request(method, path, headers={"Accept": accept}).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "same-origin"
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy


def test_files_of_pages_are_kept_for_good_by_whoever_asks(person: Person) -> None:
    page = person.open("/polls/town-hall/results")
    for pattern, media_type in (
        (r'src="(/static/results-\w+\.js)"', "text/javascript; charset=utf-8"),
        (r'href="(/static/icon-\w+\.svg)"', "image/svg+xml"),
    ):
        found = re.search(pattern, page)
        assert found
        for accept in (CHROMIUM, "*/*"):
            file = person.simulate_get(found[1], headers={"Accept": accept})
            assert file.headers["content-type"] == media_type
            assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
            wrong = person.simulate_post(found[1], headers={"Accept": accept})
            assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")


def test_a_page_asks_nobody_but_this_site(person: Person) -> None:
    for path in ("/", "/polls/town-hall", "/polls/town-hall/results"):
        links = re.findall(r'(?:src|href|action)="([^"]*)"', person.open(path))
        assert links
        assert all(link.startswith("/") and not link.startswith("//") for link in links)


@pytest.mark.parametrize(
    ("share", "written"),
    [(0.0, "0 %"), (0.001, "1 %"), (0.125, "13 %"), (0.5, "50 %"), (0.999, "99 %"), (1.0, "100 %")],
)
def test_shares_are_whole_percent_and_say_who_has_some(share: float, written: str) -> None:
    assert percent(share) == written


@pytest.mark.parametrize(
    ("age_s", "written"),
    [
        (0.0, "just now"),
        (0.999, "just now"),
        (1.0, "1 second ago"),
        (59.9, "59 seconds ago"),
        (60, "1 minute ago"),
        (7300, "2 hours ago"),
    ],
)
def test_ages_are_told_in_their_largest_unit(age_s: float, written: str) -> None:
    assert age(age_s) == written


def test_results_say_how_old_they_are(person: Person, town: Town) -> None:
    town.counted_ago_s = 185.0
    assert "3 minutes ago" in person.open("/polls/town-hall/results")
