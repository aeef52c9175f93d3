"""Logs in PostgreSQL: the runs of many machines as rows of the same tables."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import psycopg
import sqlalchemy as sa

from cockpit.store import remarks
from cockpit.store.address import Address, without_passwords
from cockpit.store.database import NOT_ONE_ROW, OWN, Database, Row, Snapshot
from cockpit.store.log import Log
from cockpit.store.plain import text
from cockpit.store.remarks import Annotations
from cockpit.store.schema import document, metadata, run
from cockpit.store.transactions import Transactions

SCHEMA = "cockpit"
"""Namespace of the tables, apart from what else the database may hold."""

ANNOTATIONS = "annotations"
"""Name of the document that holds a run's."""

_TABLES = {"schema_translate_map": {None: SCHEMA}}
_CLAIMS = 0x636F636B706974  # number of the lock that orders claims: any that other programs are unlikely to use
_LOCKED = "5s"  # to wait for another connection's lock
# A lost server is noticed within seconds, whether it says so or not.
_CONNECTION = {
    "application_name": "cockpit",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,  # milliseconds
}
_ABSENT = ("3F000", "42P01")  # no such schema, no such table
# Classes of errors: connection, wrong password, state of the transaction, no such database, rollback, resources,
# locks, intervention of an operator, system.
_PASSING = ("08", "28", "25", "3D", "40", "53", "55", "57", "58")


class Connections:
    """Connections for reading, which are closed when nobody has them any more.

    Args:
        address: The database.
    """

    def __init__(self, address: Address) -> None:
        # Every transaction sees one moment and cannot write.
        self.engine = sa.create_engine(
            address.database,
            pool_size=2,
            max_overflow=14,
            pool_pre_ping=True,
            connect_args=_settings(address),
            isolation_level="REPEATABLE READ",
            execution_options={**_TABLES, "postgresql_readonly": True},
        )
        weakref.finalize(self, self.engine.dispose)


class Rows(Database):
    """Rows of one run and rank in a database of many.

    Args:
        address: The database, and the run's name.
        rank: Number of the process that writes it.
        connections: For reading; by default some of its own.
    """

    refusals = (psycopg.Error,)

    def __init__(self, address: Address, rank: int = 0, connections: Connections | None = None) -> None:
        self.place = self.title = self._address = address
        self._rank, self.name = rank, text(address.name)
        self._connections = connections

    def reading_engine(self) -> sa.Engine:
        """Connections wait for their next use: making one takes longer than most queries."""
        if self._connections is None:
            self._connections = Connections(self._address)
        return self._connections.engine

    def recover(self) -> None:
        """The server does that."""

    def find(self, connection: sa.Connection) -> tuple[int, int]:
        """By name and rank."""
        row = connection.execute(sa.select(run.c.id, run.c.schema_version).where(*self._mine())).one()
        return row.id, row.schema_version

    def ranks(self) -> list[int]:
        """Those of the rows of the same name."""
        with self.reading() as (connection, _):
            return sorted(connection.execute(sa.select(run.c.rank).where(run.c.name == self.name)).scalars())

    def of_rank(self, rank: int) -> Rows:
        """Another row of the same name."""
        return Rows(self._address, rank, self._connections)

    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return run.c.name == self.name, run.c.rank == self._rank

    def annotations(self, snapshot: Snapshot) -> Annotations:
        """In a document that no writer touches."""
        mine = (document.c.run == snapshot.number, document.c.name == ANNOTATIONS)
        stored = snapshot.connection.execute(sa.select(document.c.value).where(*mine)).scalar()
        return Annotations() if stored is None else remarks.parsed(stored)

    def clock(self) -> sa.ColumnElement[float]:
        """The server's: those who write and read may disagree."""
        return clock()

    def reason(self, error: Exception) -> str:
        """In the server's words, or the driver's."""
        if isinstance(error, NOT_ONE_ROW) or _code(error) in _ABSENT:
            return "there is no such run in the database"
        return said(error)

    def writing_engine(self) -> sa.Engine:
        """Without a pool: a writer has one connection, and gives up one that has failed."""
        return sa.create_engine(
            self._address.database,
            poolclass=sa.NullPool,
            connect_args=_settings(self._address),
            execution_options={**_TABLES, OWN: self},
        )

    def prepare(self) -> None:
        """Nothing to make: the server is there or not."""

    def begin_run(self, connection: sa.Connection) -> bool:
        """One claim at a time in the whole database, until the transaction ends; the run's row is locked, too."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CLAIMS)))
        if SCHEMA not in sa.inspect(connection).get_schema_names():
            connection.execute(sa.schema.CreateSchema(SCHEMA))
        metadata.create_all(connection)
        self.check_version(connection.execute(sa.select(sa.func.max(run.c.schema_version))).scalar() or 0)
        return connection.execute(sa.select(run.c.id).where(*self._mine()).with_for_update()).first() is None

    def is_foreign(self, error: Exception) -> bool:
        """The tables' namespace is Cockpit's own."""
        return False

    def hold(self) -> None:
        """The owner's token, asked for in every transaction, tells."""

    def require_held(self) -> None:
        """As :meth:`hold`."""

    def log(self, number: int, token: str) -> Log:
        """By transactions."""
        return Transactions(self, number, token)

    def tune(self, connection: sa.Connection) -> None:
        """A lock that somebody forgot is waited for no longer than a file's."""
        with connection.begin():
            connection.exec_driver_sql(f"SET lock_timeout TO '{_LOCKED}'")

    def insert(self, connection: sa.Connection, table: sa.Table, number: int, rows: Sequence[Row]) -> None:
        """By ``COPY``."""
        cursor: psycopg.Cursor[Any] = connection.connection.cursor()  # type: ignore[assignment]
        with cursor, cursor.copy(f"COPY {SCHEMA}.{table.name} FROM STDIN") as copy:
            for row in rows:
                copy.write_row((number, *row))

    def delete(self, connection: sa.Connection, table: sa.Table, number: int, keys: Sequence[Any]) -> None:
        """The keys are one parameter, however many they are."""
        _, key = table.primary_key.columns
        known = sa.literal(list(keys), sa.ARRAY(key.type))
        connection.execute(sa.delete(table).where(table.c.run == number, key == sa.any_(known)))

    def fold(self, connection: sa.Connection) -> None:
        """Rows stay where they are."""

    def may_pass(self, error: Exception) -> bool:
        """A lost server, a full disk, a lock; not a value that the server refuses."""
        code = _code(error)
        return isinstance(error, OSError) or (code[:2] in _PASSING if code else _broken(error))


def clock() -> sa.ColumnElement[float]:
    """Seconds since 1970 by the server's clock."""
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)


def said(error: Exception) -> str:
    """What the server or the driver said, on one line."""
    return without_passwords(" ".join(str(getattr(error, "orig", error)).split()))


def is_absent(error: Exception) -> bool:
    """Whether no run has ever been written to the database."""
    return _code(error) in _ABSENT


def _settings(address: Address) -> dict[str, Any]:
    return {name: value for name, value in _CONNECTION.items() if name not in address.database.query}


def _code(error: Exception) -> str:
    """The server's five letters for what happened; empty where it said nothing."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def _broken(error: Exception) -> bool:
    return isinstance(getattr(error, "orig", error), (psycopg.OperationalError, psycopg.InterfaceError))
