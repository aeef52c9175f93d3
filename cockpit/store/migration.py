"""Logs of older versions: read as if they were of this one, and made into one of this when their run goes on.

Versions 1 to 3 held one run in a file and did not say so in every row; they knew neither attempts nor chunks. Version 1
told with a truth value whether a series holds histograms, which reads as their number of axes.
"""

from __future__ import annotations

import sqlalchemy as sa

from cockpit.store.schema import attempt, chunk, metadata, packed, piece, run

_OLDER = "older_"
_KNOWN = frozenset({"run", "series", "layout", "point", "payload", "event", "document"})  # to versions 1 to 3
# What older rows did not say.
_OF_RUN = {"name": "''", "rank": "0"}
_OF_OTHERS = {"run": "1", "tail": "points"}
_FIRST_ATTEMPT = {"run": "1", "number": "1", "first_step": "NULL", "cursor": "0", "began": "created", "command": "''"}


def present(connection: sa.Connection) -> None:
    """Shows this connection, and no other, the tables of an older file as they would be today."""
    for table in metadata.sorted_tables:
        connection.exec_driver_sql(f"CREATE TEMP VIEW {table.name} AS {_as_today(table, 'main.')}")


def migrate(connection: sa.Connection) -> None:
    """Brings the tables of an older file up to date, within the transaction that is open."""
    for name in _KNOWN:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {_OLDER}{name}")
    metadata.create_all(connection)
    for table in metadata.sorted_tables:
        connection.exec_driver_sql(f"INSERT INTO {table.name} {_as_today(table, _OLDER)}")
    for name in _KNOWN:
        connection.exec_driver_sql(f"DROP TABLE {_OLDER}{name}")


def _as_today(table: sa.Table, where: str) -> str:
    """A query for the rows of ``table`` from tables whose names begin with ``where``."""
    if table is attempt:
        return f"SELECT {_named(table, _FIRST_ATTEMPT)} FROM {where}{run.name}"
    if table in (chunk, packed, piece):
        return f"SELECT {', '.join(f'NULL AS {column.name}' for column in table.columns)} WHERE 0"
    return f"SELECT {_named(table, _OF_RUN if table is run else _OF_OTHERS)} FROM {where}{table.name}"


def _named(table: sa.Table, supplied: dict[str, str]) -> str:
    return ", ".join(f"{supplied.get(column.name, column.name)} AS {column.name}" for column in table.columns)
