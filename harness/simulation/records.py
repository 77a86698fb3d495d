"""Ledger and journal of a simulated trial: the same records as on a real one, in memory."""

import struct
from typing import Final

from harness.history.journal import JOURNAL_DTYPE, Role
from harness.history.ledger import LEDGER_DTYPE, RequestKind, Trouble
from harness.history.store import collect_journal, collect_ledger
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    DatabaseCommand,
    InsertBallot,
    InsertBallots,
    KeyKind,
    MemcachedCommand,
    Reply,
    Set,
    Status,
)
from harness.run_folder import TrialFolder
from harness.vote import Outcome

FORMATS: Final = {"<i8": "q", "<u8": "Q", "<u4": "I", "<u2": "H", "|u1": "B", "|V13": "13x"}
OF_A_VOTE: Final = (KeyKind.SLOT, KeyKind.VOTER)  # looked up once: the hot path of every command
VOTE_DIGITS: Final = 16  # a message opens with its vote's id in hex


def _struct_of(dtype: object) -> struct.Struct:
    fields = dtype.fields  # type: ignore[attr-defined]
    return struct.Struct("<" + "".join(FORMATS[kind.str] for kind, _ in fields.values()))


_JOURNAL: Final = _struct_of(JOURNAL_DTYPE)
_LEDGER: Final = _struct_of(LEDGER_DTYPE)
assert (JOURNAL_DTYPE.names or ())[6:] == (
    *("pid", "operation", "thread", "queue", "daemon", "role", "command", "key", "status"),
)


def vote_in(message: bytes) -> int:
    """The vote id that a message opens with; 0 for a message that is none."""
    try:
        return int(message[:VOTE_DIGITS], 16)
    except ValueError:
        return 0


class Records:
    """All of one trial. A command's record is written when its reply is there."""

    def __init__(self, *, journal: bool) -> None:
        self.ledger = bytearray()
        self.journal = bytearray()
        self.commands = 0
        self.journal_kept = journal

    def attempt(
        self,
        vote: int,
        planned_ns: int,
        taken_ns: int,
        sent_ns: int,
        answered_ns: int,
        outcome: Outcome,
        kind: RequestKind,
        choice: int,
        status: int,
        number: int,
        generator: int,
        trouble: Trouble,
    ) -> None:
        self.ledger += _LEDGER.pack(
            vote, planned_ns, taken_ns, sent_ns, answered_ns,
            outcome, kind, choice, status, number, generator, trouble,
        )  # fmt: skip

    def write(self, trial: TrialFolder) -> None:
        """To Parquet, as the raw records of a real trial are."""
        (trial.raw / "ledger-simulated.bin").write_bytes(self.ledger)
        (trial.raw / "journal-simulated.bin").write_bytes(self.journal)
        collect_ledger(trial.raw, trial.ledger)
        collect_journal(trial.raw, trial.journal)


class ThreadJournal:
    """The commands of one simulated thread."""

    __slots__ = ("_operation", "_pid", "_queue", "_records", "_role", "_thread", "begin_ns")

    def __init__(self, records: Records, pid: int, thread: int, role: Role) -> None:
        self._records = records
        self._pid = pid
        self._thread = thread
        self._role = int(role)
        self._operation = 0
        self._queue = 0
        self.begin_ns = 0
        """When the command that is under way was sent."""

    @property
    def operation(self) -> tuple[int, int, int, int, int]:
        """Role, process, thread, number and queue of the machine's run that is recorded now."""
        return self._role, self._pid, self._thread, self._operation, self._queue

    def start_operation(self, queue: int) -> None:
        """The next records belong to a new machine's run on that queue."""
        self._operation += 1
        self._queue = queue

    def memcached(self, command: MemcachedCommand, reply: Reply, end_ns: int) -> None:
        """As `cache.executor` records it."""
        records = self._records
        if not records.journal_kept:
            records.commands += 1
            return
        key = command.key
        vote = number = 0
        if key.kind not in OF_A_VOTE:
            number = reply.number
        elif type(command) is Set or type(command) is Add:
            vote = vote_in(command.value)
        else:
            vote = vote_in(reply.value)
            number = 0 if vote else reply.number
        self._write(
            end_ns, vote, number, reply.cas, key.slot, key.daemon,
            COMMAND_CODES[type(command)], key.kind, reply.status,
        )  # fmt: skip

    def database(self, command: DatabaseCommand, reply: Reply, end_ns: int) -> None:
        """As `database` records it."""
        vote = number = 0
        if isinstance(command, InsertBallot):
            vote, number = vote_in(command.message), 1
        elif isinstance(command, InsertBallots):
            number = len(command.messages)
        else:
            number = reply.number
        code = COMMAND_CODES[type(command)]
        self._write(end_ns, vote, number, 0, 0, 0, code, KeyKind.NONE, reply.status)

    def patience_over(self, code: int, slept_ns: int, now_ns: int) -> None:
        self.begin_ns = now_ns
        self._write(now_ns, 0, slept_ns, 0, 0, 0, code, KeyKind.LOCK, Status.OVER)

    def _write(
        self,
        end_ns: int,
        vote: int,
        number: int,
        cas: int,
        slot: int,
        daemon: int,
        command: int,
        key: int,
        status: int,
    ) -> None:
        records = self._records
        records.commands += 1
        if records.journal_kept:
            records.journal += _JOURNAL.pack(
                self.begin_ns, end_ns, vote, number, cas, slot, self._pid, self._operation,
                self._thread, self._queue, daemon, self._role, command, key, status,
            )  # fmt: skip
