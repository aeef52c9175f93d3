"""Logs as older versions wrote them, by the statements that made them."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from contextlib import closing
from pathlib import Path

VERSIONS = (1, 2, 3)

_TABLES = """
CREATE TABLE run (
    id INTEGER NOT NULL, schema_version INTEGER NOT NULL, owner TEXT NOT NULL, host TEXT NOT NULL,
    pid INTEGER NOT NULL, process TEXT NOT NULL, state TEXT NOT NULL, heartbeat DOUBLE NOT NULL,
    created DOUBLE NOT NULL, elapsed DOUBLE NOT NULL, last_step BIGINT, cursor BIGINT NOT NULL,
    dropped BIGINT NOT NULL, tags TEXT NOT NULL, header TEXT NOT NULL, PRIMARY KEY (id));
CREATE TABLE series (
    id INTEGER NOT NULL, "key" TEXT NOT NULL, origin TEXT NOT NULL, layered BOOLEAN NOT NULL, histogram {axes},
    points BIGINT NOT NULL, first_step BIGINT NOT NULL, last_step BIGINT NOT NULL, last_value DOUBLE,
    last_flag SMALLINT NOT NULL, revision BIGINT NOT NULL, PRIMARY KEY (id));
CREATE TABLE layout (
    id INTEGER NOT NULL, digest BLOB NOT NULL, layers TEXT, bins INTEGER, edges BLOB, PRIMARY KEY (id),
    UNIQUE (digest));
CREATE TABLE point (
    id INTEGER NOT NULL, series INTEGER NOT NULL, step BIGINT NOT NULL, time DOUBLE, value DOUBLE,
    flag SMALLINT NOT NULL, layout INTEGER, PRIMARY KEY (series, step, id), UNIQUE (id)) WITHOUT ROWID;
CREATE TABLE payload (point INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (point));
CREATE TABLE event (
    id INTEGER NOT NULL, step BIGINT, time DOUBLE, kind TEXT NOT NULL, text TEXT NOT NULL, subject TEXT NOT NULL,
    PRIMARY KEY (id));
CREATE TABLE document (name TEXT NOT NULL, revision BIGINT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name));
"""

_ROWS: dict[str, list[tuple[object, ...]]] = {
    "series": [
        (1, "loss", "instrument", False, 0, 5, 0, 4, 0.25, 0, 10),
        (2, "norm", "instrument", True, 0, 1, 0, 0, None, 0, 6),
        (3, "hist", "instrument", False, 1, 1, 0, 0, None, 0, 7),
        (4, "valid/accuracy", "user", False, 0, 1, 4, 4, 0.5, 0, 11),
    ],
    "layout": [
        (1, b"a" * 16, '["fc.weight", "fc.bias"]', None, None),
        (2, b"b" * 16, None, 2, struct.pack("<3d", -1.0, 0.0, 1.0)),
    ],
    "point": [
        (1, 1, 0, 0.1, 2.5, 0, None),
        (2, 1, 1, 0.2, None, 1, None),  # NaN
        (3, 1, 2, 0.3, None, 3, None),  # -inf
        (4, 1, 3, 1 / 3, None, 4, None),  # missing
        (6, 2, 0, 0.1, None, 0, 1),
        (7, 3, 0, 0.1, None, 0, 2),
        (10, 1, 4, 0.5, 0.25, 0, None),
        (11, 4, 4, 0.5, 0.5, 0, None),
    ],
    "payload": [(6, struct.pack("<2d", 1.5, float("nan")) + b"\x40"), (7, b"u1" + zlib.compress(bytes([3, 4])))],
    "event": [(5, 2, 0.3, "warning", "careful", "loss")],
    "document": [("coverage", 8, '{"share": 1.0}')],
}

_HEADER = '{"name": "old", "created": 1000.0, "config": {"lr": 0.1}, "tags": ["tag"], "panels": {}, "screens": []}'


def write_older_log(directory: Path, version: int) -> Path:
    """The log of a finished run of five steps, of an older version, in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "rank0.db"
    run = (1, version, "token", "machine", 17, "", "finished", 1001.0, 1000.0, 0.5, 4, 12, 0, '["tag"]', _HEADER)
    with closing(sqlite3.connect(path)) as connection, connection:
        # Version 1 held as a truth value whether a series is one of histograms.
        connection.executescript(_TABLES.format(axes="BOOLEAN" if version == 1 else "SMALLINT"))
        for table, rows in {"run": [run], **_ROWS}.items():
            places = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
    return path
