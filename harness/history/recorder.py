"""Fixed-size records in preallocated, memory-mapped segments, one writer each.

A record is written in place by `struct.pack_into` on the mapping: no system call, about half a
microsecond, and whatever was written is in the page cache when the process dies. Segments are
allocated with `posix_fallocate`, because a sparse file on a full disk would end the writer with
SIGBUS in the middle of a store; a full disk is met here, before anything is sent, as
`RecordingError`.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness.errors import RecordingError

SEGMENT_RECORDS: Final = 16_384  # 1 MiB of 64-byte records: allocated in about a millisecond


RECORDING_FAILED: Final = "recording-failed"
"""A file of this name in a trial's raw folder says why a process could not record."""


def note_recording_failed(folder: Path, error: RecordingError) -> None:
    """Leave the error where the run looks for it; on a full disk an empty file has to do."""
    with suppress(OSError):
        (folder / RECORDING_FAILED).write_text(f"{error}\n", encoding="utf-8")


class Recorder:
    """Numbered records of `record_bytes` each, in files `<stem>.<n>.bin` of equal size.

    One thread writes. An unused record is all zeros.
    """

    def __init__(
        self, stem: Path, record_bytes: int, segment_records: int = SEGMENT_RECORDS
    ) -> None:
        self._stem = stem
        self._record_bytes = record_bytes
        self._segment_bytes = record_bytes * segment_records
        self._segments = 0
        self.buffer: mmap.mmap
        self.offset = self._segment_bytes
        """Where the next record starts in `buffer`; equal to the segment's size when it is full."""

    def reserve(self) -> int:
        """The offset of a fresh record in `buffer`. Raises RecordingError when none can be had."""
        if self.offset == self._segment_bytes:
            self._open_segment()
        offset = self.offset
        self.offset = offset + self._record_bytes
        return offset

    def require_room(self, records: int) -> None:
        """Have that many records (at most a segment's) ready, so that none of them can fail.

        Raises RecordingError.
        """
        if self.offset + records * self._record_bytes > self._segment_bytes:
            self._open_segment()

    def _open_segment(self) -> None:
        path = self._stem.with_name(f"{self._stem.name}.{self._segments}.bin")
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            os.posix_fallocate(descriptor, 0, self._segment_bytes)
            # Records still open in the previous segment keep its mapping alive by reference.
            self.buffer = mmap.mmap(descriptor, self._segment_bytes)
        except OSError as error:
            if descriptor >= 0:
                path.unlink()
            raise RecordingError(
                f"cannot record in {path.parent}: {error.strerror}; make room and run again"
            ) from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        self._segments += 1
        self.offset = 0
