"""Debian's Cache::Memcached (Perl) and our side on one queue, as docs/interop.md describes it."""

import random
import re
import shlex
import subprocess
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
import pytest
from click.testing import CliRunner

from harness.cache.executor import MemcachedExecutor
from harness.cache.meta_client import MetaClient
from harness.cache.ring import Ring
from harness.cli import pollstorm
from harness.database import schema
from harness.deployment import Deployment
from harness.errors import Exit
from harness.history.journal import Role
from harness.modes.mode import Answer, find_mode
from harness.plan import MemcachedPlan
from harness.protocol import classic
from harness.protocol.drive import drive
from harness.protocol.queue import Queue, Receipt
from harness.services.mariadb import MariadbServer
from harness.services.memcached import MemcachedServer, start_memcached
from harness.services.processes import Supervisor
from harness.vote import Vote, mint
from tests.deployed import PLAN, POLL, counted, flush, session, vote

PROGRAM: Final = Path(__file__).parent / "perl" / "poll_queue.pl"
PAGE: Final = Path(__file__).parent.parent / "docs" / "interop.md"
LIMIT_S: Final = 60
PATIENT_S: Final = 30.0  # far above any stall of a busy machine: nobody is to take a lock over
WRITERS: Final = 3  # of either side
VOTES: Final = 150  # of each writer
A_ROUND: Final = 25  # votes of a writer that goes on until both sides have drained
MOST_ROUNDS: Final = 40
DRAINS: Final = 3  # that found something, of either side


def has_perl_client() -> bool:
    try:
        asked = subprocess.run(["perl", "-MCache::Memcached", "-e1"], capture_output=True)
    except FileNotFoundError:
        return False
    return asked.returncode == 0


pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not has_perl_client(),
        reason="Perl's Cache::Memcached is missing: make test installs it from Debian's "
        "libcache-memcached-perl",
    ),
]


class Perl:
    """The Perl program on a deployment's daemons."""

    def __init__(self, deployment: Deployment) -> None:
        self._daemons = deployment.memcached
        self._prefix = deployment.plan.queue.prefix

    def vote(self, messages: Iterable[bytes], *options: str) -> None:
        self.run("vote", b"".join(b"%s\n" % each for each in messages), *options)

    def drain(self, *options: str) -> list[bytes]:
        return [
            bytes.fromhex(line.decode()) for line in self.run("drain", b"", *options).splitlines()
        ]

    def run(self, verb: str, given: bytes, *options: str) -> bytes:
        argv = ["perl", str(PROGRAM), f"--prefix={self._prefix}", f"--patience={PATIENT_S}"]
        finished = subprocess.run(
            [*argv, *options, verb, *self._daemons],
            input=given, capture_output=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert (finished.returncode, finished.stderr) == (0, b"")
        return finished.stdout


@pytest.fixture
def patient(deployment: Deployment) -> Deployment:
    queue = msgspec.structs.replace(deployment.plan.queue, patience_s=PATIENT_S)
    plan = msgspec.structs.replace(deployment.plan, queue=queue)
    return msgspec.structs.replace(deployment, plan=plan)


@pytest.fixture
def warm(patient: Deployment) -> tuple[Deployment, Perl]:
    """Lock and pointer are there, from Perl's first drain."""
    perl = Perl(patient)
    assert perl.drain() == []
    return patient, perl


@pytest.fixture(scope="module")
def third(supervisor: Supervisor, logs: Path) -> MemcachedServer:
    return start_memcached(supervisor, MemcachedPlan(), logs / "third.log")


@pytest.fixture
def three(
    patient: Deployment, mirror: MemcachedServer, third: MemcachedServer
) -> Iterator[Deployment]:
    """A queue's keys are spread over three daemons."""
    for daemon in (mirror, third):
        daemon.wipe()
    plan = msgspec.structs.replace(patient.plan, memcached=MemcachedPlan(daemons=3))
    addresses = (*patient.memcached, mirror.address, third.address)
    return msgspec.structs.replace(patient, plan=plan, memcached=addresses)


def messages(numbers: Iterable[int]) -> list[bytes]:
    return [vote(number).to_message() for number in numbers]


def once(numbers: Iterable[int]) -> dict[int, int]:
    return {vote(number).vote_id: 1 for number in numbers}


def raw_queue(deployment: Deployment) -> Queue:
    return Queue.named(deployment.plan.queue.prefix)


def test_votes_that_perl_queued_are_each_counted_once(warm: tuple[Deployment, Perl]):
    deployment, perl = warm
    shares = [range(first, first + VOTES) for first in range(0, WRITERS * VOTES, VOTES)]
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(lambda share: perl.vote(messages(share)), shares))
    assert flush(deployment) == Exit.OK
    assert counted(deployment) == once(range(WRITERS * VOTES))


def test_what_is_no_vote_is_not_counted_and_said(
    warm: tuple[Deployment, Perl], capfd: pytest.CaptureFixture[str]
):
    """Also a vote that Cache::Memcached compressed, or froze because it was a reference."""
    deployment, perl = warm
    long = Vote(mint(0, 3), POLL.name, 1, "v" * 64).to_message()
    perl.vote([*messages([1]), b"a plain string", b"", b"-1", *messages([2])])
    perl.vote([long], "--compress-from=20")
    perl.vote(messages([4]), "--references")
    perl.vote([long[:-1]], "--compress-from=1000")
    assert flush(deployment) == Exit.OK
    assert counted(deployment) == once([1, 2, 3])
    said = capfd.readouterr().err
    assert "5 messages are no vote and not counted: b'a plain string'" in said
    assert said.count("\n") == 1


def test_perl_drains_what_our_site_queued_byte_for_byte(warm: tuple[Deployment, Perl]):
    deployment, perl = warm
    votes = [Vote(mint(7, n), POLL.name, n, "".join(map(chr, range(33, 97)))) for n in range(1, 31)]
    with session(deployment, "classic") as site:
        assert {site.accept(each) for each in votes} == {Answer.QUEUED}
    assert perl.drain() == [each.to_message() for each in votes]
    awkward = [bytes(range(256)), b"END\r\nVALUE x 0 1\r\n", b"", b"0", b"x" * 100_000]
    with closing(MetaClient(deployment.memcached[0], 1.0)) as client:
        hands = MemcachedExecutor([client], Role.SITE, 0, None, None)
        machine = classic.enqueue(raw_queue(deployment), awkward)
        assert drive(machine, hands.execute) is Receipt.QUEUED
    assert perl.drain() == awkward
    assert perl.drain() == []


def test_under_one_lock_both_sides_write_and_drain_at_once_and_no_vote_is_lost_or_taken_twice(
    warm: tuple[Deployment, Perl],
):
    """Until either side has taken out something a few times."""
    deployment, perl = warm
    taken: dict[str, list[list[bytes]]] = {"us": [], "Perl": []}
    written: list[int] = []
    over = threading.Event()

    def write(writer: int, queue: Callable[[range], object]) -> None:
        first = writer * MOST_ROUNDS * A_ROUND
        for start in range(first, first + MOST_ROUNDS * A_ROUND, A_ROUND):
            if all(len(drains) >= DRAINS for drains in taken.values()):
                break
            queue(range(start, start + A_ROUND))
            written.extend(range(start, start + A_ROUND))

    def ours(writer: int) -> None:
        with session(deployment, "classic") as site:
            write(writer, lambda numbers: [site.accept(vote(number)) for number in numbers])

    def perls(writer: int) -> None:
        write(writer, lambda numbers: perl.vote(messages(numbers)))

    def drain(side: str, found: Callable[[], Sequence[bytes]]) -> None:
        while not over.is_set():
            if batch := list(found()):
                taken[side].append(batch)

    with (
        closing(find_mode("classic").drain(deployment, None)) as flusher,
        ThreadPoolExecutor(2 * WRITERS + 2) as threads,
    ):
        drains = [
            threads.submit(drain, "us", lambda: flusher.drain(0).messages),
            threads.submit(drain, "Perl", perl.drain),
        ]
        writers = [threads.submit(ours, each) for each in range(WRITERS)]
        writers += [threads.submit(perls, WRITERS + each) for each in range(WRITERS)]
        wait(writers)
        over.set()
        for each in (*drains, *writers):
            each.result()
        taken["us"].append(list(flusher.drain(0).messages))
    assert all(len(drains) >= DRAINS for drains in taken.values()), "one side was hardly there"
    by_us, by_perl = (list(chain(*taken[side])) for side in ("us", "Perl"))
    assert Counter(by_us + by_perl) == Counter(messages(written))
    assert counted(deployment) == {Vote.from_message(each).vote_id: 1 for each in by_us}


@pytest.mark.parametrize("namespace", ["", "site_"])
def test_on_three_daemons_perl_puts_each_key_where_the_ring_says(three: Deployment, namespace: str):
    """Cache::Memcached hashes a key without the namespace that it puts before it."""
    chance = random.Random(15)
    names = [chance.randbytes(chance.randint(1, 40)).hex() for _ in range(200)]
    names += [raw_queue(three).slot(number).name for number in range(200)]
    Perl(three).run("place", "\n".join(names).encode(), f"--namespace={namespace}")
    found: dict[str, int] = {}
    for daemon, address in enumerate(three.memcached):
        with closing(MetaClient(address, 1.0)) as client:
            found |= {n: daemon for n in names if client.meta_get(namespace + n).value}
    assert set(found.values()) == {0, 1, 2}
    assert found == {name: Ring(3, None).home_of(name) for name in names}


def test_a_queue_spread_over_three_daemons_is_drained_by_the_other_side(three: Deployment):
    perl = Perl(three)
    assert perl.drain() == []
    with session(three, "classic") as site:
        assert {site.accept(vote(number)) for number in range(40)} == {Answer.QUEUED}
    assert perl.drain() == messages(range(40))
    perl.vote(messages(range(40, 80)))
    assert flush(three) == Exit.OK
    assert counted(three) == once(range(40, 80))


def test_a_namespace_of_perls_is_a_part_of_our_prefix(deployment: Deployment):
    queue = msgspec.structs.replace(deployment.plan.queue, prefix=f"site_{PLAN.queue.prefix}")
    plan = msgspec.structs.replace(deployment.plan, queue=queue)
    named = msgspec.structs.replace(deployment, plan=plan)
    perl = Perl(deployment)
    assert perl.drain("--namespace=site_") == []
    perl.vote(messages([1]), "--namespace=site_")
    with session(named, "classic") as site:
        assert site.accept(vote(2)) is Answer.QUEUED
    assert perl.drain("--namespace=site_") == messages([1, 2])
    perl.vote(messages([3]), "--namespace=site_")
    assert flush(named) == Exit.OK
    assert counted(named) == once([3])


def test_our_flusher_beside_a_site_in_perl_as_the_documentation_has_it(
    memcached: MemcachedServer, mariadb: MariadbServer, tmp_path: Path
):
    """Its commands, its deployment and its vote as they stand there."""
    page = PAGE.read_text()
    (create,) = re.findall(r"pollstorm (polls create .*(?:\\\n.*)+)", page)
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (message,) = re.findall(r"^[0-9a-f]{16} .*$", page, re.MULTILINE)
    for there, here in (
        ("127.0.0.1:11211", memcached.address),
        ("mysql://me:secret@127.0.0.1:3306/votes", mariadb.url),
        ("/var/lib/pollstorm", str(tmp_path / "made")),
    ):
        create, text = create.replace(there, here), text.replace(there, here)
    path = tmp_path / "deployment.toml"
    path.write_text(textwrap.dedent(text))
    deployment = Deployment.read(path)
    memcached.wipe()
    schema.drop(mariadb.url)
    try:
        arguments = shlex.split(create.replace("\\\n", " "))
        assert CliRunner().invoke(pollstorm, arguments).exit_code == Exit.OK
        perl = Perl(deployment)
        assert perl.drain() == []
        perl.vote([message.encode()])
        assert flush(deployment) == Exit.OK
        assert counted(deployment) == {0x00C0_0000_0000_0001: 1}
    finally:
        schema.drop(mariadb.url)
