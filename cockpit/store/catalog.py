"""A directory of runs."""

from __future__ import annotations

import difflib
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import sqlalchemy as sa

from cockpit.store import remarks
from cockpit.store.database import Database, Pulse, Snapshot, state_of
from cockpit.store.databases import FILE
from cockpit.store.look import latest_values
from cockpit.store.reader import Reader
from cockpit.store.schema import RunIsLive, UnreadableLog, loads, run
from cockpit.store.sqlite import Glance

_RANK = re.compile(r"rank\d+\.db")
_SILENCE = 10.0  # seconds after which nobody writes a file of which nothing else is known
_Stamp: TypeAlias = "tuple[tuple[int, int, int], ...]"


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs.

    Args:
        name: Relative to the log directory, with ``/`` between its parts; bytes that are no text are spelled ``\\xff``.
        state: ``running``, ``finished``, ``interrupted``, ``crashed`` or ``unreadable``.
        created: When it began, in seconds since 1970; for an unreadable one, when the file was last written.
        tags: Words to find it by: those it was begun with, or that it was given since.
        last_step: Highest step logged.
        last_loss: The loss there; ``None`` where it is undefined or not logged.
        reason: Why it is unreadable.
        notes: What somebody wrote about it since.
        latest: The last value of each scalar, by key; ``None`` where it is missing.
        elapsed: Seconds from its beginning to its last point.
        config: The user's hyperparameters.
    """

    name: str
    state: str
    created: float
    tags: tuple[str, ...] = ()
    last_step: int | None = None
    last_loss: float | None = None
    reason: str = ""
    notes: str = ""
    latest: Mapping[str, float | None] = field(default_factory=dict)
    elapsed: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


class Directory:
    """A directory of runs.

    Args:
        logdir: The directory; it may be made later.
    """

    def __init__(self, logdir: Path) -> None:
        self.logdir = logdir
        self._known: dict[Path, tuple[_Stamp, RunSummary]] = {}
        self._pulses: dict[Path, Pulse] = {}

    def runs(self) -> list[RunSummary]:
        """All runs, the newest first. Broken files are listed with the reason."""
        summaries = [self._summary(name, path) for name, path in self._files()]
        return sorted(summaries, key=lambda summary: (-summary.created, summary.name))

    def summary(self, name: str) -> RunSummary:
        """One line of :meth:`runs`, as the run is now.

        Raises:
            KeyError: As :meth:`open`.
        """
        return self._summary(name, self._file(name))

    def open(self, name: str) -> Reader:
        """A run by its name in :meth:`runs`.

        Raises:
            KeyError: If there is no such run, or the name leads out of the log directory.
            UnreadableLog: If it cannot be read, in words.
        """
        return Reader(self._file(name), name)

    def annotate(self, name: str, *, tags: Iterable[str] | None = None, notes: str | None = None) -> None:
        """Gives a run other tags or notes. They stand beside its log, which stays as it is.

        Args:
            name: The run.
            tags: In place of those it has; by default these stay.
            notes: In place of those it has; by default these stay.

        Raises:
            KeyError: As :meth:`open`.
            TypeError: If a tag is no text.
            OSError: If the run's directory cannot be written.
        """
        directory = self._file(name).parent
        old = remarks.read(directory)
        remarks.write(directory, remarks.changed(old, tags, notes))

    def delete(self, name: str) -> None:
        """Deletes the log of a run, its ranks' and its notes; what else lies in its directory stays there.

        Raises:
            KeyError: As :meth:`open`.
            RunIsLive: If it is being written, or may be.
            PermissionError: If a link leads out of the log directory to it.
            OSError: If a file cannot be deleted.
        """
        directory = self._file(name).parent
        if not directory.resolve().is_relative_to(self.logdir.resolve()):
            raise PermissionError(f"{directory} is a link that leads out of {self.logdir}: delete the run where it is")
        logs = sorted(path for path in directory.glob("rank*.db") if _RANK.fullmatch(path.name))
        for path in logs:
            _refuse_if_live(name, path)
        for path in logs:
            for ending in ("-journal", "-shm", "-wal", ""):  # the log last: until then the run is listed
                path.with_name(path.name + ending).unlink(missing_ok=True)
        remarks.forget(directory)
        if directory.resolve() != self.logdir.resolve() and not any(directory.iterdir()):
            directory.unlink() if directory.is_symlink() else directory.rmdir()

    def _file(self, name: str) -> Path:
        if not name or "\0" in name or _leads_out(name):
            raise KeyError(f"{name!r} is not a run in {self.logdir}: a name is a path below it")
        path = self.logdir / name / FILE
        if not os.path.isfile(path):  # unlike a Path it has an answer for names that are too long or no text
            files = dict(self._files())
            if name in files:
                return files[name]
            near = difflib.get_close_matches(name, files, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise KeyError(f"there is no run {name!r} in {self.logdir}{hint}")
        return path

    def _files(self) -> Iterator[tuple[str, Path]]:
        seen: set[str] = set()
        for directory, below, files in os.walk(self.logdir, followlinks=True):
            real = os.path.realpath(directory)
            if real in seen:  # links may lead round in a circle
                below.clear()
                continue
            seen.add(real)
            below.sort()
            if FILE in files:
                yield _spelled(Path(directory).relative_to(self.logdir)), Path(directory) / FILE

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
            return _read_summary(name, path, self._pulses.setdefault(path, Pulse()))
        except Exception as error:  # a damaged file may hold anything; the other runs are listed all the same
            (*_, written), *_ = *_stamp(path), (0, 0, 0)
            return RunSummary(name, "unreadable", written / 1e9, reason=str(error))


def _spelled(path: Path) -> str:
    """A path as text that can be shown: not all names of files are."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _stamp(path: Path) -> _Stamp:
    """Changes when anything is written; what is committed first stands in the write-ahead log."""
    stamps = []
    for file in (path, path.with_name(path.name + "-wal"), path.with_name(remarks.FILE)):
        try:
            status = file.stat()
        except OSError:
            continue
        stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def _leads_out(name: str) -> bool:
    path = PurePath(name)  # as this system understands it: elsewhere a backslash is a letter like any other
    return path.is_absolute() or ".." in path.parts or bool(path.drive)


def _refuse_if_live(name: str, path: Path) -> None:
    try:
        live = Reader(path).state() == "running"
    except UnreadableLog:  # nobody can tell; who writes does so every second
        live = any(abs(time.time() - modified / 1e9) < _SILENCE for _, _, modified in _stamp(path))
    if live:
        raise RunIsLive(f"{name!r} is being written: it can be deleted when it is over")


def _read_summary(name: str, path: Path, pulse: Pulse) -> RunSummary:
    if path.exists() and not path.is_file():  # to open a pipe would be to wait for somebody who writes
        raise UnreadableLog(f"{path} cannot be read: it is no file")
    log = Glance(path)
    with log.reading() as snapshot:
        return summary_of(log, snapshot, name, pulse)


def summary_of(log: Database, snapshot: Snapshot, name: str, pulse: Pulse) -> RunSummary:
    """One line of a list of runs.

    Args:
        log: The run's.
        snapshot: As it is.
        name: The run's name.
        pulse: What earlier looks have seen.

    Raises:
        ValueError: If the log says what no run can have.
    """
    query = sa.select(run, log.clock().label("now")).where(run.c.id == snapshot.number)
    row = snapshot.connection.execute(query).one()
    latest, config = latest_values(*snapshot), loads(row.header).get("config")
    said = log.annotations(snapshot)
    if not math.isfinite(row.created):
        raise ValueError(f"{log.place} says that it began at {row.created}")
    return RunSummary(
        name,
        state_of(row, pulse),
        float(row.created),
        tuple(map(str, loads(row.tags))) if said.tags is None else said.tags,
        row.last_step,
        latest.get("loss"),
        notes=said.notes,
        latest=latest,
        elapsed=float(row.elapsed),
        config=config if isinstance(config, Mapping) else {},
    )
