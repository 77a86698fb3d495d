"""The site as people see it, asked for as a browser asks; without JavaScript, and without one."""

import os
import re
import stat
from pathlib import Path
from urllib.parse import urlencode

import falcon.testing
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from itsdangerous import Signer

from harness.errors import PlanError, RecordingError
from harness.modes.mode import Answer
from harness.plan import Deployment, Site
from harness.site.app import create_app, prefers_pages
from harness.site.ballot_paper import PEOPLE, mint_at_random
from harness.site.cookie import voters_key
from harness.site.pages import age, percent
from harness.vote import Poll, Vote, VoteId, mint
from tests.site_in_thread import Town
from tests.site_with_fake_mode import deployment

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
FORM = "application/x-www-form-urlencoded"
POLL = Poll("town-hall", "Orange <b>& blue</b>?", ("Yes", "No", "Only the 'door'"))
SECRET = "an example of a secret, long enough"
PAPER = "80000000000000a1"


class Person(falcon.testing.TestClient):
    """Somebody with a browser: it asks for HTML and keeps cookies."""

    def __init__(self, deployment: Deployment, town: Town) -> None:
        super().__init__(create_app(deployment, town), headers={"Accept": CHROMIUM})
        self.jar: dict[str, str] = {}

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> falcon.testing.Result:
        sent = {"Content-Type": FORM} if method == "POST" else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.simulate_request(
            method,
            path,
            body=body,
            cookies=dict(self.jar),
            headers=sent,
        )
        for name, cookie in answer.cookies.items():
            self.jar[name] = cookie.value
            if cookie.max_age == 0:
                del self.jar[name]
        return answer

    def open(self, path: str) -> str:
        return self.ask("GET", path).text

    def vote(
        self, choice: object = 2, paper: str | None = None, **headers: str
    ) -> falcon.testing.Result:
        """Fill in a paper, a fresh one if none is given, and send it."""
        if paper is None:
            paper = paper_in(self.open("/polls/town-hall"))
        fields = urlencode({"vote": paper, "choice": choice})
        return self.ask("POST", "/polls/town-hall/votes", fields, **headers)

    def told(self) -> str:
        """What the page that the vote led to says first."""
        return notice_in(self.open("/polls/town-hall/results"))


def paper_in(page: str) -> str:
    found = re.search(r'name="vote" value="([0-9a-f]{16})"', page)
    assert found, page
    return found[1]


def notice_in(page: str) -> str:
    found = re.search(r'class="notice \w+"[^>]*>([^<]*)<', page)
    return found[1] if found else ""


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


def test_a_page_asks_nobody_but_this_site(person: Person) -> None:
    for path in ("/", "/polls/town-hall", "/polls/town-hall/results"):
        links = re.findall(r'(?:src|href|action)="([^"]*)"', person.open(path))
        assert links
        assert all(link.startswith("/") and not link.startswith("//") for link in links)


def voter_cookie(person: Person) -> str:
    (value,) = (value for name, value in person.jar.items() if name.endswith("pollstorm-voter"))
    return value


def test_a_voter_keeps_her_name_and_others_have_another(
    person: Person, town: Town, tmp_path: Path
) -> None:
    person.vote()
    person.vote()
    other = Person(deployment(tmp_path), town)
    other.vote()
    first, second, third = (vote.voter for vote in town.ballots.values())
    assert first == second != third


def test_the_voters_cookie_is_out_of_reach_of_scripts_and_other_sites(person: Person) -> None:
    cookie = person.ask("GET", "/polls/town-hall").cookies["pollstorm-voter"]
    assert (cookie.http_only, cookie.same_site, cookie.path) == (True, "Lax", "/")
    assert cookie.secure is False
    assert cookie.max_age is not None
    assert cookie.max_age > 30_000_000
    assert person.ask("GET", "/polls/town-hall").cookies == {}  # she has one now


def test_behind_https_the_cookie_comes_by_https_only(tmp_path: Path, town: Town) -> None:
    given = deployment(tmp_path)
    plan = msgspec.structs.replace(given.plan, site=Site(workers=1, threads=1, https=True))
    person = Person(msgspec.structs.replace(given, plan=plan), town)
    cookie = person.ask("GET", "/polls/town-hall").cookies["__Host-pollstorm-voter"]
    assert (cookie.secure, cookie.path, cookie.domain) == (True, "/", None)
    assert person.vote().status_code == 303
    assert len(town.ballots) == 1


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: "",
        lambda _: "web-0123456789abcdefghijkl",
        lambda value: value[:-1] + ("A" if value[-1] != "A" else "B"),
        lambda value: "web-somebody-else" + value[value.index(".") :],
        lambda value: value.partition(".")[0] + ".",
        lambda value: value + "\x7f",
        lambda _: Signer("another key", salt="pollstorm voter").sign("web-x").decode(),
    ],
)
def test_a_forged_cookie_is_no_voter_and_is_replaced(
    person: Person, town: Town, forge: object
) -> None:
    person.open("/polls/town-hall")
    assert callable(forge)
    person.jar["pollstorm-voter"] = forge(voter_cookie(person))
    answer = person.vote(2, PAPER)
    assert answer.status_code == 403
    assert "sent no cookie" in answer.text
    assert town.ballots == {}
    assert person.vote().status_code == 303  # with the one that the form brought along


@pytest.mark.parametrize(
    "value", ["", "stored", "stored.x", "stored.1111", "thanks.1", ".", "stored.²"]
)
def test_tidings_that_are_not_ours_are_not_told(person: Person, value: str) -> None:
    person.jar["pollstorm-told"] = value
    assert person.told() == ""


CROSS = {
    "another site, says the browser": {"Sec_Fetch_Site": "cross-site"},
    "a neighbour, says the browser": {"Sec_Fetch_Site": "same-site"},
    "another origin": {"Origin": "https://elsewhere.example"},
    "no origin of its own": {"Origin": "null"},
    "an origin that is none": {"Origin": "http://[::1"},
    "another port": {"Origin": "http://falconframework.org:81"},
}


@pytest.mark.parametrize("headers", CROSS.values(), ids=CROSS.keys())
def test_a_form_of_another_site_is_refused(
    person: Person, town: Town, headers: dict[str, str]
) -> None:
    answer = person.vote(2, **headers)
    assert answer.status_code == 403
    assert "a page of another site" in answer.text
    assert town.ballots == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none", "Origin": "null"},
        {"Origin": "http://FalconFramework.org"},
        {"Origin": "https://falconframework.org"},  # the proxy before us speaks https
    ],
)
def test_a_form_of_our_own_is_taken(person: Person, town: Town, headers: dict[str, str]) -> None:
    assert person.vote(2, **headers).status_code == 303
    assert len(town.ballots) == 1


def test_the_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    given = deployment(tmp_path)
    key = voters_key(given)
    assert voters_key(given) == key
    assert len(key) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["voters.key"]
    assert stat.S_IMODE((tmp_path / "voters.key").stat().st_mode) == 0o600


def test_of_two_processes_that_make_a_key_at_once_both_have_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(draft: str, path: Path) -> None:
        path.write_text("that of the other process")
        link(draft, path)

    monkeypatch.setattr(os, "link", late)
    assert voters_key(deployment(tmp_path)) == "that of the other process"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_given_secret_goes_before_the_folders_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = msgspec.structs.replace(deployment(tmp_path), secret=SECRET)
    assert voters_key(given) == SECRET
    monkeypatch.setenv("POLLSTORM_SECRET", SECRET[::-1])
    assert voters_key(given) == SECRET[::-1]
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("POLLSTORM_SECRET", "too short")
    with pytest.raises(PlanError, match="fewer than 32 characters") as caught:
        voters_key(given)
    assert "too short" not in str(caught.value)


def test_a_folder_that_keeps_no_key_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match=r"cannot keep a key in .*: File exists; make room"):
        voters_key(deployment(tmp_path / "file"))


def test_papers_of_people_and_ids_of_loads_never_meet() -> None:
    ids = {mint_at_random() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(PEOPLE <= each < 1 << 64 for each in ids)
    assert mint(1000, 0) < PEOPLE
    assert Vote.from_message(Vote(VoteId(max(ids)), "a", 1, "web-x").to_message())


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
