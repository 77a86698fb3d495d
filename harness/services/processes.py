"""Children of the harness, each in a process group of its own, none of which outlives it.

However the harness ends, its children end: by leaving the `Supervisor`'s block, or, when the
harness was killed, by the reaper. No child ever runs unknown to the reaper: it starts as a shell
whose input is the reaper's pipe, notes its own process group there, and only then becomes the
program. Until it has, it holds the pipe open, so the reaper waits for the note.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from harness.errors import ServiceError
from harness.services import reaper
from harness.services.interruption import uninterrupted
from harness.services.programs import clean_environment

POLL_S: Final = 0.01  # a wait ends at most this late, for 1 % of a core or less
KILL_LIMIT_S: Final = 5.0  # a killed process is gone in milliseconds, unless its disk hangs
GROUP_LIMIT_S: Final = 1.0  # until its killed grandchildren are dead; one may wait for a disk
LOG_TAIL_LINES: Final = 3  # the cause stands in the last lines, and one line of output is readable
LOG_TAIL_BYTES: Final = 4096
_REGISTER: Final = r"""printf '+%s\0' "$$" >&0 && exec "$@" </dev/null"""
_DEFAULT_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)  # changed by Python


class Child:
    """A program that the harness started; not buried before `stop`, so its id stays its own."""

    def __init__(self, name: str, pid: int, log: Path, forget: Callable[[int], None]) -> None:
        self.name = name
        self.pid = pid
        self.log = log
        self._forget = forget
        self._asked = False
        self._reaped = False
        self._exit_code: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal's number; None while it runs."""
        if self._exit_code is None:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                exited = ended.si_code == os.CLD_EXITED
                self._exit_code = ended.si_status if exited else -ended.si_status
        return self._exit_code

    def wait(self, limit_s: float) -> int | None:
        """The exit code, or None when it still runs after `limit_s`."""
        wait_until(lambda: self.poll() is not None, limit_s)
        return self._exit_code

    def require_alive(self) -> None:
        """Raises ServiceError with the last lines of the log when the child has ended."""
        code = self.poll()
        if code is not None:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            raise ServiceError(f"{self.name} ended {how}: {self.log_tail()} ({self.log})")

    def log_tail(self) -> str:
        """The last lines of its log, as one line."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            text = ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-LOG_TAIL_LINES:]) or "its log is empty"

    def ask_to_end(self) -> None:
        """SIGTERM, also to one that is stopped, which goes on for it; once only.

        One that is ending no longer handles it, and would die of a second one.
        """
        if not self._asked and not self._reaped and self.poll() is None:
            self._asked = True
            os.kill(self.pid, signal.SIGTERM)
            self._signal_group(signal.SIGCONT)

    def stop(self, grace_s: float) -> int | None:
        """Ask the child to end, after `grace_s` kill it, and always its whole process group.

        Works on stopped processes too. The exit code; None if even SIGKILL did not end it.
        """
        if self._reaped:
            return self._exit_code
        if grace_s > 0:
            self.ask_to_end()
            self.wait(grace_s)
        self._signal_group(signal.SIGKILL)
        if self.wait(KILL_LIMIT_S) is None:
            return None
        os.waitpid(self.pid, 0)
        self._reaped = True
        if wait_until(lambda: not reaper.lives(self.pid), GROUP_LIMIT_S):
            self._forget(self.pid)
        return self._exit_code

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(self.pid, number)


class Supervisor:
    """Starts children and temporary folders; at the end of its block none is left."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._folders: set[Path] = set()

    def __enter__(self) -> "Supervisor":
        read_end, self._pipe = os.pipe()
        try:
            # -I -S: the caller's environment and packages are no business of the reaper.
            self._reaper = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", reaper.__file__],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, read_end, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setsid=True,
            )
        finally:
            os.close(read_end)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Kills what still runs: who wants a graceful end has asked for it before."""
        with uninterrupted():
            for child in reversed(self._children):
                child.stop(grace_s=0)
            for folder in list(self._folders):
                self.remove(folder)
            os.close(self._pipe)
            wait_until(lambda: os.waitpid(self._reaper, os.WNOHANG)[0] != 0, KILL_LIMIT_S)

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        cpus: frozenset[int] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a program; its output is appended to `log`, `env` joins a clean environment.

        `cpus` are the cores that it and its descendants may use. Raises ServiceError when the log
        cannot be written.
        """
        try:
            log_end = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise ServiceError(f"cannot write the log {log}: {error.strerror}") from error
        try:
            # Whatever signal comes, a child that was started is known: otherwise nobody would bury
            # it, and the reaper would wait for that.
            with uninterrupted(), _pinned(cpus):
                pid = self._start(argv, log_end, clean_environment() | dict(env or {}))
                child = Child(name, pid, log, lambda group: self._note(b"-%d" % group))
                self._children.append(child)
        finally:
            os.close(log_end)
        return child

    def _start(self, argv: Sequence[str], log_end: int, environment: Mapping[str, str]) -> int:
        return os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _REGISTER, "sh", *argv],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self._pipe, 0),
                (os.POSIX_SPAWN_DUP2, log_end, 1),
                (os.POSIX_SPAWN_DUP2, log_end, 2),
            ],
            setsid=True,
            setsigdef=_DEFAULT_SIGNALS,
        )

    def wait_until_ready(self, child: Child, is_ready: Callable[[], bool], limit_s: float) -> None:
        """Wait until a child answers. Raises ServiceError when it ended or the limit has passed."""

        def ready() -> bool:
            child.require_alive()
            return is_ready()

        if not wait_until(ready, limit_s):
            raise ServiceError(
                f"{child.name} did not answer within {limit_s:g} s: "
                f"{child.log_tail()} ({child.log})"
            )
        child.require_alive()  # or somebody else answered at its port

    def temporary_directory(self, within: Path | None = None) -> Path:
        """A fresh folder, which ends with the supervisor's block, or before by `remove`.

        It is made where such folders lie, or within the given one.
        """
        path = Path(tempfile.mkdtemp(prefix="pollstorm-", dir=within))
        self._note(b"D" + os.fsencode(path))
        self._folders.add(path)
        return path

    def remove(self, folder: Path) -> None:
        """Remove a temporary folder before the end of the block."""
        reaper.remove(str(folder))
        self._note(b"d" + os.fsencode(folder))
        self._folders.discard(folder)

    def _note(self, note: bytes) -> None:
        with suppress(BrokenPipeError):  # somebody killed the reaper; nothing left to tell it
            os.write(self._pipe, note + b"\0")


@contextmanager
def _pinned(cpus: frozenset[int] | None) -> Iterator[None]:
    """The calling thread on these cores: a child inherits them from the first instruction."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def wait_until(condition: Callable[[], bool], limit_s: float, every_s: float = POLL_S) -> bool:
    """Whether the condition came true within the limit; it is looked at so often."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True
