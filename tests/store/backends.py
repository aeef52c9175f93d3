"""The databases that hold logs, as a test sees them: where runs go, and what somebody else may do to them."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from private_postgres import Server

from cockpit.store import Writer

NAMES = ("file", "postgresql")

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


class Files:
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


class Postgres:
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
