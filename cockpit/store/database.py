"""Connections to a log: the one place that knows the database's dialect."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from cockpit.store import migration, place
from cockpit.store.schema import SCHEMA_VERSION, UnreadableLog, metadata, run

Row: TypeAlias = tuple[Any, ...]

# A full disk, a file locked or gone: may pass, and what could not be written can be written later.
PASSING = (sa.exc.OperationalError, sqlite3.OperationalError, OSError)

_HEARTBEAT_LIMIT = 10.0  # seconds after which a silent writer on another machine counts as gone
_BUSY = 5.0  # seconds to wait for another connection's lock
_BLOCK = 20_000
_NOT_ONE_ROW = (sa.exc.NoResultFound, sa.exc.MultipleResultsFound)


def writing_engine(path: Path) -> sa.Engine:
    """Creates the file where there is none. Every transaction is a writing one from its start."""
    return _engine(path, "rwc", "BEGIN IMMEDIATE")


def reading_engine(path: Path) -> sa.Engine:
    """Never writes. Connections live as long as their transaction: a writer that closes needs the file for itself."""
    return _engine(path, "ro", "BEGIN")


def _engine(path: Path, mode: Literal["rwc", "rw", "ro"], begin: str) -> sa.Engine:
    uri = f"{path.absolute().as_uri()}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: transactions begin where SQLAlchemy begins them, not where the driver guesses.
        return sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def set_journal(connection: sa.Connection, *, shared_memory: bool) -> None:
    """Write-ahead logging where processes can share memory through the file system, else a rollback journal."""
    raw = connection.connection.cursor()
    if shared_memory:
        _patiently(raw, "PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=NORMAL")
        raw.execute(f"PRAGMA journal_size_limit={64 * 1024 * 1024}")
    else:
        _patiently(raw, "PRAGMA journal_mode=TRUNCATE")


def fold(connection: sa.Connection) -> None:
    """Makes the log one file again: everything into the main file, no journal beside it.

    Where a reader stays connected for long, or the disk is full, the journal stays beside the file and belongs to it;
    nothing is lost.
    """
    raw = connection.connection.cursor()
    with suppress(sqlite3.OperationalError):
        _patiently(raw, "PRAGMA wal_checkpoint(TRUNCATE)")
        _patiently(raw, "PRAGMA journal_mode=DELETE")


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


def begin_run(connection: sa.Connection) -> bool:
    """Makes the tables; whether there was no run before."""
    if sa.inspect(connection).has_table(run.name):
        return connection.execute(sa.select(run.c.id)).first() is None
    metadata.create_all(connection)
    return True


def insert(connection: sa.Connection, table: sa.Table, number: int, rows: Sequence[Row]) -> None:
    """Adds rows of a run, tuples in the order of the table's columns after the first, the run's number.

    Handed to the driver as they are: four times as fast as through SQLAlchemy, and this is where the time goes.
    """
    if rows:
        places = ", ?" * (len(table.columns) - 1)
        connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({number:d}{places})", list(rows))


def replace(connection: sa.Connection, table: sa.Table, number: int, rows: Mapping[Any, Row]) -> None:
    """Puts rows, by primary key within the run, in place of those that are there."""
    if rows:
        _, key = table.primary_key.columns
        there = f"run = {number:d} AND {key.name} = ?"
        connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE {there}", [(value,) for value in rows])
        insert(connection, table, number, list(rows.values()))


def blocks(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[list[Row]]:
    """Rows as the driver gives them, plain tuples, in blocks: for series of millions of points."""
    with connection.execute(query) as result:
        while result.cursor is not None and (rows := result.cursor.fetchmany(_BLOCK)):
            yield list(rows)


@contextmanager
def reading(engine: sa.Engine, path: Path) -> Iterator[sa.Connection]:
    """A short transaction: what is read in it is of one moment. Decoding belongs into it, too.

    Raises:
        UnreadableLog: If the file is missing, damaged, or no log, in words.
    """
    try:
        _roll_back(path)
        with engine.connect() as connection, connection.begin():
            if check_version(connection, path) < SCHEMA_VERSION:
                migration.present(connection)
            yield connection
    except (sa.exc.DatabaseError, *_NOT_ONE_ROW, sqlite3.DatabaseError) as error:
        raise UnreadableLog(f"{path} cannot be read: {reason(path, error)}") from error
    except (ValueError, TypeError, LookupError, OverflowError, zlib.error) as error:  # nonsense where a value stood
        raise UnreadableLog(f"{path} is damaged: {error!r}") from error


def _roll_back(path: Path) -> None:
    """Undoes the half transaction of a writer that was killed while it had no write-ahead log; a reader may not."""
    journal = path.with_name(path.name + "-journal")
    if journal.is_file() and journal.stat().st_size:
        with _engine(path, "rw", "BEGIN").connect() as connection:
            connection.execute(sa.select(sa.literal_column("count(*)")).select_from(sa.table("sqlite_master")))


def reason(path: Path, error: Exception) -> str:
    """Why the database refused, in words that say what to do."""
    said = str(getattr(error, "orig", error))
    if not path.is_file():
        return f"there is no such file ({said})"
    if path.stat().st_size == 0:
        return f"it is empty: its run ended before anything was written ({said})"
    if "malformed" in said:
        return f"it is damaged or cut short ({said}). Copy it again; if its run was live, together with its -wal file"
    if "not a database" in said or "no such table" in said or isinstance(error, _NOT_ONE_ROW):
        return f"it is not a log of Cockpit ({said})"
    if "unable to open" in said or "readonly" in said:
        return f"it was not closed and its directory cannot be written ({said}). Copy the directory to where it can be"
    return said


def check_version(connection: sa.Connection, path: Path) -> int:
    """The log's version; what a newer Cockpit wrote is refused.

    Asked first: nothing else in the file need be where it used to be.

    Raises:
        UnreadableLog: In words.
    """
    version = int(connection.execute(sa.select(run.c.schema_version)).scalar_one())
    if version > SCHEMA_VERSION:
        raise UnreadableLog(
            f"{path} was written by a newer Cockpit (log version {version}, this one reads up to {SCHEMA_VERSION}): "
            "upgrade with `pip install --upgrade cockpit-debugger`"
        )
    return version


def state_of(row: Any) -> str:
    """``running``, ``finished``, ``interrupted`` or ``crashed``, from a row of the run table."""
    if row.state != "running":
        return str(row.state)
    if row.host == place.host():
        alive = place.is_alive(row.pid, row.process)
        if alive is not None:
            return "running" if alive else "crashed"
    return "running" if time.time() - row.heartbeat < _HEARTBEAT_LIMIT else "crashed"
