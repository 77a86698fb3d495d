"""What a voter makes of the bytes that come back, and of a target."""

import json
from collections import Counter

import pytest

from harness.errors import PlanError
from harness.load.answer import MAX_ANSWER_BYTES, Answer, Nonsense, outcome_of, read_answer
from harness.load.request import ALLOW_TARGET, Requests, Target, VoidRequests
from harness.plan import Voters
from harness.vote import Outcome, Poll, VoteId, mint, recast, voter_of

PLAIN = b'HTTP/1.1 202 Accepted\r\nContent-Length: 19\r\n\r\n{"status":"queued"}'
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n7\r\n, voter\r\n0\r\n\r\n"
)


def read(*pieces: bytes) -> Answer:
    """The answer that comes in these pieces, after which the connection ends."""
    left = list(pieces)
    return read_answer(lambda _: left.pop(0) if left else b"")


def each_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


@pytest.mark.parametrize(("answer", "status"), [(PLAIN, 202), (CHUNKED, 201)])
def test_an_answer_reads_the_same_in_one_piece_and_byte_by_byte(answer: bytes, status: int) -> None:
    assert read(answer) == read(*each_byte(answer)) == Answer(status, len(answer), True)


def test_retry_after_is_read_in_seconds_and_dates_are_left_alone() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: %b\r\n\r\n"
    assert read(busy % b"7").retry_after_s == 7
    assert read(busy % b"Wed, 21 Oct 2026 07:28:00 GMT").retry_after_s is None


def test_a_connection_is_kept_only_if_both_sides_want_it() -> None:
    assert not read(PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).keep_alive
    assert not read(b"HTTP/1.1 202 Accepted\r\n\r\nuntil the end").keep_alive
    assert not read(b"HTTP/1.0 202 Accepted\r\nContent-Length: 0\r\n\r\n").keep_alive
    assert read(b"HTTP/1.1 204 No Content\r\n\r\n").keep_alive


@pytest.mark.parametrize("cut", [0, 1, 20, len(PLAIN) - 1])
def test_a_connection_that_ends_within_the_answer_is_broken(cut: int) -> None:
    with pytest.raises((ConnectionError, Nonsense)):
        read(PLAIN[:cut])


def test_a_chunked_answer_cut_short_is_broken() -> None:
    with pytest.raises(ConnectionError):
        read(CHUNKED[:-12])


@pytest.mark.parametrize(
    "garbage", [b"220 mail.example ESMTP\r\n", b"\x00" * 50, b"HTTP/1.1 two OK\r\n\r\n"]
)
def test_what_is_no_http_is_nonsense(garbage: bytes) -> None:
    with pytest.raises(Nonsense):
        read(garbage)


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with pytest.raises(Nonsense):
        read(head, *[bytes(65_536)] * (MAX_ANSWER_BYTES // 65_536 + 2))


@pytest.mark.parametrize("status", [200, 201, 202])
def test_success_acknowledges(status: int) -> None:
    assert outcome_of(status) is Outcome.ACKNOWLEDGED


@pytest.mark.parametrize("status", [404, 408, 409, 422, 429, 503])
def test_refusals_are_certain(status: int) -> None:
    assert outcome_of(status) is Outcome.REFUSED


@pytest.mark.parametrize("status", [500, 502, 504, 302])
def test_everything_else_leaves_the_vote_open(status: int) -> None:
    assert outcome_of(status) is Outcome.UNKNOWN


@pytest.mark.parametrize("kind", [Requests, VoidRequests])
def test_a_vote_request_has_the_length_that_it_says(kind: type[Requests]) -> None:
    requests = kind(Target("127.0.0.1", 80), Poll("p", "?", ("a",)), Voters(), 1)
    for choice in (1, 100):
        head, _, body = requests.vote(VoteId(2**48 + 5), choice).partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(body) in head
        assert json.loads(body) == {
            "vote": "0001000000000005",
            "choice": choice,
            "voter": "v0001000000000005",
        }
    assert head.startswith(b"POST /void " if kind is VoidRequests else b"POST /polls/p/votes ")


def test_voters_with_several_votes_have_one_name_in_all_generators() -> None:
    voters = Voters(votes_each=4, generators=2)
    requests = Requests(Target("127.0.0.1", 80), Poll("p", "?", ("a",)), voters, 2)
    for generator in (1, 2):
        for sequence in range(8):
            vote = mint(generator, sequence)
            body = json.loads(requests.vote(vote, 1).partition(b"\r\n\r\n")[2])
            assert body["voter"] == voter_of(vote, 4, 2) == f"v{sequence // 2:016x}"
            assert body["vote"] == f"{vote:016x}"


def test_a_voter_who_casts_her_vote_again_keeps_her_name() -> None:
    first = mint(3, 9)
    again = recast(recast(first))
    assert voter_of(again) == voter_of(first) == f"v{first:016x}"
    requests = Requests(Target("127.0.0.1", 80), Poll("p", "?", ("a",)), Voters(), 1)
    assert b'"voter":"%s"' % voter_of(again).encode() in requests.vote(again, 1)
    assert voter_of(again, 5, 3) == voter_of(first, 5, 3)


def test_of_a_load_each_voter_casts_as_many_votes_as_the_plan_says() -> None:
    for generators in (1, 2, 3):
        for votes_each in (2, 4, 5):
            votes = [mint(g, n) for n in range(40) for g in range(1, generators + 1)]
            named = Counter(voter_of(vote, votes_each, generators) for vote in votes)
            assert set(named.values()) == {votes_each}


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://:80", "http://127.0.0.1:http", ""])
def test_what_is_no_target_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(PlanError, match=r"^host [^\n]+$"):
        Target.from_url(url)


def test_only_loopback_or_the_named_hosts_may_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    Target.from_url("http://localhost:8000").require_allowed()
    monkeypatch.delenv(ALLOW_TARGET, raising=False)
    with pytest.raises(PlanError, match=ALLOW_TARGET):
        Target("192.0.2.1", 80).require_allowed()
    monkeypatch.setenv(ALLOW_TARGET, "192.0.2.1")
    Target("192.0.2.1", 80).require_allowed()
    with pytest.raises(PlanError):
        Target("192.0.2.2", 80).require_allowed()
    monkeypatch.setenv(ALLOW_TARGET, "192.0.2.1, 192.0.2.2")
    Target("192.0.2.1", 80).require_allowed()
    Target("192.0.2.2", 80).require_allowed()
