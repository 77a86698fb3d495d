"""What a site is sent that means ill, or is broken: none of it reaches the mode."""

import io
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.site.app import create_app
from harness.site.body import MAX_BODY_BYTES
from harness.vote import Vote
from tests.documented import DocumentedClient
from tests.scripted_mode import GOOD, VOTES, Scripted, assert_problem, post
from tests.site_with_fake_mode import deployment


@pytest.fixture
def mode() -> Scripted:
    return Scripted()


@pytest.fixture
def site(tmp_path: Path, mode: Scripted) -> falcon.testing.TestClient:
    return DocumentedClient(create_app(deployment(tmp_path), mode))


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
