"""The vote server over a mode that does what each test tells it, without any service."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import RecordingError
from harness.history.journal import Journal
from harness.modes.mode import Answer, Totals, Unavailable
from harness.plan import Deployment, Site
from harness.site import log
from harness.site.app import create_app, threads_of
from harness.site.body import MAX_BODY_BYTES
from harness.site.metrics import SPARE_ROWS, in_flight
from harness.vote import Poll, Vote, VoteId
from tests.documented import DocumentedClient
from tests.site_with_fake_mode import POLL, deployment

VOTES = "/polls/town-hall/votes"
SESSIONS = 4 + 1  # those for votes, and the one that says whether the site is ready
GOOD: dict[str, Any] = {"vote": "00000000000000a1", "choice": 2, "voter": "v1"}


class Scripted:
    """A mode and its own session; counts what is asked of it."""

    name = "scripted"
    promises = True
    queues = False

    def __init__(self) -> None:
        self.accepts: Answer | BaseException = Answer.STORED
        self.polls: dict[str, Poll] | BaseException = {POLL.name: POLL}
        self.counts: Totals | BaseException = Totals((4, 0, 2), 1_700_000_000.25)
        self.ready: bool | BaseException = True
        self.votes: list[Vote] = []
        self.asked: list[str] = []
        self.opened = 0
        self.closed = 0
        self.while_finding: Any = lambda: None
        self.while_accepting: Any = lambda: None

    def session(self, _deployment: Deployment, _journal: Journal | None) -> "Scripted":
        self.opened += 1
        return self

    def find_poll(self, name: str) -> Poll | None:
        self.asked.append(name)
        self.while_finding()
        if isinstance(self.polls, BaseException):
            raise self.polls
        return self.polls.get(name)

    def list_polls(self) -> tuple[Poll, ...]:
        if isinstance(self.polls, BaseException):
            raise self.polls
        return tuple(self.polls.values())

    def accept(self, vote: Vote) -> Answer:
        self.votes.append(vote)
        self.while_accepting()
        if isinstance(self.accepts, BaseException):
            raise self.accepts
        return self.accepts

    def totals(self, _poll: Poll) -> Totals:
        if isinstance(self.counts, BaseException):
            raise self.counts
        return self.counts

    def is_ready(self) -> bool:
        if isinstance(self.ready, BaseException):
            raise self.ready
        return self.ready

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def mode() -> Scripted:
    return Scripted()


@pytest.fixture
def site(tmp_path: Path, mode: Scripted) -> falcon.testing.TestClient:
    return DocumentedClient(create_app(deployment(tmp_path), mode))


def post(site: falcon.testing.TestClient, body: Any, path: str = VOTES) -> falcon.testing.Result:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return site.simulate_post(path, body=raw)


def assert_problem(answer: falcon.testing.Result, status: int, kind: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["type"] == f"urn:pollstorm:problem:{kind}"
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert answer.json["detail"]


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


HOSTILE = {
    "no body": b"",
    "no JSON": b"vote=1",
    "half JSON": b'{"vote": "00000000000000a1"',
    "bad UTF-8": b'{"vote":"00000000000000a1","choice":1,"voter":"\xff\xfe"}',
    "a list": b"[1,2]",
    "nested lists": b"[" * MAX_BODY_BYTES,
    "nested unknown field": b'{"x":' + b"[" * (MAX_BODY_BYTES - 5),
    "null": b"null",
    "empty object": {},
    "no voter": {"vote": GOOD["vote"], "choice": 1},
    "choice 0": GOOD | {"choice": 0},
    "choice -1": GOOD | {"choice": -1},
    "choice of another poll": GOOD | {"choice": 4},
    "choice true": GOOD | {"choice": True},
    "choice 1.5": GOOD | {"choice": 1.5},
    "choice as text": GOOD | {"choice": "1"},
    "choice huge": GOOD | {"choice": 10**40},
    "vote xyz": GOOD | {"vote": "xyz"},
    "vote in upper case": GOOD | {"vote": "00000000000000A1"},
    "vote of 17 digits": GOOD | {"vote": "0" * 17},
    "vote and newline": GOOD | {"vote": GOOD["vote"] + "\n"},
    "vote as number": GOOD | {"vote": 161},
    "voter with space": GOOD | {"voter": "a b"},
    "voter with newline": GOOD | {"voter": "a\n"},
    "voter empty": GOOD | {"voter": ""},
    "voter not ASCII": GOOD | {"voter": "José"},
    "voter too long": GOOD | {"voter": "v" * 65},
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_bad_body_is_refused_before_the_mode_sees_a_vote(
    site: falcon.testing.TestClient, mode: Scripted, body: Any
) -> None:
    assert_problem(post(site, body), 422, "bad-vote")
    assert mode.votes == []


def test_the_detail_names_the_field_and_quotes_nothing(site: falcon.testing.TestClient) -> None:
    detail = post(site, GOOD | {"voter": "se cret"}).json["detail"]
    assert "voter must be" in detail
    assert "se cret" not in detail


@pytest.mark.parametrize("size", [10_000, 2 << 20])
def test_a_large_body_is_refused(
    site: falcon.testing.TestClient, mode: Scripted, size: int
) -> None:
    assert_problem(post(site, GOOD | {"voter": "v" * size}), 413, "body-too-large")
    assert mode.asked == []


class Endless(io.BytesIO):
    """A body that claims no length and never ends; remembers the most it had to give at once."""

    largest = 0
    given = 0

    def read(self, size: int | None = -1) -> bytes:
        assert (size or -1) > 0, "the whole of an endless body was asked for"
        size = size or 0
        self.largest = max(self.largest, size)
        self.given += size
        return b" " * size


def test_an_endless_body_is_never_held_in_memory(
    site: falcon.testing.TestClient, mode: Scripted
) -> None:
    body = Endless()
    told = site.simulate_post(VOTES, extras={"wsgi.input": body})
    assert_problem(told, 413, "body-too-large")
    assert body.largest <= 64 << 10
    assert body.given < 5 << 20
    assert mode.votes == []


POLL_NAMES = {
    "a space": "town%20hall",
    "a newline": "town-hall%0A",
    "SQL": "x'%20OR%20'1'='1",
    "a semicolon": "a;DROP%20TABLE%20pollstorm_polls",
    "upper case": "TOWN-HALL",
    "not ASCII": "%E2%82%AC",
    "bad percent-encoding": "%zz",
    "bad UTF-8": "%ff",
    "a NUL": "a%00",
    "very long": "a" * 5000,
    "dots": "..",
}


@pytest.mark.parametrize("name", POLL_NAMES.values(), ids=POLL_NAMES.keys())
def test_a_name_that_no_poll_can_have_reaches_neither_memcached_nor_sql(
    site: falcon.testing.TestClient, mode: Scripted, name: str
) -> None:
    assert_problem(post(site, GOOD, f"/polls/{name}/votes"), 404, "unknown-poll")
    assert_problem(site.simulate_get(f"/polls/{name}/results"), 404, "unknown-poll")
    assert_problem(site.simulate_get(f"/polls/{name}"), 404, "unknown-poll")
    assert mode.asked == []


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
    assert "accepting a vote: OSError at test_site.py" in caplog.text
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_whatever_are_a_server_error(site: falcon.testing.TestClient, body: bytes) -> None:
    told = post(site, body)
    assert told.status_code == 422
    assert told.headers["content-type"] == "application/problem+json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.fixed_dictionaries(
        {
            "vote": st.just(GOOD["vote"]) | st.from_regex(r"[0-9a-f]{15,17}") | JSON,
            "choice": st.integers(-1, 5) | JSON,
            "voter": st.just("v1") | st.text(max_size=70) | JSON,
        }
    )
)
def test_what_is_taken_in_survives_the_queues_message(
    site: falcon.testing.TestClient, mode: Scripted, body: dict[str, Any]
) -> None:
    mode.votes.clear()
    told = post(site, body)
    assert told.status_code in (201, 413, 422)
    assert len(mode.votes) == (told.status_code == 201)
    for vote in mode.votes:
        assert Vote.from_message(vote.to_message()) == vote


@pytest.mark.parametrize(
    "vote_id", ["-00000000000000f", "0_00000000000000", "00000000000000A1", "1"]
)
def test_a_message_with_an_id_that_no_client_mints_is_no_vote(vote_id: str) -> None:
    with pytest.raises(ValueError, match="no vote"):
        Vote.from_message(f"{vote_id} 1 town-hall v1".encode())


def test_a_message_of_four_words_is_as_ever_and_a_fifth_says_that_it_is_the_only_one() -> None:
    vote = Vote(VoteId(161), "town-hall", 1, "once")
    assert vote.to_message() == b"00000000000000a1 1 town-hall once"
    assert Vote.from_message(vote.to_message()) == vote
    only = vote._replace(once=True)
    assert only.to_message() == b"00000000000000a1 1 town-hall once once"
    assert Vote.from_message(only.to_message()) == only


@pytest.mark.parametrize("more", [b" twice", b" once once", b" ", b" Once", b" once ", b"  once"])
def test_a_message_with_another_fifth_word_is_no_vote(more: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # no vote, or not four words
        Vote.from_message(b"00000000000000a1 1 town-hall v1" + more)


def test_metrics_count_each_answer_and_what_is_under_way(
    site: falcon.testing.TestClient, mode: Scripted, tmp_path: Path
) -> None:
    seen: list[float] = []
    mode.while_accepting = lambda: seen.append(in_flight(tmp_path))
    post(site, GOOD)
    mode.accepts = Answer.UNKNOWN
    post(site, GOOD)
    post(site, b"")
    site.simulate_get("/polls/town-hall/results")
    page = site.simulate_get("/metrics").text
    for line in (
        'pollstorm_requests_total{kind="vote",status="201"} 1.0',
        'pollstorm_requests_total{kind="vote",status="504"} 1.0',
        'pollstorm_requests_total{kind="vote",status="422"} 1.0',
        'pollstorm_requests_total{kind="results",status="200"} 1.0',
        'pollstorm_request_seconds_bucket{kind="vote",le="+Inf"} 3.0',
        "pollstorm_in_flight 0.0",
    ):
        assert line in page
    assert seen == [1.0, 1.0]
    assert in_flight(tmp_path) == 0.0


def test_a_dead_workers_requests_are_counted_but_no_longer_under_way(
    site: falcon.testing.TestClient, mode: Scripted, tmp_path: Path
) -> None:
    page = next((tmp_path / "metrics").iterdir())
    killed_at = bytearray()
    mode.while_accepting = lambda: killed_at.extend(page.read_bytes())
    post(site, GOOD)
    post(site, GOOD)
    dead = tmp_path / "dead"
    (dead / "metrics").mkdir(parents=True)
    # As SIGKILL leaves it: one request answered, one in flight, and nobody holds the lock.
    (dead / "metrics" / page.name).write_bytes(killed_at[len(killed_at) // 2 :])
    successor = falcon.testing.TestClient(create_app(deployment(dead), mode))
    assert in_flight(dead) == 0.0
    assert 'kind="vote",status="201"} 1.0' in successor.simulate_get("/metrics").text


def test_a_threads_row_goes_to_the_next_one(site: falcon.testing.TestClient) -> None:
    rows = threads_of(Site(threads=4)) + SPARE_ROWS
    for _ in range(rows + 1):
        thread = threading.Thread(target=post, args=(site, GOOD))
        thread.start()
        thread.join()
    assert f'status="201"}} {rows + 1:.1f}' in site.simulate_get("/metrics").text


def test_in_flight_is_zero_where_no_site_ever_was(tmp_path: Path) -> None:
    assert in_flight(tmp_path) == 0.0
