"""A log on a network file system: appended to by one machine, read by any."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import sqlalchemy as sa

from cockpit.store import place
from cockpit.store.appender import Appender, begin_segment, require_held, synchronise
from cockpit.store.attempts import attempts_of
from cockpit.store.database import NOT_ONE_ROW
from cockpit.store.index import Index, Outdated
from cockpit.store.log import Log, report
from cockpit.store.records import Damaged, encode
from cockpit.store.schema import RunIsLive, UnreadableLog, run
from cockpit.store.segments import Place, begins_after, first_record, run_row, segment_path, segments_of
from cockpit.store.sqlite import File, file_of
from cockpit.store.upkeep import Remainder, rows_of

_LARGEST = 1 << 30
"""Bytes of segments up to which the end of a run makes one file of them."""
_TRIES = 5
_SILENCE = 10.0
"""Seconds after which a claim that is not whole will not become so."""


class Appended(File):
    """A log of segments. Who reads it keeps what they say in tables on their own machine, and adds what is new.

    SQLite's own files would need memory or locks that machines share, which network file systems do not give reliably.

    Args:
        path: What the log is called as one file, which it becomes when its run is over.
    """

    refusals: ClassVar[tuple[type[Exception], ...]] = (sqlite3.DatabaseError, OSError)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock = threading.RLock()
        self._index: Index | None = None
        self._base: tuple[int, int, int] | None = None
        self._attempts = 0  # that the one file tells of
        self._end = Place(1, 1)

    def reading_engine(self) -> sa.Engine:
        """Of the tables on this machine; of the one file where that holds everything."""
        return super().reading_engine() if self._index is None else self._index.file.reading_engine()

    def recover(self) -> None:
        """Imports what has been appended.

        Raises:
            UnreadableLog: If segments are damaged, or a newer version's.
        """
        with self._lock:
            for _ in range(_TRIES):
                self._look_at_the_one_file()
                following = segment_path(self._path, Place(self._attempts + 1, 1))
                if self._index is None and not following.exists():
                    super().recover()
                    return
                try:
                    self._end = self._indexed().go_on()
                    if self._end.at or following.exists():
                        return
                    self._forget()  # it has become a part of the one file before it was opened
                except Outdated:
                    self._forget()
                except Damaged as error:
                    raise UnreadableLog(f"{self._path} is damaged: {error}") from error
        raise UnreadableLog(f"{self._path} changes faster than it can be read")

    def _look_at_the_one_file(self) -> None:
        """Notices when the end of a run has made one, or another."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            base = None
        else:
            base = status.st_ino, status.st_size, status.st_mtime_ns
        if base != self._base:
            self._forget()
            self._base, self._attempts = base, 0
            if base is not None:
                with File(self._path).reading() as (connection, number):
                    self._attempts = len(attempts_of(connection, number))

    def _indexed(self) -> Index:
        if self._index is None:
            self._index = Index(self._path, None if self._base is None else File(self._path), self._attempts)
        return self._index

    def _forget(self) -> None:
        if self._index is not None:
            self._index.close()
        self._index = None

    def reason(self, error: Exception) -> str:
        """What is wrong with the files."""
        if any(True for _ in segments_of(self._path)):
            return "its run ended before anything was written" if isinstance(error, NOT_ONE_ROW) else str(error)
        return super().reason(error)

    def writing_engine(self) -> sa.Engine:
        """Of the tables on this machine, to find out what a claim means."""
        with self._lock:
            self.recover()
            self._end = self._indexed().go_on()
            return self._indexed().file.writing_engine()

    def hold(self) -> None:
        """Begins the attempt's first segment, which only one process can.

        Raises:
            RunIsLive: If another one was quicker.
            OSError: If it cannot be written.
        """
        with self._lock:
            with self._indexed().file.writing_engine().connect() as connection, connection.begin():
                row = connection.execute(sa.select(run)).one()
                began = attempts_of(connection, row.id)[-1]
            claimed = {"kind": "claim", "run": run_row(row), "attempt": list(vars(began).values())}
            mine = Place(began.number, 1)
            self._clear_away(mine)
            try:
                file, size = begin_segment(self._path, mine, first_record(self._end), encode(claimed))
            except FileExistsError:
                raise RunIsLive(
                    f"{self.title} is being written by another process, which began at the same moment: give this one "
                    "another name"
                ) from None
            os.close(file)
            self._end = Place(mine.attempt, mine.segment, size)
            self._forget()
        self._say()

    def _say(self) -> None:
        """What becomes of the log; once for all processes."""
        directory = self._path.parent
        filesystem = place.network_filesystem(directory.resolve(), place.mounts_text())
        if filesystem is not None and self._path.name == file_of(0):
            words = (
                f"{directory} is on a network file system ({filesystem}): the log is appended to "
                f"{self._path.stem}.*.seg, and becomes {self._path.name} when the run ends"
            )
            print(f"cockpit: {words}", file=sys.stderr)

    def _clear_away(self, mine: Place) -> None:
        """Deletes what a process has left behind that was killed while it made its claim."""
        path = segment_path(self._path, mine)
        with suppress(FileNotFoundError):
            left_behind = time.time() - path.stat().st_mtime > _SILENCE
            if left_behind and begins_after(self._path, mine) is None:
                path.unlink()

    def is_foreign(self, error: Exception) -> bool:
        """As a file's, where it is SQLite that refuses."""
        return not isinstance(error, OSError) and super().is_foreign(error)

    def require_held(self) -> None:
        """The segment of this attempt tells."""
        require_held(self._path, self._end)

    def log(self, number: int, token: str) -> Log:
        """By records."""
        return Appender(self._path, self._end, self._remainder, self._fold)

    def _remainder(self) -> Remainder:
        """Asked of the log itself: it is seldom that a script goes on at an earlier step than it has said."""
        with Appended(self._path).reading() as (connection, number):
            last_step = connection.execute(sa.select(run.c.last_step).where(run.c.id == number)).scalar()
            return Remainder(rows_of(connection, number), last_step)

    def _fold(self) -> None:
        """Makes the segments one file, in the place of that which is there.

        Where that cannot be done they stay, and are read as before.

        Raises:
            TakenOver: If another writer has begun in the meantime.
        """
        segments = list(segments_of(self._path))
        if sum(path.stat().st_size for _, path in segments) > _LARGEST:
            return
        fresh = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        try:
            self.recover()
            shutil.copyfile(self._indexed().whole(), fresh)
            synchronise(fresh)
            require_held(self._path, segments[-1][0])
            os.replace(fresh, self._path)
            synchronise(self._path.parent)
            for _, path in reversed(segments):
                path.unlink(missing_ok=True)
        except (OSError, sa.exc.DBAPIError, sqlite3.Error, UnreadableLog) as error:
            report(
                f"the log {self._path} stays in segments, which can be read: one file cannot be made of them ({error})"
            )
        finally:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            self._forget()
