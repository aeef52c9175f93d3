"""A directory of runs."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeAlias

import sqlalchemy as sa

from cockpit.store import database
from cockpit.store.reader import Reader
from cockpit.store.schema import MINUS_INF, NAN, PLUS_INF, run, series

_FILE = "rank0.db"
_Stamp: TypeAlias = "tuple[tuple[int, int, int], ...]"


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs.

    Args:
        name: Relative to the log directory, with ``/`` between its parts.
        state: ``running``, ``finished``, ``interrupted``, ``crashed`` or ``unreadable``.
        created: When it began, in seconds since 1970; for an unreadable one, when the file was last written.
        tags: Words to find it by.
        last_step: Highest step logged.
        last_loss: The loss there; ``None`` where it is undefined or not logged.
        reason: Why it is unreadable.
    """

    name: str
    state: str
    created: float
    tags: tuple[str, ...] = ()
    last_step: int | None = None
    last_loss: float | None = None
    reason: str = ""


class Store:
    """A directory of runs.

    Args:
        logdir: The directory; it may be made later.
    """

    def __init__(self, logdir: str | Path) -> None:
        self.logdir = Path(logdir)
        self._known: dict[Path, tuple[_Stamp, RunSummary]] = {}

    def runs(self) -> list[RunSummary]:
        """All runs, the newest first. Broken files are listed with the reason."""
        summaries = [self._summary(name, path) for name, path in self._files()]
        return sorted(summaries, key=lambda summary: (-summary.created, summary.name))

    def open(self, name: str) -> Reader:
        """A run by its name in :meth:`runs`.

        Raises:
            KeyError: If there is no such run, or the name leads out of the log directory.
            UnreadableLog: If it cannot be read, in words.
        """
        if not name or "\0" in name or _leads_out(name):
            raise KeyError(f"{name!r} is not a run in {self.logdir}: a name is a path below it")
        path = self.logdir / name / _FILE
        if not path.is_file():
            names = [known for known, _ in self._files()]
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise KeyError(f"there is no run {name!r} in {self.logdir}{hint}")
        return Reader(path, name)

    def _files(self) -> Iterator[tuple[str, Path]]:
        seen: set[str] = set()
        for directory, below, files in os.walk(self.logdir, followlinks=True):
            real = os.path.realpath(directory)
            if real in seen:  # links may lead round in a circle
                below.clear()
                continue
            seen.add(real)
            below.sort()
            if _FILE in files:
                yield Path(directory).relative_to(self.logdir).as_posix(), Path(directory) / _FILE

    def _summary(self, name: str, path: Path) -> RunSummary:
        stamp = _stamp(path)
        known = self._known.get(path)
        if known is not None and known[0] == stamp and known[1].state not in ("running", "unreadable"):
            return known[1]
        summary = self._fresh_summary(name, path)
        self._known[path] = stamp, summary
        return summary

    def _fresh_summary(self, name: str, path: Path) -> RunSummary:
        try:
            return _read_summary(name, path)
        except Exception as error:  # a damaged file may hold anything; the other runs are listed all the same
            written = path.stat().st_mtime if path.exists() else 0.0
            return RunSummary(name, "unreadable", written, reason=str(error))


def _stamp(path: Path) -> _Stamp:
    """Changes when anything is written; what is committed first stands in the write-ahead log."""
    stamps = []
    for file in (path, path.with_name(path.name + "-wal")):
        try:
            status = file.stat()
        except OSError:
            continue
        stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or bool(PureWindowsPath(name).drive) or "\\" in name


def _read_summary(name: str, path: Path) -> RunSummary:
    with database.reading(database.reading_engine(path), path) as connection:
        database.check_version(connection, path)
        columns = [column for column in run.c if column.name != "header"]
        row = connection.execute(sa.select(*columns)).one()
        last = sa.select(series.c.last_value, series.c.last_flag).where(
            series.c.key == "loss", series.c.origin == "instrument", sa.not_(series.c.layered)
        )
        loss = connection.execute(last).first()
    last_loss = None
    if loss is not None:
        odd = {NAN: float("nan"), PLUS_INF: float("inf"), MINUS_INF: float("-inf")}
        last_loss = odd.get(loss.last_flag, loss.last_value)
    tags = tuple(json.loads(row.tags))
    return RunSummary(name, database.state_of(row), row.created, tags, row.last_step, last_loss)
