"""A site under attack on services of its own, and what must still be true of it afterwards."""

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import pandas as pd
import psutil
from pymysql.cursors import Cursor

from harness.database import schema
from harness.database.ballots import read_ballots
from harness.database.connections import connect
from harness.database.voters import read_rejections
from harness.deployment import Deployment
from harness.modes.mode import find_mode
from harness.plan import MemcachedPlan, Plan, PollPlan, QueuePlan, Site
from harness.services.flusher import Flushers, start_flushers
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer, start_memcached
from harness.services.processes import Supervisor
from harness.services.site import SiteServer, start_site
from harness.vote import VOTER_NAME, Poll
from tests.attacks import Attack, request, vote
from tests.hostile_text import COOKIE, GENERATED, MAX_CHOICES, ONCE, POLL
from tests.innocence import BUSY, PASSWORD, SECRET, let_out, require_innocent
from tests.raw_http import End, Exchange, exchange

ANSWER_LIMIT_S = 5.0  # for an answer that has to come, on a loaded machine
LINGER_S = 0.02  # for one that need not come
VOTE_LIMIT_S = 2.0  # an ordinary vote takes a few ms; so much only on a loaded machine
QUERY_LIMIT_S = 10.0
DRAIN_LIMIT_S = 60.0
USER = "besieged"
CANARY = "canary"
MOST_BUSY = 0.01  # of the requests: they come one by one, so only a stalled machine has any
TAKEN_IN = (201, 202)
UNSURE = ("header", "framing", "truncated")  # where their bodies begin and end
THANKED = re.compile(r"pollstorm-told=(stored|queued)\.")  # as people are
COUNTED_OTHERWISE = 409  # what is drawn twice: an id with another choice, a voter with another id
CHOICES = tuple(f"Friend {number}" for number in range(MAX_CHOICES))
PLAN = Plan(
    scenario="siege",
    poll=PollPlan(name=POLL, question="Who goes there?", choices=CHOICES),
    site=Site(workers=2, threads=4),
    queue=QueuePlan(prefix="siege-queue"),
)
KEYS = re.compile(
    r"canary|siege-queue-(curr|lock|key-\d+|(totals|poll)-(besieged|besieged-once|generated)"
    r"|voter-besieged-once:[!-~]{1,64})"
)


class Wish(NamedTuple):
    """What a vote says, apart from its id."""

    poll: str
    choice: int
    voter: str


class Besieged:
    """One site, its services, and the votes that it has acknowledged."""

    def __init__(
        self,
        deployment: Deployment,
        site: SiteServer,
        flushers: Flushers,
        memcached: MemcachedServer,
        logs: Path,
    ) -> None:
        self.deployment = deployment
        self.site = site
        self.sent: Counter[str] = Counter()
        self.told: Counter[int] = Counter()
        self._flushers = flushers
        self._memcached = memcached
        self._logs = logs
        self._acknowledged: dict[int, set[Wish]] = {}
        self._perhaps: set[int] = set()
        self._ordinary = 0
        self._noting = Lock()
        self._cookie = self._fetch_cookie()
        self._processes = self._living()
        self._logged = self._read_logs()
        self._tables = state_of(deployment.database)

    def suffer(self, attack: Attack) -> Exchange:
        """Send it, and hold what comes back to the rules. From any number of threads at once."""
        limit_s = ANSWER_LIMIT_S if attack.answers else LINGER_S
        told = exchange(self.site.port, attack.sent.replace(COOKIE, self._cookie), limit_s)
        with self._noting:
            self._note(attack, told)
        for answer in told.answers:
            require_innocent(answer)
        if attack.answers:
            assert told.end is End.CLOSED, f"the connection stays open: {told}"
            assert len(told.answers) >= attack.answers, f"too few answers: {told}"
        if attack.kind == "vote":
            assert told.answers[0].status in (*TAKEN_IN, COUNTED_OTHERWISE, *BUSY), f"{told}"
        return told

    def _fetch_cookie(self) -> bytes:
        """A voter's, as a browser gets it."""
        page = request(
            "page", method=b"GET", target=b"/polls/besieged", headers=(b"Accept: text/html",)
        )
        given = exchange(self.site.port, page.sent, ANSWER_LIMIT_S).answers[0].header("set-cookie")
        assert given, "no cookie was given"
        return given.partition("=")[2].partition(";")[0].encode()

    def _note(self, attack: Attack, told: Exchange) -> None:
        """What was acknowledged, and what nobody was told of, to compare with the ballots."""
        self.sent[attack.kind] += 1
        self.told.update(answer.status for answer in told.answers)
        for answer in told.answers:
            if answer.status in TAKEN_IN:
                vote_id = int(json.loads(answer.body)["vote"], 16)
                wishes = wishes_in(attack, vote_id)
                assert wishes or attack.kind in UNSURE, f"somebody else's answer: {answer}"
                self._acknowledged.setdefault(vote_id, set()).update(wishes)
            if THANKED.match(answer.header("set-cookie") or ""):
                paper = dict(parse_qsl(attack.bodies[0].decode()))
                voter = self._cookie.decode().rpartition(".")[0]
                wish = Wish(attack.poll, int(paper["choice"]), voter)
                self._acknowledged.setdefault(int(paper["vote"], 16), set()).add(wish)
        if len(told.answers) < attack.answers or not attack.answers:
            digits = re.findall(rb"[0-9a-f]{16}", attack.sent.replace(b"\r\n1\r\n", b""))
            self._perhaps |= {int(each, 16) for each in digits}

    def require_unharmed(self) -> None:
        """An ordinary vote is taken in, quickly, by the processes that there were."""
        self._ordinary += 1
        wish = {"vote": f"{0xAA << 48 | self._ordinary:016x}", "choice": 1, "voter": "ordinary"}
        begun_s = monotonic()
        told = self.suffer(vote(wish)._replace(kind="ordinary"))
        assert told.answers[0].status in TAKEN_IN, f"an ordinary vote was answered with {told}"
        assert monotonic() - begun_s < VOTE_LIMIT_S
        assert self._living() == self._processes, "a process died, or another began"
        assert self._read_logs() == self._logged, "the logs have grown"

    def cpu_s(self) -> float:
        """The processor time of its workers, up to now."""
        times = [worker.cpu_times() for worker in self.site.workers()]
        return sum(each.user + each.system for each in times)

    def require_rarely_busy(self) -> None:
        """It did not refuse what it could have taken in."""
        busy = sum(self.told[status] for status in BUSY)
        assert busy <= MOST_BUSY * self.told.total(), f"{self.told}"

    def drain(self) -> None:
        """Count what is queued. The flusher has then gone."""
        assert self._flushers.finish(DRAIN_LIMIT_S), "the queue was not seen empty"
        self._flushers = Flushers(())

    def require_only_wishes_counted(self) -> None:
        """The ballots are the votes that were acknowledged, with what their voters wished.

        Or another vote with that id was there first (seed 2026 draws 0x80000 for two polls), or one
        of that voter where she has only one.
        """
        ballots = wishes_of(read_ballots(self.deployment.database, QUERY_LIMIT_S))
        rejected = wishes_of(read_rejections(self.deployment.database, QUERY_LIMIT_S))
        told = self._acknowledged.items()
        missing = {number: wishes for number, wishes in told if number not in ballots | rejected}
        assert not missing, f"acknowledged votes are missing: {missing}"
        ours = {number for number, wish in ballots.items() if wish.poll != GENERATED}
        unasked = ours - set(self._acknowledged) - self._perhaps
        assert not unasked, f"votes that nobody cast: {unasked}"
        altered = {
            number: (ballots[number], wishes)
            for number, wishes in told
            if wishes and number in ours - self._perhaps and ballots[number] not in wishes
        }
        assert not altered, f"counted with another wish: {altered}"
        once = [wish.voter for wish in ballots.values() if wish.poll == ONCE]
        assert len(once) == len(set(once)), "a voter has two ballots"
        assert {wish.voter for wish in rejected.values()} <= set(once), "rejected without a ballot"
        assert all(VOTER_NAME.fullmatch(wish.voter) for wish in ballots.values())

    def require_database_untouched(self) -> None:
        """No table, user or poll more or less; nothing changed that votes do not change."""
        assert state_of(self.deployment.database) == self._tables

    def require_memcached_untouched(self) -> None:
        """No key that is not the queue's, the canary as it was, and no command that is not ours."""
        keys = [unquote(line.split()[0].removeprefix("key=")) for line in self._dump()]
        strange = [key for key in keys if not KEYS.fullmatch(key)]
        assert CANARY in keys
        assert not strange, f"strange keys: {strange}"
        assert ask(self._memcached, "get canary") == ["VALUE canary 0 5", "sings"]
        stats = dict(line.split()[1:3] for line in ask(self._memcached, "stats"))
        assert stats["cmd_flush"] == "0"
        settings = dict(line.split()[1:3] for line in ask(self._memcached, "stats settings"))
        assert settings["verbosity"] == "0"

    def _dump(self) -> list[str]:
        return ask(self._memcached, "lru_crawler metadump all")

    def require_nothing_logged(self) -> None:
        """Neither what voters sent nor what the site alone may know."""
        for name, text in self._read_logs().items():
            found = let_out(text)
            assert not found, f"{name} has {found}"

    def _living(self) -> list[tuple[int, float]]:
        """Those who must neither die nor be replaced."""
        pids = [self.site.child.pid, *(worker.pid for worker in self.site.workers())]
        pids += [self._memcached.child.pid]
        return [(pid, psutil.Process(pid).create_time()) for pid in pids]

    def _read_logs(self) -> dict[str, str]:
        return {path.name: path.read_text(errors="replace") for path in self._logs.glob("*.log")}


@contextmanager
def besieged(
    mode: str, supervisor: Supervisor, mariadb: MariadbServer, folder: Path
) -> Iterator[Besieged]:
    """A site in that mode, with a database and a memcached of its own."""
    memcached = start_memcached(supervisor, MemcachedPlan(), folder / "memcached.log")
    assert ask(memcached, f"set {CANARY} 0 0 5\r\nsings") == ["STORED"]
    with private_database(mariadb, f"siege_{mode}") as database:
        for poll in (PLAN.poll.poll(), Poll(GENERATED, "What?", CHOICES)):
            schema.create(database, poll)
        schema.create(database, Poll(ONCE, "And who else?", CHOICES, once=True))
        work = folder / "work"
        work.mkdir()
        deployment = Deployment(
            plan=PLAN,
            mode=mode,
            memcached=(memcached.address,),
            database=database,
            folder=str(work),
            secret=SECRET,
        )
        site = start_site(supervisor, deployment, folder / "site.log")
        flushers = Flushers(())
        try:
            if find_mode(mode).queues:
                flushers = start_flushers(supervisor, deployment, folder)
            yield Besieged(deployment, site, flushers, memcached, folder)
        finally:
            site.child.stop(0)
            flushers.stop()
            memcached.stop()


@contextmanager
def private_database(mariadb: MariadbServer, name: str) -> Iterator[str]:
    """The URL of an empty database, as a user with a password sees it."""
    address = urlsplit(mariadb.url)
    with closing(connect(mariadb.url, QUERY_LIMIT_S)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        cursor.execute(f"CREATE OR REPLACE USER {USER} IDENTIFIED BY '{PASSWORD}'")
        cursor.execute(f"GRANT ALL ON {name}.* TO {USER}")
        try:
            yield f"mysql://{USER}:{PASSWORD}@127.0.0.1:{address.port}/{name}?{address.query}"
        finally:
            cursor.execute(f"DROP DATABASE {name}")
            cursor.execute(f"DROP USER {USER}")


def state_of(database: str) -> dict[str, list[tuple[object, ...]]]:
    """Everything in the database but ballots and what queues keep there."""
    with closing(connect(database, QUERY_LIMIT_S)) as connection, connection.cursor() as cursor:
        return {
            query: rows(cursor, query)
            for query in (
                "SHOW DATABASES",
                "SHOW GRANTS",
                "SELECT table_name, create_time FROM information_schema.tables "
                "WHERE table_schema = DATABASE() ORDER BY table_name",
                "SELECT * FROM pollstorm_polls ORDER BY name",
            )
        }


def rows(cursor: Cursor, query: str) -> list[tuple[object, ...]]:
    cursor.execute(query)
    return list(cursor.fetchall())


def ask(memcached: MemcachedServer, command: str) -> list[str]:
    """A command in memcached's own words; the lines of its answer."""
    host, _, port = memcached.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=QUERY_LIMIT_S) as connection:
        connection.sendall(f"{command}\r\n".encode())
        received = b""
        while not received.endswith((b"END\r\n", b"STORED\r\n", b"ERROR\r\n")):
            received += connection.recv(65_536)
    return [line for line in received.decode().splitlines() if line != "END"]


def wishes_of(votes: pd.DataFrame) -> dict[int, Wish]:
    """By the votes' ids."""
    rows = votes[["poll", "choice", "voter"]].itertuples(index=False)
    return dict(zip(votes["vote"].tolist(), map(Wish._make, rows), strict=True))


def wishes_in(attack: Attack, vote_id: int) -> set[Wish]:
    """What the attack's bodies wish under that id, read by the standard library's decoder."""
    found = set()
    for body in attack.bodies:
        if body and not attack.form:
            wish = json.loads(body)
            if int(wish["vote"], 16) == vote_id:
                found.add(Wish(attack.poll, wish["choice"], wish["voter"]))
    return found
