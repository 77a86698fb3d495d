"""The vote server over a mode that does what each test tells it, without any service."""

import json
from pathlib import Path

import falcon.testing
import pytest

from harness.errors import RecordingError
from harness.modes.mode import Answer, Unavailable
from harness.site import log
from harness.site.app import create_app
from harness.vote import Vote, VoteId
from tests.documented import DocumentedClient
from tests.scripted_mode import GOOD, VOTES, Scripted, assert_problem, post
from tests.site_with_fake_mode import POLL, deployment

SESSIONS = 4 + 1  # those for votes, and the one that says whether the site is ready


@pytest.fixture
def mode() -> Scripted:
    return Scripted()


@pytest.fixture
def site(tmp_path: Path, mode: Scripted) -> falcon.testing.TestClient:
    return DocumentedClient(create_app(deployment(tmp_path), mode))


@pytest.mark.parametrize(
    ("answer", "status"), [(Answer.STORED, 201), (Answer.QUEUED, 202)], ids=lambda value: str(value)
)
def test_a_vote_taken_in_is_answered_with_its_id(
    site: falcon.testing.TestClient, mode: Scripted, answer: Answer, status: int
) -> None:
    mode.accepts = answer
    told = post(site, GOOD)
    assert told.status_code == status
    assert told.json == {"status": answer.value, "vote": GOOD["vote"]}
    assert mode.votes == [Vote(VoteId(0xA1), "town-hall", 2, "v1")]
    assert told.headers["x-content-type-options"] == "nosniff"


def test_a_vote_in_a_once_only_poll_is_its_voters_only_one(
    site: falcon.testing.TestClient, mode: Scripted
) -> None:
    mode.polls = {POLL.name: POLL._replace(once=True)}
    assert post(site, GOOD).status_code == 201
    assert mode.votes == [Vote(VoteId(0xA1), "town-hall", 2, "v1", once=True)]


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (Answer.CONFLICT, 409, "conflict"),
        (Answer.ALREADY_VOTED, 409, "already-voted"),
        (Answer.REFUSED, 503, "refused"),
        (Answer.UNKNOWN, 504, "outcome-unknown"),
    ],
)
def test_a_vote_not_taken_in_is_a_problem(
    site: falcon.testing.TestClient, mode: Scripted, answer: Answer, status: int, kind: str
) -> None:
    mode.accepts = answer
    told = post(site, GOOD)
    assert_problem(told, status, kind)
    assert ("retry-after" in told.headers) == (status == 503)


def test_a_poll_that_does_not_exist_is_404(site: falcon.testing.TestClient, mode: Scripted) -> None:
    assert_problem(post(site, GOOD, "/polls/elsewhere/votes"), 404, "unknown-poll")
    assert mode.asked == ["elsewhere"]


def test_a_closed_poll_takes_no_votes_but_shows_its_results(
    site: falcon.testing.TestClient, mode: Scripted
) -> None:
    mode.polls = {POLL.name: POLL._replace(closed=True)}
    assert_problem(post(site, GOOD), 403, "poll-closed")
    assert mode.votes == []
    assert site.simulate_get("/polls/town-hall/results").json["total"] == 6
    assert 'kind="vote",status="403"} 1.0' in site.simulate_get("/metrics").text


def test_results_name_each_choice_and_when_they_were_counted(
    site: falcon.testing.TestClient,
) -> None:
    page = site.simulate_get("/polls/town-hall/results").json
    assert page["choices"] == [
        {"choice": 1, "text": "Yes", "votes": 4},
        {"choice": 2, "text": "No", "votes": 0},
        {"choice": 3, "text": "Only the door", "votes": 2},
    ]
    assert page["total"] == 6
    assert page["as_of"] == "2023-11-14T22:13:20.250+00:00"
    assert page["age_s"] > 0


def test_a_poll_tells_its_question_and_choices(site: falcon.testing.TestClient) -> None:
    page = site.simulate_get("/polls/town-hall").json
    assert page["question"] == "Orange?"
    assert [choice["choice"] for choice in page["choices"]] == [1, 2, 3]


def test_totals_and_polls_that_nobody_can_say_are_503(
    site: falcon.testing.TestClient, mode: Scripted
) -> None:
    mode.counts = Unavailable()
    assert_problem(site.simulate_get("/polls/town-hall/results"), 503, "unavailable")
    mode.polls = Unavailable()
    told = post(site, GOOD)
    assert_problem(told, 503, "unavailable")
    assert told.headers["retry-after"] == "1"
    assert mode.votes == []
    assert mode.closed == 0  # the session said so itself: it is whole


def test_a_full_disk_refuses_the_vote_and_tells_the_run(
    site: falcon.testing.TestClient, mode: Scripted, tmp_path: Path
) -> None:
    mode.accepts = RecordingError("cannot record in /x: No space left on device; make room")
    assert_problem(post(site, GOOD), 503, "recording-failed")
    assert "No space left" in (tmp_path / "recording-failed").read_text()
    assert mode.closed == 1
    assert_problem(site.simulate_get("/health/ready"), 503, "not-ready")


def test_an_unforeseen_error_leaves_the_outcome_unknown_and_closes_the_session(
    site: falcon.testing.TestClient, mode: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    mode.accepts = OSError("voter v1 fell over")
    assert_problem(post(site, GOOD), 504, "outcome-unknown")
    assert (mode.opened, mode.closed) == (SESSIONS + 1, 1)
    mode.accepts = Answer.STORED
    assert post(site, GOOD).status_code == 201
    assert (mode.opened, mode.closed) == (SESSIONS + 1, 1)
    assert "accepting a vote: OSError at scripted_mode.py" in caplog.text
    assert "fell over" not in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
@pytest.mark.parametrize(
    ("where", "method", "path"),
    [
        ("accepts", "POST", VOTES),
        ("polls", "POST", VOTES),
        ("counts", "GET", "/polls/town-hall/results"),
        ("ready", "GET", "/health/ready"),
    ],
)
def test_whatever_escapes_from_a_session_closes_it(
    site: falcon.testing.TestClient,
    mode: Scripted,
    where: str,
    method: str,
    path: str,
    error: BaseException,
) -> None:
    setattr(mode, where, error)
    with pytest.raises(type(error)):
        site.simulate_request(method, path, body=json.dumps(GOOD).encode())
    assert mode.closed == 1


def test_an_unforeseen_error_on_a_page_is_a_problem_too(
    site: falcon.testing.TestClient, mode: Scripted
) -> None:
    mode.counts = ZeroDivisionError()
    assert_problem(site.simulate_get("/polls/town-hall/results"), 500, "internal-error")
    assert mode.closed == 1


def test_a_flood_of_one_error_is_a_handful_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    error = OSError()
    for _ in range(1000):
        log.unforeseen("flooding", error)
    assert [record.args[1] for record in caplog.records] == [1, 10, 100, 1000]  # type: ignore


def test_readiness_is_the_modes_and_liveness_is_not(
    site: falcon.testing.TestClient, mode: Scripted
) -> None:
    assert site.simulate_get("/health/ready").json == {"status": "ready"}
    mode.ready = False
    assert_problem(site.simulate_get("/health/ready"), 503, "not-ready")
    assert site.simulate_get("/health/live").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", VOTES, "POST"),
        ("PUT", VOTES, "POST"),
        ("HEAD", VOTES, "POST"),
        ("POST", "/polls/town-hall/results", "GET, HEAD"),
        ("DELETE", "/polls/town-hall", "GET, HEAD"),
        ("GET", "/void", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    site: falcon.testing.TestClient, method: str, path: str, allowed: str
) -> None:
    told = site.simulate_request(method, path)
    assert told.status_code == 405
    assert told.headers["allow"] == f"{allowed}, OPTIONS"
    if method != "HEAD":
        assert_problem(told, 405, "method-not-allowed")


def test_head_is_get_without_the_body(site: falcon.testing.TestClient) -> None:
    for path in ("/polls/town-hall", "/polls/town-hall/results", "/health/ready", "/health/live"):
        told = site.simulate_head(path)
        assert (told.status_code, told.content) == (200, b"")


def test_an_address_without_a_page_is_a_problem(site: falcon.testing.TestClient) -> None:
    assert_problem(site.simulate_get("/polls"), 404, "no-such-page")
    assert_problem(site.simulate_get("/polls/a/b/c"), 404, "no-such-page")


def test_void_reads_and_does_nothing(site: falcon.testing.TestClient, mode: Scripted) -> None:
    assert post(site, GOOD, "/void").status_code == 204
    assert_problem(post(site, b"x" * 5000, "/void"), 413, "body-too-large")
    assert mode.asked == []
