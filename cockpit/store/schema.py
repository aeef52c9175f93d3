"""The log's tables and its header: what stands where, in words that SQLite and PostgreSQL both understand.

One file per run and rank. Every committed thing (a point, an event, a document) carries a number from one counter, the
*cursor*; who remembers the last cursor they saw can ask for what came after it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from cockpit.panel import Panel, Screen

SCHEMA_VERSION = 3  # 1 knew no pairs, 2 no arrays: where they are absent, all say the same

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
    sa.Column("id", sa.Integer, primary_key=True),  # a single row, 1
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
)

series = sa.Table(
    "series",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("layered", sa.Boolean, nullable=False),
    # Its axes, 0 for numbers, ARRAYS for arrays; NULL as long as every point was missing.
    sa.Column("histogram", sa.SmallInteger),
    sa.Column("points", sa.BigInteger, nullable=False),
    sa.Column("first_step", sa.BigInteger, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("last_value", sa.Double),
    sa.Column("last_flag", sa.SmallInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),  # cursor of its newest point
)

layout = sa.Table(
    "layout",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("layers", sa.Text),  # JSON list of names
    sa.Column("bins", sa.Integer),  # of the last axis
    sa.Column("edges", sa.LargeBinary),  # see codec.encode_edges; of arrays codec.encode_forms
)

point = sa.Table(
    "point",
    metadata,
    sa.Column("id", _Id, nullable=False, unique=True),
    sa.Column("series", _Id, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("time", sa.Double),
    sa.Column("value", sa.Double),
    sa.Column("flag", sa.SmallInteger, nullable=False),
    sa.Column("layout", _Id),
    sa.PrimaryKeyConstraint("series", "step", "id"),
    sqlite_with_rowid=False,  # points of one series lie side by side: a curve is read in one sweep
)

# Apart from the points: a page then holds a hundred scalars, and reading a curve does not fetch histograms.
payload = sa.Table(
    "payload",
    metadata,
    sa.Column("point", _Id, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=False),
    sa.Column("step", sa.BigInteger),
    sa.Column("time", sa.Double),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
)

document = sa.Table(
    "document",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
)


class RunExists(FileExistsError):
    """A run of this name has been written before and is over."""


class RunIsLive(FileExistsError):
    """A run of this name is being written at this moment."""


class UnreadableLog(RuntimeError):
    """The file is not a log that this version of Cockpit can read; the message says why."""


@dataclass(frozen=True)
class Header:
    """Description of a run, written once at its start. What JSON cannot hold is kept as text.

    Args:
        name: The run's name, as the user calls it.
        created: When it began, in seconds since 1970.
        config: The user's hyperparameters.
        tags: Words to find it by.
        panels: What can be drawn, by panel name.
        screens: Arrangements of panels.
        instruments: By name, how it was configured: ``{"interval": "every 10th step"}``.
        model: Class, and parameters as ``{"name", "shape", "numel", "module", "type"}``.
        optimizer: Class and hyperparameters of each parameter group.
        environment: Versions, device, commit, command line, seed.
    """

    name: str
    created: float
    config: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    panels: Mapping[str, Panel] = field(default_factory=dict)
    screens: tuple[Screen, ...] = ()
    instruments: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the log."""
        data = {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}
        data["panels"] = {name: panel.to_json() for name, panel in self.panels.items()}
        data["screens"] = [screen.to_json() for screen in self.screens]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Header:
        """The inverse of :meth:`to_json`; fields of a newer version are ignored."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["tags"] = tuple(known.get("tags", ()))
        known["panels"] = {name: Panel.from_json(panel) for name, panel in known.get("panels", {}).items()}
        known["screens"] = tuple(Screen.from_json(screen) for screen in known.get("screens", ()))
        return cls(**known)


def plain(value: Any) -> Any:
    """``value`` as what JSON knows; NumPy and torch numbers become Python's, anything else becomes its text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(entry) for entry in value), key=str)
    if callable(getattr(value, "tolist", None)) and not isinstance(value, type):  # NumPy's and torch's numbers
        return plain(value.tolist())
    return text(str(value))


def text(value: str) -> str:
    """``value`` as every database can store it: without NUL and lone surrogates, which file names may bring."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def dumps(value: Any) -> str:
    """JSON text of ``value``, see :func:`plain`."""
    return json.dumps(plain(value), ensure_ascii=False)


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
