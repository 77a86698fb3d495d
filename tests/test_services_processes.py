"""Whatever ends the harness, nothing that it started stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from harness.errors import Interrupted, ServiceError
from harness.services import reaper
from harness.services.interruption import interruptible, uninterrupted
from harness.services.processes import Child, Supervisor

pytestmark = pytest.mark.services

GONE_WITHIN_S = 5.0
STARTED_WITHIN_S = 20.0

HARNESS = """
import sys, time
from pathlib import Path
from harness.errors import Interrupted
from harness.plan import MemcachedPlan
from harness.services.interruption import interruptible
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor

folder = Path(sys.argv[1])
try:
    with interruptible(), Supervisor() as supervisor:
        data = supervisor.temporary_directory()
        (data / "something").touch()
        memcached = start_memcached(supervisor, MemcachedPlan(), folder / "memcached.log")
        parent = supervisor.spawn(
            "parent", ["sh", "-c", "trap '' TERM; sleep 300 & echo $!; wait"], log=folder / "parent"
        )
        supervisor.wait_until_ready(parent, lambda: (folder / "parent").read_text() != "", 10)
        print(memcached.child.pid, parent.pid, (folder / "parent").read_text().strip(), data)
        sys.stdout.flush()
        time.sleep(300)
except Interrupted as interrupted:
    sys.exit(str(interrupted))
"""


class Harness:
    """A harness process with memcached, a child and a grandchild that ignore SIGTERM."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HARNESS, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        *pids, data = self.process.stdout.readline().split()
        self.pids = [int(pid) for pid in pids]
        self.data = Path(data)

    def leftovers(self) -> list[int]:
        return [pid for pid in self.pids if is_running(pid)]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    started = Harness(tmp_path)
    yield started
    started.process.kill()
    started.process.communicate()
    for pid in started.leftovers():
        os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], bool], limit_s: float = GONE_WITHIN_S) -> bool:

    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_process_and_no_folder_outlives_the_harness(
    harness: Harness, number: signal.Signals
) -> None:
    assert len(harness.leftovers()) == 3
    assert harness.data.is_dir()
    harness.process.send_signal(number)
    assert eventually(lambda: not harness.leftovers() and not harness.data.exists())
    _, complaint = harness.process.communicate(timeout=GONE_WITHIN_S)
    expected = "" if number is signal.SIGKILL else f"interrupted by {number.name}\n"
    assert complaint == expected


def test_a_second_signal_does_not_break_the_cleanup(harness: Harness) -> None:
    for _ in range(20):
        harness.process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    _, complaint = harness.process.communicate(timeout=GONE_WITHIN_S)
    assert complaint == "interrupted by SIGINT\n"
    assert harness.leftovers() == []


def test_a_harness_killed_while_it_starts_children_leaves_none(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from harness.services.processes import Supervisor
with Supervisor() as supervisor:
    print(flush=True)
    while True:
        supervisor.spawn("sleeper", ["sleep", sys.argv[1]], log=Path(sys.argv[2]))
"""
    mark = f"{300 + os.getpid() / 1e6}"  # an argument by which our sleepers are known

    def sleepers() -> list[int]:
        every = psutil.process_iter(["cmdline"])
        return [process.pid for process in every if process.info["cmdline"] == ["sleep", mark]]

    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", script, mark, str(tmp_path / "log")], stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            assert eventually(lambda: len(sleepers()) > 5)
            process.kill()
        assert eventually(lambda: not sleepers()), sleepers()


def test_an_error_in_the_block_ends_the_children(tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), Supervisor() as supervisor:
        child = supervisor.spawn("sleeper", ["sleep", "300"], log=tmp_path / "log")
        folder = supervisor.temporary_directory()
        raise ZeroDivisionError
    assert not is_running(child.pid)
    assert not folder.exists()


def test_a_stopped_child_can_be_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    script = "trap 'echo graceful; exit 7' TERM; echo up; while :; do sleep 0.01; done"
    child = spawn_ready(supervisor, ["sh", "-c", script], tmp_path / "log")
    os.killpg(child.pid, signal.SIGSTOP)
    assert child.stop(grace_s=5) == 7
    assert child.log_tail() == "up | graceful"
    assert child.stop(grace_s=5) == 7  # again, harmlessly


def test_a_child_that_was_asked_to_end_is_not_asked_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """A second SIGTERM would kill one that is ending and has given up its handler."""
    ends_at_once = "trap 'trap - TERM; echo asked; sleep 0.5; exit 7' TERM; echo up; sleep 9 & wait"
    log = tmp_path / "log"
    child = supervisor.spawn("child", ["sh", "-c", ends_at_once], log=log)
    supervisor.wait_until_ready(child, lambda: log.read_text() != "", STARTED_WITHIN_S)
    child.ask_to_end()
    supervisor.wait_until_ready(child, lambda: "asked" in log.read_text(), STARTED_WITHIN_S)
    assert child.stop(STARTED_WITHIN_S) == 7


def test_a_child_that_ignores_sigterm_is_killed_with_its_group(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    script = "trap '' TERM; sleep 300 & echo $!; wait"
    child = spawn_ready(supervisor, ["sh", "-c", script], tmp_path / "log")
    grandchild = int(child.log_tail())
    assert child.stop(grace_s=0.1) == -signal.SIGKILL
    assert not is_running(grandchild)


def test_a_grandchild_is_ended_although_its_parent_has_gone(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    child = supervisor.spawn("parent", ["sh", "-c", "sleep 300 & echo $!"], log=tmp_path / "log")
    assert child.wait(STARTED_WITHIN_S) == 0
    grandchild = int(child.log_tail())
    assert is_running(grandchild)
    child.stop(grace_s=0)
    assert not is_running(grandchild)


def test_a_dead_process_that_init_has_not_buried_does_not_live() -> None:
    """Some inits take seconds, and nothing has to wait for them."""
    dead = subprocess.Popen(["true"], start_new_session=True)
    assert eventually(lambda: psutil.Process(dead.pid).status() == psutil.STATUS_ZOMBIE)
    os.killpg(dead.pid, 0)  # its group is still there
    assert not reaper.lives(dead.pid)
    dead.wait()
    assert not reaper.lives(dead.pid)
    assert reaper.lives(os.getpgrp())


def test_a_child_that_dies_early_is_one_line_with_the_end_of_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    script = "echo first; echo; echo the disk is full >&2; exit 3"
    child = supervisor.spawn("quitter", ["sh", "-c", script], log=tmp_path / "log")
    with pytest.raises(ServiceError) as caught:
        supervisor.wait_until_ready(child, lambda: False, STARTED_WITHIN_S)
    where = f"({tmp_path / 'log'})"
    message = f"quitter ended with exit code 3: first | the disk is full {where}"
    assert str(caught.value) == message


def test_a_child_that_never_answers_is_given_up(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.spawn("mute", ["sleep", "300"], log=tmp_path / "log")
    with pytest.raises(ServiceError, match=r"mute did not answer within 0\.05 s: its log is empty"):
        supervisor.wait_until_ready(child, lambda: False, 0.05)
    child.stop(grace_s=0)


def test_children_are_pinned_and_see_a_clean_environment(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    before = os.sched_getaffinity(0)
    core = max(before)
    program = (
        "import os; e = os.environ;"
        "print(os.sched_getaffinity(0), e['LC_ALL'], e.get('PYTHONHASHSEED'), e['EXTRA'])"
    )
    child = supervisor.spawn(
        "looker",
        [sys.executable, "-c", program],
        log=tmp_path / "log",
        cpus=frozenset({core}),
        env={"EXTRA": "given"},
    )
    assert child.wait(STARTED_WITHIN_S) == 0
    assert child.log_tail() == f"{{{core}}} C.UTF-8 None given"
    assert os.sched_getaffinity(0) == before


def test_a_signal_within_a_cleanup_takes_effect_after_it() -> None:
    steps = []

    def clean_up() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            steps.append("cleaned")
        steps.append("never reached")

    with interruptible(), pytest.raises(Interrupted, match="interrupted by SIGTERM"):
        clean_up()
    assert steps == ["cleaned"]


def test_a_signal_while_the_children_are_ended_does_not_save_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_stop = Child.stop
    children: list[Child] = []

    def interrupted_stop(child: Child, grace_s: float) -> int | None:
        signal.raise_signal(signal.SIGTERM)
        return real_stop(child, grace_s)

    def run() -> None:
        with Supervisor() as supervisor:
            log = tmp_path / "log"
            children.append(supervisor.spawn("one", ["sleep", "300"], log=log))
            children.append(supervisor.spawn("two", ["sleep", "300"], log=log))
            monkeypatch.setattr(Child, "stop", interrupted_stop)

    with interruptible(), pytest.raises(Interrupted):
        run()
    assert [is_running(child.pid) for child in children] == [False, False]


def spawn_ready(supervisor: Supervisor, argv: list[str], log: Path) -> Child:
    """A child that has printed something."""
    child = supervisor.spawn("child", argv, log=log)
    supervisor.wait_until_ready(child, lambda: log.stat().st_size > 0, STARTED_WITHIN_S)
    return child


def test_a_signal_while_a_child_is_started_leaves_nobody_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    start = Supervisor._start
    pids: list[int] = []

    def started(*arguments: object) -> int:
        pids.append(start(*arguments))  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
        return pids[-1]

    monkeypatch.setattr(Supervisor, "_start", started)
    with interruptible(), pytest.raises(Interrupted), Supervisor() as supervisor:
        supervisor.spawn("sleeper", ["sleep", "300"], log=tmp_path / "log")
    assert not psutil.pid_exists(pids[0]), "it was buried"
