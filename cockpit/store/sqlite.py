"""A log in a file of SQLite's: one for each run and rank."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import sqlalchemy as sa
from sqlalchemy.util import LRUCache

from cockpit.store import remarks
from cockpit.store.database import NOT_ONE_ROW, OWN, Database, Row, Snapshot
from cockpit.store.log import Log
from cockpit.store.remarks import Annotations
from cockpit.store.schema import metadata, run
from cockpit.store.transactions import Transactions

_NAME = re.compile(r"rank(0|[1-9]\d*)\.(?:db|1-1\.seg)")
OF_LOG = re.compile(r"\.?rank(?:0|[1-9]\d*)\.(?:db(?:-journal|-shm|-wal|\.[0-9a-f]{32})?|\d+-\d+\.seg)")
"""Files that belong to a process's log."""

_BUSY = 5.0  # seconds to wait for another connection's lock


class File(Database):
    """A file, made where it does not exist.

    Args:
        path: The file.
    """

    refusals: ClassVar[tuple[type[Exception], ...]] = (sqlite3.DatabaseError,)
    name = ""  # the file may have been renamed

    def __init__(self, path: Path) -> None:
        self.place = self._path = path
        self.title = path.parent
        self._identity: tuple[int, int] | None = None
        self._engine = _engine(path, "ro", "BEGIN")

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def reading_engine(self) -> sa.Engine:
        """Connections live as long as their transaction: a writer that closes needs the file for itself."""
        return self._engine

    def recover(self) -> None:
        """Undoes the half transaction of a writer that was killed without a write-ahead log; a reader may not."""
        try:
            left = self._path.with_name(self._path.name + "-journal").stat()
        except FileNotFoundError:  # there is none, or the transaction has just ended
            return
        if left.st_size:
            with _engine(self._path, "rw", "BEGIN").connect() as connection:
                connection.execute(sa.select(sa.literal_column("count(*)")).select_from(sa.table("sqlite_master")))

    def find(self, connection: sa.Connection) -> tuple[int, int]:
        """The file's only run."""
        row = connection.execute(sa.select(run.c.id, run.c.schema_version)).one()
        return row.id, row.schema_version

    def ranks(self) -> list[int]:
        """The files beside it."""
        return sorted(ranks_in(self._path.parent))

    def annotations(self, snapshot: Snapshot) -> Annotations:
        """In a file beside the log, which stays as it is."""
        return remarks.read(self._path.parent)

    def clock(self) -> sa.ColumnElement[float]:
        """This machine's."""
        return sa.literal(time.time(), sa.Double)

    def reason(self, error: Exception) -> str:
        """What is wrong with the file."""
        said = str(getattr(error, "orig", error))
        if not self._path.is_file():
            return f"there is no such file ({said})"
        if self._path.stat().st_size == 0:
            return f"it is empty: its run ended before anything was written ({said})"
        if "malformed" in said:
            return (
                f"it is damaged or cut short ({said}). Copy it again; if its run was live, together with its -wal file"
            )
        if "not a database" in said or "no such table" in said or isinstance(error, NOT_ONE_ROW):
            return f"it is not a log of Cockpit ({said})"
        if "unable to open" in said or "readonly" in said:
            return (
                f"it was not closed and its directory cannot be written ({said}). Copy the directory to where it can be"
            )
        return said

    def writing_engine(self) -> sa.Engine:
        """Every transaction is a writing one from its start."""
        return _engine(self._path, "rwc", "BEGIN IMMEDIATE").execution_options(**{OWN: self})

    def prepare(self) -> None:
        """Makes the directory."""
        make(self._path.parent)

    def begin_run(self, connection: sa.Connection) -> bool:
        """The transaction is a writing one: there is no other."""
        if sa.inspect(connection).has_table(run.name):
            return connection.execute(sa.select(run.c.id)).first() is None
        metadata.create_all(connection)
        return True

    def is_foreign(self, error: Exception) -> bool:
        """Whatever SQLite does not know as its own."""
        return not isinstance(error, (sa.exc.OperationalError, sqlite3.OperationalError))

    def hold(self) -> None:
        """Device and number of the file: of its name there may later be another."""
        self._identity = self._on_disk()

    def require_held(self) -> None:
        """An open file stays writable after its directory has gone: nothing but looking tells."""
        if self._on_disk() != self._identity:
            raise FileNotFoundError(f"{self._path} has been replaced by another file")

    def _on_disk(self) -> tuple[int, int]:
        status = self._path.stat()
        return status.st_dev, status.st_ino

    def log(self, number: int, token: str) -> Log:
        """By transactions."""
        return Transactions(self, number, token)

    def tune(self, connection: sa.Connection) -> None:
        """Write-ahead logging: readers do not wait, nor are they waited for."""
        raw = connection.connection.cursor()
        _patiently(raw, "PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=NORMAL")
        raw.execute(f"PRAGMA journal_size_limit={64 * 1024 * 1024}")

    def insert(self, connection: sa.Connection, table: sa.Table, number: int, rows: Sequence[Row]) -> None:
        """Handed to the driver as they are."""
        places = ", ?" * (len(table.columns) - 1)
        connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({number:d}{places})", list(rows))

    def delete(self, connection: sa.Connection, table: sa.Table, number: int, keys: Sequence[Any]) -> None:
        """As :meth:`insert`."""
        _, key = table.primary_key.columns
        there = f"run = {number:d} AND {key.name} = ?"
        connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE {there}", [(value,) for value in keys])

    def fold(self, connection: sa.Connection) -> None:
        """Makes the log one file again: everything into the main file, no journal beside it.

        Where a reader stays connected for long, or the disk is full, the journal stays beside the file and belongs to
        it; nothing is lost.
        """
        raw = connection.connection.cursor()
        with suppress(sqlite3.OperationalError):
            _patiently(raw, "PRAGMA wal_checkpoint(TRUNCATE)")
            _patiently(raw, "PRAGMA journal_mode=DELETE")

    def copy_into(self, other: sqlite3.Connection) -> None:
        """Copies all of it, what stands in a write-ahead log included."""
        with closing(_connected(self._path, "ro")) as own:
            own.backup(other)

    def may_pass(self, error: Exception) -> bool:
        """A full disk, a file locked or gone."""
        return isinstance(error, (sa.exc.OperationalError, sqlite3.OperationalError, OSError))


def file_of(rank: int) -> str:
    """Name of a process's log in the run's directory."""
    return f"rank{rank}.db"


def ranks_in(directory: Path) -> set[int]:
    """Whose logs are in a run's directory; nobody's where there is no such directory."""
    try:
        return ranks_among(os.listdir(directory))
    except (OSError, ValueError):  # also for names that are too long, or no text
        return set()


def ranks_among(names: Iterable[str]) -> set[int]:
    """Whose logs are among the files of a run's directory."""
    return {int(found[1]) for name in names if (found := _NAME.fullmatch(name))}


def _engine(path: Path, mode: Literal["rwc", "rw", "ro"], begin: str) -> sa.Engine:
    def connect() -> Any:  # the driver's type is not SQLAlchemy's
        return _connected(path, mode)

    common = _common()
    pool = sa.NullPool(connect, dialect=common.dialect)
    engine = sa.Engine(pool, common.dialect, common.url, execution_options={"compiled_cache": _COMPILED})
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


_COMPILED: LRUCache[Any, Any] = LRUCache(500)  # what statements were compiled to: the same for all files


@cache
def _common() -> sa.Engine:
    """What all files share: a statement is looked up by its dialect, and every engine made anew would have its own."""
    common = sa.create_engine("sqlite://")
    common.connect().close()  # the dialect asks the driver what it can do
    return common


def _connected(path: Path, mode: Literal["rwc", "rw", "ro"]) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    # isolation_level None: transactions begin where SQLAlchemy begins them, not where the driver guesses.
    return sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)


def _patiently(cursor: Any, statement: str) -> None:
    """Waits for other connections' locks, which SQLite does not do of its own accord where journals change."""
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            cursor.execute(statement)
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def make(directory: Path) -> None:
    """Makes a run's directory, where there is none.

    Raises:
        OSError: In words.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(f"{directory} is a file; a run needs a directory. Choose another name.") from error
    except OSError as error:
        raise OSError(
            f"the run's directory {directory} cannot be made: {error.strerror}. Choose another place."
        ) from error
