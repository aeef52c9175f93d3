"""A directory of runs."""

from __future__ import annotations

import difflib
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import sqlalchemy as sa

from cockpit.store import remarks
from cockpit.store.appended import Appended
from cockpit.store.database import Database, Pulse, Snapshot, joint, state_of
from cockpit.store.header import size_of
from cockpit.store.look import latest_values
from cockpit.store.plain import loads
from cockpit.store.reader import Reader
from cockpit.store.schema import RunIsLive, UnreadableLog, run
from cockpit.store.segments import has_segments
from cockpit.store.sqlite import OF_LOG, File, file_of, ranks_among, ranks_in

PROCESS = re.compile(r"(.+)/rank(0|[1-9]\d*)", re.DOTALL)
"""Name of one of a run's processes: that of the run, and the process's."""

_SILENCE = 10.0  # seconds after which nobody writes a file of which nothing else is known
_Stamp: TypeAlias = "tuple[tuple[str, int, int, int], ...]"


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
        processes: How many train it, or did last.
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
    processes: int = 1

    def joined(self, others: Mapping[int, str]) -> RunSummary:
        """With the logs of other processes than the first.

        Args:
            others: Their states, by rank; some may be of an earlier job of more processes.
        """
        if not others:
            return replace(self, processes=max(1, self.processes))
        counted = {rank: state for rank, state in others.items() if rank < self.processes or not self.processes}
        size = self.processes or 1 + len(counted)
        return replace(self, state=joint([self.state, *counted.values()]), processes=size)


class Directory:
    """A directory of runs.

    Args:
        logdir: The directory; it may be made later.
    """

    def __init__(self, logdir: Path) -> None:
        self.logdir = logdir
        self._known: dict[Path, tuple[_Stamp, RunSummary]] = {}
        self._pulses: dict[Path, dict[int, Pulse]] = {}
        self._appended: dict[Path, Appended] = {}

    def runs(self) -> list[RunSummary]:
        """All runs, the newest first. Broken files are listed with the reason, empty ones once they are old enough."""
        found = [(self._summary(*log), log[1]) for log in self._logs()]
        listed = [summary for summary, directory in found if not self._begins(summary, directory)]
        return sorted(listed, key=lambda summary: (-summary.created, summary.name))

    def summary(self, name: str) -> RunSummary:
        """One line of :meth:`runs`, as the run is now.

        Raises:
            KeyError: As :meth:`open`.
        """
        directory = self._directory(name)
        return self._summary(name, directory, os.listdir(directory))

    def open(self, name: str) -> Reader:
        """A run by its name in :meth:`runs`; one of its processes by that and ``/rank1``.

        Raises:
            KeyError: If there is no such run, or the name leads out of the log directory.
            UnreadableLog: If it cannot be read, in words.
        """
        of_process = PROCESS.fullmatch(name)
        if of_process and 0 not in ranks_in(self.logdir / name):
            return Reader(self._directory(of_process[1]), name).rank(int(of_process[2]))
        return Reader(self._directory(name), name)

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
        remarks.change(self._directory(name), tags, notes)

    def delete(self, name: str) -> None:
        """Deletes the log of a run, its ranks' and its notes; what else lies in its directory stays there.

        Raises:
            KeyError: As :meth:`open`.
            RunIsLive: If it is being written, or may be.
            PermissionError: If a link leads out of the log directory to it.
            OSError: If a file cannot be deleted.
        """
        directory = self._directory(name)
        if not directory.resolve().is_relative_to(self.logdir.resolve()):
            raise PermissionError(f"{directory} is a link that leads out of {self.logdir}: delete the run where it is")
        for rank in ranks_in(directory):
            _refuse_if_live(name, directory, rank)
        files = [file for file in os.listdir(directory) if OF_LOG.fullmatch(file)]
        # Until the first process's log is gone the run is listed.
        for file in sorted(files, key=lambda file: 0 in ranks_among([file])):
            (directory / file).unlink(missing_ok=True)
        remarks.forget(directory)
        if directory.resolve() != self.logdir.resolve() and not any(directory.iterdir()):
            directory.unlink() if directory.is_symlink() else directory.rmdir()

    def _directory(self, name: str) -> Path:
        if not name or "\0" in name or _leads_out(name):
            raise KeyError(f"{name!r} is not a run in {self.logdir}: a name is a path below it")
        directory = self.logdir / name
        if 0 not in ranks_in(directory):
            known = {known: directory for known, directory, _ in self._logs()}
            if name in known:
                return known[name]
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise KeyError(f"there is no run {name!r} in {self.logdir}{hint}")
        return directory

    def _logs(self) -> Iterator[tuple[str, Path, list[str]]]:
        """Name and directory of each run, and the files there."""
        seen: set[str] = set()
        for directory, below, files in os.walk(self.logdir, followlinks=True):
            real = os.path.realpath(directory)
            if real in seen:  # links may lead round in a circle
                below.clear()
                continue
            seen.add(real)
            below.sort()
            if 0 in ranks_among(files):
                yield _spelled(Path(directory).relative_to(self.logdir)), Path(directory), files

    def _summary(self, name: str, directory: Path, files: Sequence[str]) -> RunSummary:
        stamp = _stamp(directory, files)
        known = self._known.get(directory)
        if known is not None and known[0] == stamp and known[1].state not in ("running", "unreadable"):
            return known[1]
        logs = {rank: self._log(directory / file_of(rank), files) for rank in sorted(ranks_among(files))}
        pulses = self._pulses.setdefault(directory, defaultdict(Pulse))
        summary = _fresh_summary(name, directory, logs[0], pulses[0]).joined(_states(logs, pulses))
        if summary.state != "running":  # what has been imported of segments takes room
            for rank in logs:
                self._appended.pop(directory / file_of(rank), None)
        self._known[directory] = stamp, summary
        return summary

    def _begins(self, summary: RunSummary, directory: Path) -> bool:
        """Whether the log had only just been made: all that is said at a run's beginning comes in one transaction."""
        if summary.state != "unreadable":
            return False
        stamp, _ = self._known[directory]  # from before it was read; segments are never empty
        log, now = directory / file_of(0), time.time()
        new = any(
            name == log.name and size == 0 and abs(now - modified / 1e9) < _SILENCE for name, _, size, modified in stamp
        )
        return new and log.is_file()

    def _log(self, path: Path, files: Iterable[str]) -> File:
        """To be looked at; of segments what was imported before is kept."""
        if not has_segments(path, files):
            return File(path)
        return self._appended.setdefault(path, Appended(path))


def _spelled(path: Path) -> str:
    """A path as text that can be shown: not all names of files are."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _fresh_summary(name: str, directory: Path, log: File, pulse: Pulse) -> RunSummary:
    try:
        _require_file(log)
        with log.reading() as snapshot:
            return summary_of(log, snapshot, name, pulse)
    except Exception as error:  # a damaged file may hold anything; the other runs are listed all the same
        written = max((modified / 1e9 for *_, modified in _stamp(directory, os.listdir(directory))), default=0.0)
        return RunSummary(name, "unreadable", written, reason=str(error))


def _stamp(directory: Path, files: Iterable[str]) -> _Stamp:
    """Changes when anything is written; what is committed first stands in the write-ahead log."""
    stamps = []
    for file in sorted(file for file in files if file == remarks.FILE or OF_LOG.fullmatch(file)):
        try:
            status = (directory / file).stat()
        except OSError:
            continue
        stamps.append((file, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def _leads_out(name: str) -> bool:
    path = PurePath(name)  # as this system understands it: elsewhere a backslash is a letter like any other
    return path.is_absolute() or ".." in path.parts or bool(path.drive)


def _require_file(log: File) -> None:
    if log.path.exists() and not log.path.is_file():  # to open a pipe would be to wait for somebody who writes
        raise UnreadableLog(f"{log.path} cannot be read: it is no file")


def _states(logs: Mapping[int, File], pulses: Mapping[int, Pulse]) -> dict[int, str]:
    """Of other processes than the first, by rank, as far as their logs can be read."""
    states = {}
    for rank in logs.keys() - {0}:
        with suppress(UnreadableLog):
            _require_file(logs[rank])
            with logs[rank].reading() as (connection, number):
                query = sa.select(run, logs[rank].clock().label("now")).where(run.c.id == number)
                states[rank] = state_of(connection.execute(query).one(), pulses[rank])
    return states


def _refuse_if_live(name: str, directory: Path, rank: int) -> None:
    try:
        live = Reader(directory, rank=rank).state() == "running"
    except UnreadableLog:  # nobody can tell; who writes does so every second
        stamp = _stamp(directory, os.listdir(directory))
        live = any(abs(time.time() - modified / 1e9) < _SILENCE for *_, modified in stamp)
    if live:
        raise RunIsLive(f"{name!r} is being written: it can be deleted when it is over")


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
    latest, header = latest_values(*snapshot), loads(row.header)
    config, job = header.get("config"), header.get("job")
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
        processes=size_of(job),
    )
