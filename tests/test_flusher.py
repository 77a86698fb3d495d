"""When a flusher drains again, and what it calls empty; on drains written by hand."""

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness.deployment import Deployment
from harness.flusher import (
    FULL_LOAD,
    LAST_TRIES,
    MOST_IN_A_ROW,
    MOST_REFRESHED,
    Flusher,
    polls_of,
)
from harness.history.journal import Journal
from harness.modes.classic import Classic
from harness.modes.mode import Unavailable
from harness.plan import FlusherPlan, Limits, Plan, Site
from harness.protocol.queue import Drained, DrainEnd

EMPTY = Drained(DrainEnd.EMPTY)
VOTE = b"00000000000000a1 1 p v1"
FULL = Drained(DrainEnd.COMMITTED, [VOTE] * FULL_LOAD)
SMALL = Drained(DrainEnd.COMMITTED, [VOTE])
PLAN = Plan(
    scenario="test",
    site=Site(journal=False),
    flusher=FlusherPlan(interval_s=0.001),
    limits=Limits(drain_s=20.0),
)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on when somebody sleeps, and then at once."""
    now_s = [0.0]
    monkeypatch.setattr("harness.flusher.monotonic", lambda: now_s[0])
    monkeypatch.setattr("harness.flusher.sleep", lambda s: now_s.__setitem__(0, now_s[0] + s))


class Scripted:
    """Drains one queue as the script says, and ends the flusher when it has been played."""

    queues = 1

    def __init__(self, script: list[Drained], finish: threading.Event) -> None:
        self._script: Iterator[Drained] = iter(script)
        self._finish = finish
        self.drains = 0
        self.refreshed: list[str] = []
        self.known = ["p"]
        self.fails: set[str] = set()

    def drain(self, _number: int) -> Drained:
        self.drains += 1
        drained = next(self._script, None)
        if drained is None:
            self._finish.set()
            return EMPTY
        return drained

    def polls(self) -> list[str]:
        return self.known

    def refresh_totals(self, poll: str) -> None:
        if poll in self.fails:
            self.fails.discard(poll)
            raise Unavailable(f"not {poll}, for once")
        self.refreshed.append(poll)

    def close(self) -> None:
        pass


class ScriptedMode(Classic):
    def __init__(self, drain: Scripted) -> None:
        self._drain = drain

    def drain(self, _deployment: Deployment, _journal: Journal | None) -> Scripted:  # type: ignore[override]
        return self._drain


def flusher(folder: Path, script: list[Drained], *, finished: bool) -> tuple[Flusher, Scripted]:
    finish = threading.Event()
    drain = Scripted(script, finish)
    if finished:
        finish.set()
    deployment = Deployment(
        plan=PLAN, mode="classic", memcached=("a:1",), database="", folder=str(folder)
    )
    return Flusher(deployment, ScriptedMode(drain), finish), drain


def test_a_full_load_is_followed_by_another_drain_before_the_totals_are_counted(tmp_path: Path):
    work, drain = flusher(tmp_path, [FULL, FULL, SMALL], finished=False)
    assert work.run()
    assert drain.refreshed == ["p", "p"]  # once behind the three drains, once at the end
    assert drain.drains == 3 + 2  # the one that ends the script, and one that sees it empty


def test_a_queue_that_never_ends_leaves_the_others_their_turn(tmp_path: Path):
    work, drain = flusher(tmp_path, [FULL] * (MOST_IN_A_ROW + 1), finished=False)
    assert work.run()
    assert drain.refreshed == ["p"] * 3  # 32 drains, one more, and at the end


@pytest.mark.parametrize("end", [end for end in DrainEnd if end is not DrainEnd.EMPTY])
def test_only_a_drain_that_found_nothing_says_that_the_queue_is_empty(
    tmp_path: Path, end: DrainEnd
):
    work, drain = flusher(tmp_path, [Drained(end, [b"v"])], finished=True)
    assert work.run()
    assert drain.drains == 2


@pytest.mark.parametrize("end", [DrainEnd.LOCKED, DrainEnd.NO_MEMCACHED, DrainEnd.OVERTAKEN])
def test_a_queue_that_is_never_seen_empty_is_not_called_drained(tmp_path: Path, end: DrainEnd):
    work, _ = flusher(tmp_path, [Drained(end)] * 10_000, finished=True)
    assert not work.run()


def test_messages_that_are_no_votes_are_said_once_a_drain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    strays = [Drained(DrainEnd.COMMITTED, [b"v", b"x", b"y" * 200], [b"x", b"y"])]
    strays.append(Drained(DrainEnd.COMMITTED, [b"y"], [b"y" * 200]))
    work, _ = flusher(tmp_path, [*strays, SMALL], finished=False)
    assert work.run()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("in the queue 2 messages are no vote and not counted: b'x'; ")
    assert second.startswith(f"in the queue a message is no vote and not counted: b'{'y' * 80}'; ")


def test_flushers_take_turns_within_the_interval(tmp_path: Path):
    two = msgspec.structs.replace(PLAN, flusher=FlusherPlan(processes=2, interval_s=0.5))
    deployment = Deployment(
        plan=two, mode="classic", memcached=("a:1",), database="", folder=str(tmp_path)
    )
    waits: list[float] = []

    class Watched(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return True

    for number in (1, 2):
        finish = Watched()
        assert Flusher(deployment, ScriptedMode(Scripted([], finish)), finish, number).run()
    assert waits == pytest.approx([0.25, 0.5])


def of(*polls: str, end: DrainEnd = DrainEnd.COMMITTED) -> Drained:
    return Drained(end, [b"00000000000000a1 1 %s v1" % poll.encode() for poll in polls])


def test_totals_are_refreshed_of_every_poll_that_votes_were_drained_for(tmp_path: Path):
    work, drain = flusher(tmp_path, [of("b", "a", "b"), EMPTY, of("a")], finished=False)
    assert work.run()
    # At the start all that there are, since the flusher before may have died; and at the end.
    assert drain.refreshed == ["a", "b", "p", "a", "p"]


def test_totals_that_could_not_be_refreshed_stay_due(tmp_path: Path, capsys):
    work, drain = flusher(tmp_path, [of("a", "b"), EMPTY], finished=False)
    drain.fails = {"b"}
    assert work.run()
    assert drain.refreshed == ["a", "p", "b", "p"]  # the others first
    assert capsys.readouterr().err == "totals not refreshed: not b, for once\n"


def test_totals_are_tried_again_at_the_end_but_not_without_end(tmp_path: Path, capsys):
    work, drain = flusher(tmp_path, [], finished=True)
    drain.known, drain.fails = ["a", "b"], {"b"}
    assert work.run()
    assert drain.refreshed == ["a", "b", "a"]
    work, drain = flusher(tmp_path, [], finished=True)
    tries: list[str] = []

    def never(poll: str) -> None:
        tries.append(poll)
        raise Unavailable(poll)

    drain.refresh_totals = never  # type: ignore[method-assign]
    assert work.run()
    assert len(tries) == 1 + LAST_TRIES
    complaints = capsys.readouterr().err.splitlines()
    assert complaints == [f"totals not refreshed: {each}" for each in ("not b, for once", "p")]


def test_at_the_end_the_totals_of_all_polls_are_counted_however_many_there_are(tmp_path: Path):
    work, drain = flusher(tmp_path, [], finished=True)
    drain.known = [f"p{number}" for number in range((LAST_TRIES + 2) * MOST_REFRESHED)]
    drain.fails = {"p1"}
    assert work.run()
    assert set(drain.refreshed) == set(drain.known)


@pytest.mark.parametrize("end", [DrainEnd.NO_MEMCACHED, DrainEnd.NOT_COMMITTED])
def test_totals_wait_for_a_round_in_which_what_they_stand_on_works(tmp_path: Path, end: DrainEnd):
    work, drain = flusher(tmp_path, [of("a", end=end), of("b")], finished=False)
    assert work.run()
    assert drain.refreshed == ["a", "b", "p", "p"]


def test_a_votes_poll_is_read_from_its_message_and_rubbish_has_none():
    messages = [b"00000000000000a1 1 a v1", b"00000000000000a1 1 b v1 once"]
    rubbish = [b"", b"\xff rubbish", b"a b c", b"a b \xff d", b"a b NO-POLL d", b"a b  d"]
    assert polls_of([*messages, *rubbish]) == {"a", "b"}
