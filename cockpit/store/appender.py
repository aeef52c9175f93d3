"""Batches as records at the end of a file, on a network file system."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cockpit.store.batch import Batch
from cockpit.store.log import Log, TakenOver
from cockpit.store.records import encode, from_batch
from cockpit.store.segments import Place, first_record, segment_path
from cockpit.store.upkeep import Remainder

_LARGEST = 64 * 1024 * 1024
"""Bytes of a segment from which on another is begun."""


class Appender(Log):
    """Appends to a log that is held. A record is on the server's disk before the next one is written.

    Where that fails, what was written of it does not count: another segment begins, and says so.

    Args:
        log: What the log is called as one file.
        end: Where it ends, in the segment that the claim made.
        remainder: What is left of the series, as the log tells.
        fold: Makes the log one file.
    """

    def __init__(self, log: Path, end: Place, remainder: Callable[[], Remainder], fold: Callable[[], None]) -> None:
        self._log, self._end, self._remainder, self._fold = log, end, remainder, fold
        self._file: int | None = None
        self._whole = True  # nothing stands behind the end

    def commit(self, batch: Batch, dropped: int) -> Remainder | None:
        """One record."""
        self._append({"kind": "batch", "dropped": dropped, "batch": from_batch(batch)})
        begins_earlier = batch.attempt is not None and batch.attempt.number > 1
        return self._remainder() if begins_earlier else None

    def finish(self, state: str, cursor: int, dropped: int) -> None:
        """One record; then the log becomes one file, unless it is large."""
        self._append({"kind": "end", "dropped": dropped, "state": state, "cursor": cursor})
        self._close()
        self._fold()

    def disconnect(self) -> None:
        """Begins another segment with the next record: what was written last may not be whole."""
        self._close()
        self._whole = False

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(OSError):  # what had to be on the disk is
                os.close(file)

    def _append(self, record: Mapping[str, Any]) -> None:
        data = encode({**record, "heartbeat": time.time()})
        require_held(self._log, self._end)
        if self._file is None and self._whole:
            self._file = os.open(segment_path(self._log, self._end), os.O_WRONLY | os.O_APPEND)
            self._whole = os.fstat(self._file).st_size == self._end.at
        if not self._whole or self._end.at > _LARGEST:
            self._begin_segment()
        assert self._file is not None
        self._whole = False
        append(self._file, data)
        self._whole = True
        self._end = Place(self._end.attempt, self._end.segment, self._end.at + len(data))

    def _begin_segment(self) -> None:
        self._close()
        _, following = self._end.segments_after()
        segment_path(self._log, following).unlink(missing_ok=True)  # one whose first record failed
        self._file, size = begin_segment(self._log, following, first_record(self._end))
        self._end, self._whole = Place(following.attempt, following.segment, size), True


def require_held(log: Path, end: Place) -> None:
    """Looks whether the segment is there, and no other writer's.

    Raises:
        FileNotFoundError: If it is gone.
        TakenOver: If there is another writer.
    """
    path = segment_path(log, end)
    if path.stat().st_size < end.at:
        raise FileNotFoundError(f"{path} has been replaced by another file")
    others, _ = end.segments_after()
    if segment_path(log, others).exists():
        raise TakenOver(f"another process writes {log} now: this one has stopped logging")


def begin_segment(log: Path, place: Place, *records: bytes) -> tuple[int, int]:
    """Makes a segment.

    Returns:
        The open file, and its length.

    Raises:
        FileExistsError: If somebody was quicker: of two machines that try at once one succeeds.
        OSError: If it cannot be written.
    """
    path = segment_path(log, place)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
    data = b"".join(records)
    try:
        append(file, data)
        synchronise(path.parent)
    except BaseException:
        os.close(file)
        path.unlink(missing_ok=True)
        raise
    return file, len(data)


def append(file: int, data: bytes) -> None:
    """Writes all of it, and waits until it is on the disk."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)


def synchronise(path: Path) -> None:
    """Waits until a file is on the disk; or the names in a directory, where the system lets one ask for that."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # not something that can be waited for
            raise
    finally:
        os.close(opened)
