"""The log's tables: what stands where, in words that SQLite and PostgreSQL both understand.

A file holds one run of one rank, a server's database many. Every committed thing (a point, an event, a document)
carries a number from its run's counter, the *cursor*; who remembers the last cursor they saw can ask for what came
after it.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

SCHEMA_VERSION = 4  # 1 knew no pairs, 2 no arrays, 3 no chunks and attempts, and one run: see migration.py

Kind: TypeAlias = Literal[
    "scalar", "layers", "histogram", "layer_histograms", "histogram2d", "layer_histograms2d", "arrays"
]
Origin: TypeAlias = Literal["instrument", "user"]

# Flags of a point. SQLite stores NaN as NULL, so what a value is stands beside it.
FINITE, NAN, PLUS_INF, MINUS_INF, MISSING = range(5)

ARRAYS = 3
"""Of a series of arrays, where others have the axes of their histograms."""

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData()

run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # 1 in a file, which holds a single run
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),  # token of the writer that may write
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("process", sa.Text, nullable=False),  # when that process began: process ids are used again
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("heartbeat", sa.Double, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("elapsed", sa.Double, nullable=False),
    sa.Column("last_step", sa.BigInteger),
    sa.Column("cursor", sa.BigInteger, nullable=False),
    sa.Column("dropped", sa.BigInteger, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),
    sa.Column("header", sa.Text, nullable=False),
    sa.UniqueConstraint("name", "rank"),
)


def _table(name: str, *columns: sa.schema.SchemaItem, key: tuple[str, ...], **settings: Any) -> sa.Table:
    """A table of which every row belongs to a run. That number is a constant in a file, where it takes a byte."""
    number = sa.Column("run", sa.Integer, nullable=False)
    return sa.Table(name, metadata, number, *columns, sa.PrimaryKeyConstraint("run", *key), **settings)


# Who wrote the run, one after the other. An attempt that goes on at an earlier step than the last one had reached masks
# that one's later points: those of a number up to `cursor` at a step from `first_step` on.
attempt = _table(
    "attempt",
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("first_step", sa.BigInteger),  # NULL as long as the first attempt has read nothing
    sa.Column("cursor", sa.BigInteger, nullable=False),  # last number given before it
    sa.Column("began", sa.Double, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("command", sa.Text, nullable=False),
    key=("number",),
)

# What a list of runs shows stands here: the last value of each key, without a look at its points.
series = _table(
    "series",
    sa.Column("id", _Id, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("layered", sa.Boolean, nullable=False),
    # Its axes, 0 for numbers, ARRAYS for arrays; NULL as long as every point was missing.
    sa.Column("histogram", sa.SmallInteger),
    sa.Column("points", sa.BigInteger, nullable=False),  # that no later attempt masks
    sa.Column("first_step", sa.BigInteger, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("last_value", sa.Double),
    sa.Column("last_flag", sa.SmallInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),  # cursor of its newest point
    sa.Column("tail", sa.BigInteger, nullable=False),  # how many of its points are rows, not in chunks
    key=("id",),
)

layout = _table(
    "layout",
    sa.Column("id", _Id, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("layers", sa.Text),  # JSON list of names
    sa.Column("bins", sa.Integer),  # of the last axis
    sa.Column("edges", sa.LargeBinary),  # see codec.encode_edges; of arrays codec.encode_forms
    sa.UniqueConstraint("run", "digest"),
    key=("id",),
)

# The tail of a series: its recent points, and those of arrays for ever.
point = _table(
    "point",
    sa.Column("id", _Id, nullable=False),
    sa.Column("series", _Id, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("time", sa.Double),
    sa.Column("value", sa.Double),
    sa.Column("flag", sa.SmallInteger, nullable=False),
    sa.Column("layout", _Id),
    sa.UniqueConstraint("run", "id"),
    key=("series", "step", "id"),
    sqlite_with_rowid=False,  # points of one series lie side by side: a curve is read in one sweep
)

# Apart from the points: a page then holds a hundred scalars, and reading a curve does not fetch histograms.
payload = _table(
    "payload",
    sa.Column("point", _Id, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    key=("point",),
    sqlite_with_rowid=False,
)

# Older points of a series, many in a row: what is told of them, which is read without opening them.
chunk = _table(
    "chunk",
    sa.Column("series", _Id, nullable=False),
    sa.Column("id", _Id, nullable=False),  # highest number of its points
    sa.Column("oldest", _Id, nullable=False),  # lowest
    sa.Column("points", sa.Integer, nullable=False),
    sa.Column("first_step", sa.BigInteger, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("ordered", sa.Boolean, nullable=False),  # no step twice
    sa.Column("minimum", sa.Double),  # of the finite values
    sa.Column("maximum", sa.Double),
    sa.Column("last_value", sa.Double),
    sa.Column("last_flag", sa.SmallInteger, nullable=False),
    sa.Column("nonfinite", sa.Integer, nullable=False),
    sa.Column("missing", sa.Integer, nullable=False),
    sa.Column("sketch", sa.LargeBinary),  # points that a thinned curve keeps, see chunks.encode_sketch
    sa.Index("chunk_steps", "run", "series", "first_step", "last_step"),
    key=("series", "id"),
    sqlite_with_rowid=False,
)

# Apart from that, the points: rows of this size take no more of their pages than they need where they are numbered.
packed = _table(
    "packed",
    sa.Column("chunk", _Id, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),  # see chunks.encode_points
    sa.Column("payload", sa.LargeBinary),  # see chunks.pack
    key=("chunk",),
)

event = _table(
    "event",
    sa.Column("id", _Id, nullable=False),
    sa.Column("step", sa.BigInteger),
    sa.Column("time", sa.Double),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    key=("id",),
)

document = _table(
    "document",
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    key=("name",),
)

# Large things that are kept whole and read seldom, such as the parameters at the start, in pieces.
piece = _table(
    "piece",
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    key=("name", "number"),
)


class RunExists(FileExistsError):
    """A run of this name has been written before and is over."""


class RunIsLive(FileExistsError):
    """A run of this name is being written at this moment."""


class UnreadableLog(RuntimeError):
    """The file is not a log that this version of Cockpit can read; the message says why."""


def flag_of(value: float | None) -> int:
    """What ``value`` is: ``FINITE``, ``NAN``, ``PLUS_INF``, ``MINUS_INF`` or ``MISSING``."""
    if value is None:
        return MISSING
    if math.isfinite(value):
        return FINITE
    if math.isnan(value):
        return NAN
    return PLUS_INF if value > 0 else MINUS_INF


_NETWORK: tuple[Kind, ...] = ("scalar", "histogram", "histogram2d")
_LAYERED: tuple[Kind, ...] = ("layers", "layer_histograms", "layer_histograms2d", "arrays")


def kind_of(layered: bool, axes: int | None) -> Kind:
    """Name of a series' kind; where every point was missing it is taken for numbers."""
    return (_LAYERED if layered else _NETWORK)[axes or 0]


def is_layered(kind: Kind) -> bool:
    """Whether a kind holds one value, or one array, for each layer."""
    return kind in _LAYERED


def axes_of(kind: Kind) -> int:
    """How many axes the histograms of a kind have; 0 for numbers, :data:`ARRAYS` for arrays."""
    return (_LAYERED if is_layered(kind) else _NETWORK).index(kind)
