"""The databases that hold logs, as a test sees them: where runs go, and what somebody else may do to them."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pytest
from private_postgres import Server

from cockpit.store import Writer, appender, database
from cockpit.store.appended import Appended
from cockpit.store.attempts import attempts_of
from cockpit.store.schema import attempt

NAMES = ("file", "segments", "postgresql")

ON_A_NETWORK = "server:/export / nfs4 rw,relatime,vers=4.2 0 0"
"""What is mounted where everything is on a network file system."""

Somewhere: TypeAlias = Callable[[], AbstractContextManager[str]]


class Backend(Protocol):
    """Runs of one test.

    Attributes:
        logs: What a :class:`cockpit.store.Store` is made for.
    """

    logs: str | Path

    def place(self, name: str) -> str | Path:
        """What a :class:`cockpit.store.Writer` is given."""

    def tamper(self, writer: Writer, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Executes a statement, values at its question marks, beside the writer; returns what it selects."""

    def locked(self, writer: Writer) -> AbstractContextManager[None]:
        """Nobody can write, for as long as it lasts."""

    setup: str
    """Code that a process of its own executes before it writes to the place."""


class Files:
    setup = ""

    def __init__(self, logs: Path):
        self.logs = logs

    def place(self, name: str) -> Path:
        return self.logs / name

    def tamper(self, writer: Writer, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(writer.path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def locked(self, writer: Writer) -> Iterator[None]:
        with closing(sqlite3.connect(writer.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


class Segments(Files):
    """Files where :func:`cockpit.store.place.mounts_text` tells of a network file system."""

    setup = f"from cockpit.store import place; place.mounts_text = lambda: {ON_A_NETWORK!r}\n"

    def tamper(self, writer: Writer, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What is changed is changed by another writer, which takes the run."""
        log = Appended(writer.path)
        if writer.path.exists():
            return super().tamper(writer, statement, *values)
        with log.writing_engine().connect() as connection, connection.begin():
            done = connection.exec_driver_sql(statement, values)
            if done.returns_rows:
                return [tuple(row) for row in done]
            last = attempts_of(connection, 1)[-1]
            following = replace(last, number=last.number + 1, first_step=0, cursor=0)
            database.insert(connection, attempt, 1, [tuple(vars(following).values())])
        log.hold()
        return []

    @contextmanager
    def locked(self, writer: Writer) -> Iterator[None]:
        """The server does not take what is written."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(appender, "append", _refused)
            yield


def _refused(file: int, data: bytes) -> None:
    os.write(file, data[: len(data) // 2])
    raise OSError(errno.EIO, "the server does not answer")


class Postgres:
    setup = ""

    def __init__(self, server: Server):
        self.logs = server.empty()

    def place(self, name: str) -> str:
        return f"{self.logs}/{name.replace('%', '%25').replace('?', '%3F').replace('#', '%23')}"

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.logs.replace("+psycopg", ""), options="-csearch_path=cockpit")

    def tamper(self, writer: Writer, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._connect() as connection:
            done = connection.execute(statement.replace("?", "%s"), values or None)
            return done.fetchall() if done.description else []

    @contextmanager
    def locked(self, writer: Writer) -> Iterator[None]:
        with self._connect() as other:
            other.execute("LOCK TABLE run IN EXCLUSIVE MODE")
            yield
            other.rollback()
