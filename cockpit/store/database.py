"""The log of a run in a database: what each database is asked, in one interface, and what is the same for all."""

from __future__ import annotations

import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, TypeAlias

import sqlalchemy as sa

from cockpit.store import migration
from cockpit.store import place as places
from cockpit.store.address import Place
from cockpit.store.log import Log
from cockpit.store.remarks import Annotations
from cockpit.store.schema import SCHEMA_VERSION, UnreadableLog

Row: TypeAlias = tuple[Any, ...]

NOT_ONE_ROW = (sa.exc.NoResultFound, sa.exc.MultipleResultsFound)
# What reading raises where something else stands than was written.
_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RecursionError, zlib.error)
OWN = "database"
"""Option of a writing connection: the database that it is of."""

_HEARTBEAT_LIMIT = 10.0  # seconds after which a silent writer on another machine counts as gone
_BLOCK = 20_000
_open = threading.local()  # of each thread the snapshots that it reads through


class Snapshot(NamedTuple):
    """What is read through it is of one moment.

    Args:
        connection: In a transaction.
        number: Of the run, by which its rows are told from others'.
    """

    connection: sa.Connection
    number: int


class Pulse:
    """When a writer was last seen alive, by the clock of whoever looks.

    Its own clock, from which its heartbeats come, may be another machine's, or be set while it writes. So only the
    first look compares the two; from then on a heartbeat that differs from the last one counts as of this moment.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._seen = -_HEARTBEAT_LIMIT

    def beats(self, heartbeat: float, now: float) -> bool:
        """Whether a heartbeat is new enough.

        Args:
            heartbeat: When the writer said that it was alive, in seconds since 1970.
            now: The database's clock.
        """
        moment = time.monotonic()
        if heartbeat != self._last:
            known = self._last is not None or abs(now - heartbeat) < _HEARTBEAT_LIMIT
            self._last, self._seen = heartbeat, moment if known else moment - _HEARTBEAT_LIMIT
        return moment - self._seen < _HEARTBEAT_LIMIT


class Database(ABC):
    """Where one process keeps its log of a run.

    Attributes:
        place: What to call the log; without a password.
        title: What to call the run.
        name: The run's; empty where only its header knows.
        refusals: What the driver raises.
    """

    place: Place
    title: Place
    name: str
    refusals: ClassVar[tuple[type[Exception], ...]]

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """A short transaction; within another one of the same thread, that one. Decoding belongs into it, too.

        Raises:
            UnreadableLog: If the log is missing, out of reach, damaged, a newer version's, or none, in words.
        """
        snapshots: dict[Database, Snapshot] = _open.__dict__.setdefault("snapshots", {})
        if self in snapshots:
            yield snapshots[self]
            return
        refusals: tuple[type[Exception], ...] = (sa.exc.DBAPIError, *NOT_ONE_ROW, *self.refusals)
        try:
            self.recover()
            with self.reading_engine().connect() as connection, connection.begin():
                number, version = self.find(connection)
                self.check_version(version)
                if version < SCHEMA_VERSION:
                    migration.present(connection)
                snapshots[self] = Snapshot(connection, number)
                try:
                    yield snapshots[self]
                finally:
                    del snapshots[self]
        except refusals as error:
            raise UnreadableLog(f"{self.place} cannot be read: {self.reason(error)}") from error
        except _NONSENSE as error:
            raise UnreadableLog(f"{self.place} is damaged: {error!r}") from error

    def check_version(self, version: int) -> None:
        """Refuses what a newer Cockpit wrote. Asked first: nothing else need be where it used to be.

        Raises:
            UnreadableLog: In words.
        """
        if version > SCHEMA_VERSION:
            raise UnreadableLog(
                f"{self.place} was written by a newer Cockpit (log version {version}, this one reads up to "
                f"{SCHEMA_VERSION}): upgrade with `pip install --upgrade cockpit-debugger`"
            )

    @abstractmethod
    def reading_engine(self) -> sa.Engine:
        """Connections that never write."""

    @abstractmethod
    def recover(self) -> None:
        """Undoes what a killed writer left half done."""

    @abstractmethod
    def find(self, connection: sa.Connection) -> tuple[int, int]:
        """Number of the run, and version of its log.

        Raises:
            sqlalchemy.exc.NoResultFound: If there is none.
        """

    @abstractmethod
    def ranks(self) -> list[int]:
        """Numbers of all processes that have ever written the run.

        Raises:
            UnreadableLog: As :meth:`reading`.
        """

    @abstractmethod
    def annotations(self, snapshot: Snapshot) -> Annotations:
        """What was said about the run after it was written."""

    @abstractmethod
    def clock(self) -> sa.ColumnElement[float]:
        """Now, in seconds since 1970: of several machines' clocks the one that counts."""

    @abstractmethod
    def reason(self, error: Exception) -> str:
        """Why the database refused, in words that say what to do."""

    @abstractmethod
    def writing_engine(self) -> sa.Engine:
        """Connections that write, with :data:`OWN` among their options."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes room for a log.

        Raises:
            OSError: If the place cannot be used, in words.
        """

    @abstractmethod
    def begin_run(self, connection: sa.Connection) -> bool:
        """Makes the tables where there are none, and keeps other writers out; whether there was no run before."""

    @abstractmethod
    def is_foreign(self, error: Exception) -> bool:
        """Whether a claim failed because of something that stands where the log would, and is none."""

    @abstractmethod
    def hold(self) -> None:
        """Remembers what the place is: from now on it is this process that writes there."""

    @abstractmethod
    def require_held(self) -> None:
        """Looks whether the place is still what it was.

        Raises:
            OSError: If not.
        """

    @abstractmethod
    def log(self, number: int, token: str) -> Log:
        """Writes to the log that is held.

        Args:
            number: The run's number there.
            token: What is written there as its owner.
        """

    @abstractmethod
    def tune(self, connection: sa.Connection) -> None:
        """Readies a new connection for a long series of small transactions."""

    @abstractmethod
    def insert(self, connection: sa.Connection, table: sa.Table, number: int, rows: Sequence[Row]) -> None:
        """See :func:`insert`; there are rows."""

    @abstractmethod
    def delete(self, connection: sa.Connection, table: sa.Table, number: int, keys: Sequence[Any]) -> None:
        """Deletes a run's rows of these keys, of which there are some."""

    @abstractmethod
    def fold(self, connection: sa.Connection) -> None:
        """Leaves the log of a run that is over as it is to be kept."""

    @abstractmethod
    def may_pass(self, error: Exception) -> bool:
        """Whether what could not be written may be written later, as after a full disk or a lost server."""


def insert(connection: sa.Connection, table: sa.Table, number: int, rows: Sequence[Row]) -> None:
    """Adds rows of a run, tuples in the order of the table's columns after the first, the run's number.

    Each database has a way to take many that is several times as fast as SQLAlchemy's, and this is where the time goes.
    """
    if rows:
        _own(connection).insert(connection, table, number, rows)


def replace(connection: sa.Connection, table: sa.Table, number: int, rows: Mapping[Any, Row]) -> None:
    """Puts rows, by primary key within the run, in place of those that are there."""
    if rows:
        _own(connection).delete(connection, table, number, list(rows))
        insert(connection, table, number, list(rows.values()))


def _own(connection: sa.Connection) -> Database:
    own: Database = connection.get_execution_options()[OWN]
    return own


def blocks(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[list[Row]]:
    """Rows as the driver gives them, plain tuples, in blocks: for series of millions of points."""
    with connection.execute(query) as result:
        while result.cursor is not None and (rows := result.cursor.fetchmany(_BLOCK)):
            yield list(rows)


_WEIGHTIEST = ("crashed", "running", "interrupted")


def joint(states: Iterable[str]) -> str:
    """State of a run that several processes write: crashed if one of them is, finished once all of them are."""
    found = set(states)
    return next((state for state in _WEIGHTIEST if state in found), "finished")


def state_of(row: Any, pulse: Pulse | None = None) -> str:
    """``running``, ``finished``, ``interrupted`` or ``crashed``.

    Args:
        row: Of the run table, with the database's clock beside it as ``now``.
        pulse: What earlier looks at the run have seen.
    """
    if row.state != "running":
        return str(row.state)
    if row.host == places.host():
        alive = places.is_alive(row.pid, row.process)
        if alive is not None:
            return "running" if alive else "crashed"
    return "running" if (pulse or Pulse()).beats(row.heartbeat, row.now) else "crashed"
