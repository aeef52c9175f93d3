"""Connections to a log: the one place that knows the database's dialect."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import sqlalchemy as sa

from cockpit.store import place
from cockpit.store.schema import SCHEMA_VERSION, UnreadableLog, metadata, run

HEARTBEAT_LIMIT = 10.0  # seconds after which a silent writer counts as gone
_BUSY = 5.0

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


@contextmanager
def reading(engine: sa.Engine, path: Path) -> Iterator[sa.Connection]:
    """A short transaction: what is read in it is of one moment.

    Raises:
        UnreadableLog: If the file is missing, truncated, or no log, in words.
    """
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except sa.exc.DatabaseError as error:
        raise UnreadableLog(f"{path} cannot be read: {reason(path, error)}") from error


def reason(path: Path, error: Exception) -> str:
    """Why the database refused, in words that say what to do."""
    said = str(getattr(error, "orig", error))
    if not path.is_file():
        return "there is no such file"
    if path.stat().st_size == 0:
        return "it is empty: its run ended before anything was written"
    if "not a database" in said:
        return "it is not a log of Cockpit (not a database)"
    if "malformed" in said:
        return "it is damaged or cut short (copy it again, together with its -wal file if its run was live)"
    if "no such table" in said:
        return "it is a database, but not a log of Cockpit"
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
