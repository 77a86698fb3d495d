"""Ledger and journal: what is written survives the writer, and a full disk is met in time."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.errors import RecordingError
from harness.history.journal import Journal, Role
from harness.history.ledger import Ledger, RequestKind, Trouble
from harness.history.recorder import SEGMENT_RECORDS
from harness.history.store import collect_journal, collect_ledger, connect
from harness.protocol.commands import KeyKind, Status
from harness.vote import Outcome, mint


def rows(parquet: Path) -> list[dict[str, object]]:
    with connect() as connection:
        frame = connection.execute(f"SELECT * FROM '{parquet}'").df()
    return frame.to_dict("records")


def test_an_attempt_is_found_as_it_was_written(tmp_path: Path):
    ledger = Ledger(tmp_path, generator=7)
    attempt = ledger.open(
        RequestKind.VOTE, mint(7, 1), 3, 2, planned_ns=10, taken_ns=11, sent_ns=12
    )
    attempt.close(99, Outcome.REFUSED, 503, Trouble.NONE)
    assert collect_ledger(tmp_path, tmp_path / "l.parquet") == 1
    (row,) = rows(tmp_path / "l.parquet")
    assert row == {
        "vote": 7 << 48 | 1, "planned_ns": 10, "taken_ns": 11, "sent_ns": 12, "answered_ns": 99,
        "outcome": Outcome.REFUSED, "kind": RequestKind.VOTE, "choice": 3, "status": 503,
        "attempt": 2, "generator": 7, "error": Trouble.NONE,
    }  # fmt: skip


def test_a_command_is_found_as_it_was_written(tmp_path: Path):
    journal = Journal(tmp_path, Role.FLUSHER)
    journal.start_operation(queue=255)
    journal.open(1, KeyKind.SLOT, 5, daemon=3)
    journal.close(Status.OK, number=2**63 + 1, cas=77, vote=mint(1, 2))
    assert collect_journal(tmp_path, tmp_path / "j.parquet") == 1
    with connect() as connection:
        found = connection.execute(
            f"SELECT vote, number, cas, slot, pid, operation, queue, daemon, "
            f"role, command, key, status "
            f"FROM '{tmp_path}/j.parquet' WHERE begin_ns > 0 AND end_ns >= begin_ns"
        ).fetchall()
    assert found == [
        (
            mint(1, 2),
            2**63 + 1,
            77,
            5,
            os.getpid(),
            1,
            255,
            3,
            Role.FLUSHER,
            1,
            KeyKind.SLOT,
            Status.OK,
        )
    ]


def test_a_record_closed_after_its_segment_was_full_is_still_found(tmp_path: Path):
    ledger = Ledger(tmp_path, generator=0)
    first = ledger.open(RequestKind.VOTE, mint(0, 0), 1, 1, planned_ns=1, taken_ns=1, sent_ns=1)
    for n in range(1, SEGMENT_RECORDS + 1):
        ledger.open(RequestKind.VOTE, mint(0, n), 1, 1, planned_ns=1, taken_ns=1, sent_ns=1)
    first.close(5, Outcome.ACKNOWLEDGED, 201)
    assert collect_ledger(tmp_path, tmp_path / "l.parquet") == SEGMENT_RECORDS + 1
    acknowledged = [r for r in rows(tmp_path / "l.parquet") if r["outcome"] == 1]
    assert [r["vote"] for r in acknowledged] == [0]


def test_commands_under_way_together_are_closed_each_in_its_own_segment(tmp_path: Path):
    journal = Journal(tmp_path, Role.FLUSHER)
    journal.start_operation()
    opened = []
    for n in range(SEGMENT_RECORDS + 2):
        journal.open(1, KeyKind.SLOT, n, vote=n % 7, daemon=1)
        opened.append(journal.opened())
    for n in reversed(range(SEGMENT_RECORDS + 2)):
        journal.resume(opened[n])
        journal.close(Status.OK, number=n * 2, cas=n + 1)
    assert collect_journal(tmp_path, tmp_path / "j.parquet") == SEGMENT_RECORDS + 2
    with connect() as connection:
        (right,) = connection.execute(
            f"SELECT count(*) FROM '{tmp_path}/j.parquet' WHERE number = slot * 2 "
            f"AND cas = slot + 1 AND vote = slot % 7 AND status = {Status.OK} AND daemon = 1"
        ).fetchone() or (0,)
    assert right == SEGMENT_RECORDS + 2


def test_records_survive_sigkill_and_an_open_one_says_reply_unknown(tmp_path: Path):
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from harness.history.journal import Journal, Role\n"
        "from harness.protocol.commands import Status\n"
        "journal = Journal(Path(sys.argv[1]), Role.SITE); journal.start_operation()\n"
        "journal.open(3); journal.close(Status.OK, 1, 8); journal.open(2, slot=6)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert collect_journal(tmp_path, tmp_path / "j.parquet") == 2
    closed, opened = sorted(rows(tmp_path / "j.parquet"), key=lambda r: r["slot"])
    assert (closed["status"], closed["cas"]) == (Status.OK, 8)
    assert (opened["status"], opened["end_ns"]) == (Status.LOST, 0)


def test_a_full_disk_is_met_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    journal = Journal(tmp_path, Role.SITE)
    with pytest.raises(RecordingError, match="No space left on device; make room"):
        journal.open(1)
    assert list(tmp_path.iterdir()) == []


def test_an_operation_has_room_for_all_its_records_before_the_first(tmp_path: Path):
    journal = Journal(tmp_path, Role.SITE)
    for _ in range(3):
        journal.start_operation(records=SEGMENT_RECORDS)
        journal.open(1)
    assert len(list(tmp_path.iterdir())) == 3
    assert collect_journal(tmp_path, tmp_path / "j.parquet") == 3


def test_no_records_give_an_empty_history(tmp_path: Path):
    assert collect_journal(tmp_path, tmp_path / "j.parquet") == 0
    assert rows(tmp_path / "j.parquet") == []


def test_ids_above_the_signed_range_survive(tmp_path: Path):
    ledger = Ledger(tmp_path, generator=65535)
    vote = mint(65535, 2**48 - 1)
    ledger.open(RequestKind.VOTE, vote, 1, 1, planned_ns=1, taken_ns=1, sent_ns=1)
    collect_ledger(tmp_path, tmp_path / "l.parquet")
    assert np.uint64(rows(tmp_path / "l.parquet")[0]["vote"]) == np.uint64(vote)
