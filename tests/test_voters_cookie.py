"""Who votes: the cookie, the key that signs it, and forms that come from elsewhere."""

import os
import stat
from pathlib import Path

import msgspec
import pytest
from itsdangerous import Signer

from harness.errors import PlanError, RecordingError
from harness.plan import Site
from harness.site.ballot_paper import PEOPLE, mint_at_random
from harness.site.cookie import voters_key
from harness.vote import Vote, VoteId, mint
from tests.person import PAPER, POLL, Person
from tests.site_in_thread import Town
from tests.site_with_fake_mode import deployment

SECRET = "an example of a secret, long enough"


@pytest.fixture
def town() -> Town:
    return Town(POLL)


@pytest.fixture
def person(tmp_path: Path, town: Town) -> Person:
    return Person(deployment(tmp_path), town)


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
        # Not the last character: two of its bits belong to no byte.
        lambda value: value[:-2] + ("A" if value[-2] != "A" else "B") + value[-1],
        lambda value: "web-somebody-else" + value[value.index(".") :],
        lambda value: value.partition(".")[0] + ".",
        lambda value: value + "\x7f",
        lambda value: f'"{value}"',  # nothing is unquoted: Python may take very long for it
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
    "among", ["b; pollstorm-voter={}", "b;pollstorm-voter=x.y;pollstorm-voter = {} ;", ";=;{}"]
)
def test_the_voters_cookie_is_found_among_others(person: Person, town: Town, among: str) -> None:
    person.vote()
    cookie = person.jar.pop("pollstorm-voter")
    person.jar["a"] = among.format(cookie)
    person.vote()
    first, second = (vote.voter for vote in town.ballots.values())
    assert (first == second) == ("voter" in among)


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
