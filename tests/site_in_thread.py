"""A site in a thread of the test's own process, over a mode that keeps all in memory.

So a test can change what the site stands on between two clicks, and one site serves all of them.
"""

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from time import monotonic, sleep, time
from typing import Any
from urllib.request import urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from harness.deployment import Deployment
from harness.history.journal import Journal
from harness.modes.mode import Answer, Totals, Unavailable
from harness.site.app import create_app
from harness.vote import Poll, Vote
from tests.site_with_fake_mode import FakeMode, deployment

SESSIONS = 8  # more than a browser asks for at once
GATE_LIMIT_S = 10.0


class Town(FakeMode):
    """A mode and its own session. What it is told to say goes before what it knows."""

    def __init__(self, *polls: Poll) -> None:
        self.start_anew(*polls)

    def start_anew(self, *polls: Poll) -> None:
        """With these polls, and no ballots."""
        self.known = {poll.name: poll for poll in polls}
        self.ballots: dict[int, Vote] = {}
        self.says: Answer | None = None
        self.silent = False  # memcached and database do not answer
        self.counted_ago_s = 0.0
        self.inside = 0  # requests that wait for the gate
        self.gate = threading.Event()
        self.gate.set()

    def session(self, _deployment: Deployment, _journal: Journal | None) -> Any:
        return self

    def find_poll(self, name: str) -> Poll | None:
        self._speak()
        return self.known.get(name)

    def list_polls(self) -> tuple[Poll, ...]:
        self._speak()
        return tuple(sorted(self.known.values(), key=lambda poll: poll.closed))

    def accept(self, vote: Vote) -> Answer:
        if self.says is not None:
            return self.says
        voted = {(ballot.poll, ballot.voter): ballot.vote_id for ballot in self.ballots.values()}
        if vote.once and voted.get((vote.poll, vote.voter), vote.vote_id) != vote.vote_id:
            return Answer.ALREADY_VOTED
        before = self.ballots.setdefault(vote.vote_id, vote)
        return Answer.STORED if before.choice == vote.choice else Answer.CONFLICT

    def totals(self, poll: Poll) -> Totals:
        self.inside += 1
        self.gate.wait(GATE_LIMIT_S)
        self._speak()
        votes = Counter(vote.choice for vote in self.ballots.values() if vote.poll == poll.name)
        counts = tuple(votes[choice] for choice in range(1, len(poll.choices) + 1))
        return Totals(counts, time() - self.counted_ago_s)

    def is_ready(self) -> bool:
        return not self.silent

    def close(self) -> None:
        pass

    def _speak(self) -> None:
        if self.silent:
            raise Unavailable("the test wants it so")


@contextmanager
def crowded(town: Town, url: str, poll: Poll) -> Iterator[None]:
    """For the block, as many ask for a poll's results as the site can serve; none is answered."""
    town.inside = 0
    town.gate.clear()
    address = f"{url}/polls/{poll.name}/results"
    crowd = [threading.Thread(target=lambda: urlopen(address).close()) for _ in range(SESSIONS)]
    try:
        for each in crowd:
            each.start()
        until_s = monotonic() + GATE_LIMIT_S
        while town.inside < SESSIONS and monotonic() < until_s:
            sleep(0.005)
        yield
    finally:
        town.gate.set()
        for each in crowd:
            each.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: a browser asks for much."""


@contextmanager
def serve_in_thread(folder: Path, town: Town) -> Iterator[str]:
    """The URL of a site that lives as long as the block."""
    site = create_app(deployment(folder, threads=SESSIONS, waiting=0), town)
    app = _ended(site)
    with make_server("127.0.0.1", 0, app, _Server, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _ended(app: Any) -> Callable[..., Iterable[bytes]]:
    """Ends a body where it ends, as Granian does, and the server of the standard library not."""

    def site(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return site
