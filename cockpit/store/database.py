"""Connections to a log: the one place that knows the database's dialect."""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import sqlalchemy as sa

from cockpit.store import place
from cockpit.store.schema import SCHEMA_VERSION, UnreadableLog, metadata, run

HEARTBEAT_LIMIT = 10.0  # seconds after which a silent writer counts as gone
Row: TypeAlias = tuple[Any, ...]

_BUSY = 5.0  # seconds to wait for another connection's lock
_BLOCK = 20_000

# Without a log file shared by mapping memory, which network file systems cannot do.
_ROLLBACK = "TRUNCATE"


def writing_engine(path: Path) -> sa.Engine:
    """Creates the file where there is none. Every transaction is a writing one from its start."""
    return _engine(path, "rwc", "BEGIN IMMEDIATE")


def reading_engine(path: Path) -> sa.Engine:
    """Never writes. Connections live as long as their transaction: a writer that closes needs the file for itself."""
    return _engine(path, "ro", "BEGIN")


def _engine(path: Path, mode: Literal["rwc", "rw", "ro"], begin: str) -> sa.Engine:
    uri = f"file:{quote(path.absolute().as_posix())}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: transactions begin where SQLAlchemy begins them, not where the driver guesses.
        return sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def set_journal(connection: sa.Connection, *, shared_memory: bool) -> str:
    """Write-ahead logging where the file system can, else a rollback journal. Returns the mode in force, upper case."""
    raw = connection.connection.cursor()
    wanted = "WAL" if shared_memory else _ROLLBACK
    mode = str(raw.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0]).upper()
    if mode == "WAL":
        raw.execute("PRAGMA synchronous=NORMAL")
        raw.execute(f"PRAGMA journal_size_limit={64 * 1024 * 1024}")
    raw.close()
    return mode


def fold(connection: sa.Connection, patience: float) -> bool:
    """Makes the log one file again: everything into the main file, no journal beside it.

    Returns:
        Whether it is. Readers that stayed connected longer than ``patience`` seconds keep the journal's files alive;
        the main file is complete all the same.
    """
    raw = connection.connection.cursor()
    deadline = time.monotonic() + patience
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    while True:
        try:
            return str(raw.execute("PRAGMA journal_mode=DELETE").fetchone()[0]).upper() == "DELETE"
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


def create_tables(connection: sa.Connection) -> None:
    """All tables, where they are not there yet."""
    metadata.create_all(connection)


def has_run(connection: sa.Connection) -> bool:
    """Whether the tables stand and a run has begun."""
    if not sa.inspect(connection).has_table(run.name):
        return False
    return connection.execute(sa.select(run.c.id)).first() is not None


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Adds rows, tuples in the order of the table's columns.

    Handed to the driver as they are: four times as fast as through SQLAlchemy, and this is where the time goes.
    """
    if rows:
        places = ", ".join("?" * len(table.columns))
        connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({places})", list(rows))


def replace(connection: sa.Connection, table: sa.Table, rows: Mapping[Any, Row]) -> None:
    """Puts rows, by primary key, in place of those that are there."""
    if rows:
        (key,) = table.primary_key.columns
        connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE {key.name} = ?", [(value,) for value in rows])
        insert(connection, table, list(rows.values()))


def blocks(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[list[Row]]:
    """Rows as plain tuples, some ten thousand at a time: for series of millions of points."""
    compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
    cursor = connection.connection.cursor()
    try:
        cursor.execute(str(compiled))
        while rows := cursor.fetchmany(_BLOCK):
            yield list(rows)
    finally:
        cursor.close()


@contextmanager
def reading(engine: sa.Engine, path: Path) -> Iterator[sa.Connection]:
    """A short transaction: what is read in it is of one moment.

    Raises:
        UnreadableLog: If the file is missing, damaged, or no log, in words.
    """
    try:
        _roll_back(path)
        with engine.connect() as connection, connection.begin():
            yield connection
    except (sa.exc.DatabaseError, sa.exc.NoResultFound, sqlite3.DatabaseError) as error:
        raise UnreadableLog(f"{path} cannot be read: {reason(path, error)}") from error
    except (zlib.error, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnreadableLog(f"{path} is damaged: {error}") from error


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
    if "not a database" in said or "no such table" in said or isinstance(error, sa.exc.NoResultFound):
        return f"it is not a log of Cockpit ({said})"
    if "unable to open" in said or "readonly" in said:
        return f"it was not closed and its directory cannot be written ({said}). Copy the directory to where it can be"
    return said


def check_version(version: int, path: Path) -> None:
    """Refuses what a newer Cockpit wrote.

    Raises:
        UnreadableLog: In words.
    """
    if version > SCHEMA_VERSION:
        raise UnreadableLog(
            f"{path} was written by a newer Cockpit (log version {version}, this one reads up to {SCHEMA_VERSION}): "
            "upgrade with `pip install --upgrade cockpit-debugger`"
        )


def state_of(row: Any) -> str:
    """``running``, ``finished``, ``interrupted`` or ``crashed``, from a row of the run table."""
    if row.state != "running":
        return str(row.state)
    if row.host == place.host():
        alive = place.is_alive(row.pid, row.process)
        if alive is not None:
            return "running" if alive else "crashed"
    return "running" if time.time() - row.heartbeat < HEARTBEAT_LIMIT else "crashed"
