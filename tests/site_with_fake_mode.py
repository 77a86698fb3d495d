"""A site whose mode needs no services: `python -m tests.site_with_fake_mode FOLDER [PORT]`.

Votes of the voter `slow` take a second; everything else is stored at once and forgotten.
"""

import sys
from pathlib import Path
from time import sleep, time

from harness.deployment import Deployment
from harness.history.journal import Journal
from harness.modes.mode import Answer, Drain, Totals
from harness.plan import Plan, Site
from harness.protocol import direct
from harness.protocol.queue import Terms, VotingProtocol
from harness.site.server import free_address, serve
from harness.vote import Poll, Vote

POLL = Poll("town-hall", "Orange?", ("Yes", "No", "Only the door"))


class FakeSession:
    def find_poll(self, name: str) -> Poll | None:
        return POLL if name == POLL.name else None

    def list_polls(self) -> tuple[Poll, ...]:
        return (POLL,)

    def accept(self, vote: Vote) -> Answer:
        if vote.voter == "slow":
            sleep(1.0)
        return Answer.STORED

    def totals(self, _poll: Poll) -> Totals:
        return Totals((1, 2, 3), time())

    def is_ready(self) -> bool:
        return True

    def close(self) -> None:
        pass


class FakeMode:
    name = "fake"
    promises = False
    excuses = ()
    queues = False

    def protocol(self, terms: Terms) -> VotingProtocol:
        return direct.protocol(terms)

    def drain(self, _deployment: Deployment, _journal: Journal | None) -> Drain:
        raise NotImplementedError

    def session(self, _deployment: Deployment, _journal: Journal | None) -> FakeSession:
        return FakeSession()


def deployment(folder: Path, workers: int = 2, threads: int = 4, waiting: int = 512) -> Deployment:
    plan = Plan(scenario="test", site=Site(workers=workers, threads=threads, waiting=waiting))
    return Deployment(
        plan=plan, mode="fake", memcached=(), database="mysql://nowhere", folder=str(folder)
    )


if __name__ == "__main__":
    address, port = free_address("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(port, flush=True)
    serve(deployment(Path(sys.argv[1])), FakeMode(), address, port)
