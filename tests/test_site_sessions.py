"""The sessions that a worker lends: to whom, in what order, and to how many that wait."""

import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from harness.deployment import Deployment
from harness.history.journal import Journal
from harness.site import problem
from harness.site.sessions import Loan, Sessions
from tests.site_with_fake_mode import FakeMode, FakeSession, deployment

SOON_S = 5.0  # until a thread has come so far


class Session(FakeSession):
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Mode(FakeMode):
    """Notes with which journal each session is made."""

    def __init__(self) -> None:
        self.journals: list[Journal | None] = []

    def session(self, _deployment: Deployment, journal: Journal | None) -> Session:
        self.journals.append(journal)
        return Session()


def made(
    folder: Path, sessions: int = 1, waiting: int = 3, wait_s: float = SOON_S, journal: bool = False
) -> Sessions:
    return Sessions(
        deployment(folder), Mode(), sessions, waiting=waiting, wait_s=wait_s, journal=journal
    )


class Borrower(threading.Thread):
    """Borrows in a thread of its own; `loan` is there once it got one."""

    def __init__(self, sessions: Sessions) -> None:
        super().__init__(daemon=True)
        self.sessions = sessions
        self.loan: Loan | None = None
        self.refusal = ""
        self.start()

    def run(self) -> None:
        try:
            self.loan = self.sessions.lend()
        except problem.Problem as told:
            self.refusal = told.kind


def wait_for(sessions: Sessions, waiting: int) -> None:
    end = monotonic() + SOON_S
    while len(sessions._waiting) != waiting:
        assert monotonic() < end, "nobody came to wait"
        sleep(0.001)


def queue_up(sessions: Sessions, number: int) -> Iterator[Borrower]:
    for nth in range(number):
        yield Borrower(sessions)
        wait_for(sessions, nth + 1)


def test_who_has_waited_longest_is_served_first(tmp_path: Path) -> None:
    sessions = made(tmp_path)
    loan = sessions.lend()
    borrowers = list(queue_up(sessions, 3))
    for borrower in borrowers:
        sessions.take_back(loan)
        borrower.join(SOON_S)
        assert borrower.loan is loan
        assert sum(other.loan is not None for other in borrowers) == borrowers.index(borrower) + 1


def test_who_comes_when_enough_wait_is_refused_at_once(tmp_path: Path) -> None:
    sessions = made(tmp_path)
    sessions.lend()
    list(queue_up(sessions, 3))
    began = monotonic()
    with pytest.raises(problem.Problem) as told:
        sessions.lend()
    assert (told.value.status, told.value.kind) == (503, "overloaded")
    assert monotonic() - began < SOON_S / 2


def test_none_waits_longer_than_that_and_his_place_is_free_again(tmp_path: Path) -> None:
    sessions = made(tmp_path, waiting=1, wait_s=0.05)
    loan = sessions.lend()
    for _ in range(3):
        with pytest.raises(problem.Problem, match="Retry-After"):
            sessions.lend()
    sessions.take_back(loan)
    assert sessions.lend() is loan


def test_many_threads_never_share_a_session_and_none_is_lost(tmp_path: Path) -> None:
    sessions = made(tmp_path, sessions=3, waiting=64)
    at_work: set[Loan] = set()
    shared: list[Loan] = []

    def borrow() -> None:
        for _ in range(300):
            with sessions.lend() as loan:
                if loan in at_work:
                    shared.append(loan)
                at_work.add(loan)
                sleep(0)  # let others run
                at_work.remove(loan)

    threads = [threading.Thread(target=borrow) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not shared
    assert len({sessions.lend() for _ in range(3)}) == 3
    assert not sessions._waiting


@pytest.mark.parametrize(
    ("error", "replaced"),
    [(OSError(), True), (KeyboardInterrupt(), True), (problem.unknown_poll(), False)],
    ids=lambda value: str(value)[:12],
)
def test_a_session_from_which_something_escapes_is_replaced_under_the_same_journal(
    tmp_path: Path, error: BaseException, replaced: bool
) -> None:
    sessions = made(tmp_path, journal=True)
    first = sessions._free[0].session
    with pytest.raises(type(error)), sessions.lend():
        raise error
    assert isinstance(first, Session)
    assert first.closed is replaced
    with sessions.lend() as loan:
        assert (loan.session is not first) is replaced
    assert isinstance(sessions._mode, Mode)
    assert len(set(sessions._mode.journals)) == 1
    assert len(sessions._mode.journals) == 1 + replaced


def test_each_session_has_a_journal_of_its_own(tmp_path: Path) -> None:
    sessions = made(tmp_path, sessions=3, journal=True)
    assert isinstance(sessions._mode, Mode)
    assert len(set(sessions._mode.journals)) == 3
