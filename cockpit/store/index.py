"""What a log's segments say, as tables: in a file on this machine that only this process uses."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from cockpit.store import database, migration
from cockpit.store.records import Damaged, Record, to_batch
from cockpit.store.schema import SCHEMA_VERSION, attempt, metadata, run
from cockpit.store.segments import Place, begins_after, read
from cockpit.store.sqlite import File
from cockpit.store.transactions import apply, of_run
from cockpit.store.upkeep import masked

_MOST = 10_000
"""Records in one transaction."""


class Outdated(Exception):
    """What was imported counts no longer: its writer took it back after a failure, or held the run no more."""


class Index:
    """Imports each record once, however often it is asked to go on.

    Args:
        log: What the log is called as one file.
        base: That file, if there is one, whose tables come first.
        attempts: How many writers it tells of.

    Attributes:
        file: The tables.
    """

    def __init__(self, log: Path, base: File | None, attempts: int) -> None:
        directory = tempfile.mkdtemp(prefix="cockpit-")
        self._remove = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._log, self._at = log, Place(attempts + 1, 1)
        self.file = File(Path(directory) / log.name)
        with closing(sqlite3.connect(Path(directory) / log.name)) as own:
            if base is not None:
                base.copy_into(own)
            own.execute("PRAGMA journal_mode=WAL")
        self._engine = self.file.writing_engine()
        with self._writing() as connection:
            _bring_up_to_date(self.file, connection)

    def whole(self) -> Path:
        """The tables as one file, with nothing beside it.

        Raises:
            OSError: If somebody reads them.
        """
        with self._engine.connect() as connection:
            self.file.fold(connection)
        path = self.file.path
        if path.with_name(path.name + "-wal").exists():
            raise BlockingIOError(f"{path} is being read")
        return path

    def close(self) -> None:
        """Deletes the tables."""
        self._remove()

    def go_on(self) -> Place:
        """Imports what has been appended since.

        Returns:
            Where the log ends.

        Raises:
            Damaged: If the segments are not what was written.
            Outdated: If a new index is needed.
            UnreadableLog: If a newer version wrote them.
            OSError: If they cannot be read.
        """
        while True:
            following = self._following()
            end = None if following is None else following[1]
            try:
                records, reached = read(self._log, self._at, end)
            except FileNotFoundError:
                if self._at.at:  # it has become a part of the one file
                    raise Outdated from None
                return self._at
            self._import(records)
            self._at = reached
            if following is None:
                return self._at
            if reached.at != end:
                raise Damaged(f"segment {self._at.segment} of attempt {self._at.attempt} lacks a part of its end")
            self._at = following[0]

    def _following(self) -> tuple[Place, int] | None:
        """The segment after this one, and where it says that this one ends."""
        next_attempt, next_segment = self._at.segments_after()
        for place in (next_attempt, next_segment):
            told = begins_after(self._log, place)
            if told is None:
                continue
            before, version = told
            self.file.check_version(version)
            if before < self._at:
                raise Outdated
            if (before.attempt, before.segment) == (self._at.attempt, self._at.segment):
                return place, before.at
        return None

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that waits for no disk: what it writes can be had again."""
        with self._engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA synchronous=OFF")
            with connection.begin():
                yield connection

    def _import(self, records: list[Record]) -> None:
        for begin in range(0, len(records), _MOST):
            with self._writing() as connection:
                for record in records[begin : begin + _MOST]:
                    _add(connection, record, self.file)


def _bring_up_to_date(file: File, connection: sa.Connection) -> None:
    if not sa.inspect(connection).has_table(run.name):
        metadata.create_all(connection)
        return
    _, version = file.find(connection)
    if version < SCHEMA_VERSION:
        migration.migrate(connection)
        connection.execute(sa.update(run).values(schema_version=SCHEMA_VERSION))


def _add(connection: sa.Connection, record: Record, file: File) -> None:
    """What a record says, within the transaction that is open."""
    kind = record["kind"]
    if kind == "segment":
        file.check_version(record["version"])
    elif kind == "claim":
        _begin(connection, record)
    else:
        number, _ = file.find(connection)
        values = {"heartbeat": record["heartbeat"], "dropped": record["dropped"]}
        if kind == "end":
            values |= {"state": record["state"], "cursor": record["cursor"]}
        else:
            batch = to_batch(record["batch"])
            values |= of_run(batch)
        connection.execute(sa.update(run).where(run.c.id == number).values(**values))
        if kind == "batch":
            apply(connection, number, batch)


def _begin(connection: sa.Connection, record: Record) -> None:
    """A writer takes hold of the run."""
    number = connection.execute(sa.select(run.c.id)).scalar()
    if number is None:
        number = connection.execute(sa.insert(run).values(**record["run"]).returning(run.c.id)).scalar_one()
    else:
        connection.execute(sa.update(run).where(run.c.id == number).values(**record["run"]))
    row = tuple(record["attempt"])
    database.replace(connection, attempt, number, {row[0]: row})
    if row[0] > 1:
        masked(connection, number)
