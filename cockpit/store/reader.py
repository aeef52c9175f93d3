"""The reading side of one run's log, safe beside a live writer and from many threads."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from cockpit.store import database
from cockpit.store.arrays import Array, decode_arrays, decode_forms
from cockpit.store.codec import decode_edges
from cockpit.store.columns import Column, Layout, array_column, latest, scalar_column, vector_column
from cockpit.store.schema import (
    ARRAYS,
    Header,
    Kind,
    Origin,
    axes_of,
    document,
    event,
    kind_of,
    layout,
    payload,
    point,
    run,
    series,
)

_SCALAR = (point.c.step, point.c.time, point.c.value, point.c.flag)
_VECTOR = (*_SCALAR, point.c.layout, payload.c.data)
_WITH_PAYLOAD = point.outerjoin(payload, payload.c.point == point.c.id)
_VECTOR_QUERY = sa.select(*_VECTOR).select_from(_WITH_PAYLOAD)
_VARIABLES = 500  # in one IN clause; databases bound their number


@dataclass(frozen=True)
class Series:
    """What can be read under a key.

    Args:
        key: Log key.
        kind: ``scalar``, ``histogram`` or ``histogram2d``; ``layers``, ``layer_histograms`` or ``layer_histograms2d``;
            ``arrays``.
        origin: ``instrument``, or ``user`` for metrics that the training script logs.
        points: How often it was logged.
        first_step: Lowest step.
        last_step: Highest step.
        defined: Whether any of its points has a value; in a kind that is ``scalar`` or ``layers`` until one has.
    """

    key: str
    kind: Kind
    origin: Origin
    points: int
    first_step: int
    last_step: int
    defined: bool = True


@dataclass(frozen=True)
class Event:
    """Something that happened during a run.

    Args:
        id: Cursor at which it was committed.
        step: When; ``None`` if at no step.
        time: Seconds since the run began.
        kind: ``warning``, ``error``, ``info``, ``learning_rate`` or ``evaluation``.
        text: What to tell the user.
        subject: Panel or instrument it is about; empty for the run.
    """

    id: int
    step: int | None
    time: float
    kind: str
    text: str
    subject: str


class Reader:
    """One run, read only. Each call is one short transaction on a connection of its own.

    Args:
        path: The run's directory, or its ``rank0.db``.
        name: What to call it; by default the name in its header.

    Raises:
        UnreadableLog: If it is no log, cut short, or a newer version's; any method may raise it later.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        path = Path(path)
        self.path = path / "rank0.db" if path.is_dir() else path
        self._engine = database.reading_engine(self.path)
        self._header_text, self._header = "", Header("", 0.0)
        self.name = name or self.header.name

    @property
    def header(self) -> Header:
        """Description of the run; a resumed run writes a new one."""
        with database.reading(self._engine, self.path) as connection:
            database.check_version(connection, self.path)
            row = connection.execute(sa.select(run.c.header, run.c.created)).one()
            if row.header != self._header_text:
                self._header = replace(Header.from_json(json.loads(row.header)), created=row.created)
                self._header_text = row.header
        return self._header

    def state(self) -> str:
        """``running``, ``finished``, ``interrupted``, or ``crashed`` where the writer has gone without a word."""
        with database.reading(self._engine, self.path) as connection:
            return database.state_of(connection.execute(sa.select(run)).one())

    def cursor(self) -> int:
        """Grows with every commit of points, events or documents and at the end: equal cursor, nothing new."""
        return int(self._value(sa.select(run.c.cursor)))

    def dropped(self) -> int:
        """Items that the writer could not keep up with."""
        return int(self._value(sa.select(run.c.dropped)))

    def series(self) -> tuple[Series, ...]:
        """All series, in order of appearance."""
        with database.reading(self._engine, self.path) as connection:
            rows = connection.execute(sa.select(series).order_by(series.c.id)).all()
        return tuple(
            Series(
                row.key,
                kind_of(row.layered, row.histogram),
                row.origin,
                row.points,
                row.first_step,
                row.last_step,
                row.histogram is not None,
            )
            for row in rows
        )

    def column(
        self, key: str, kind: str | None = None, *, since: int = 0, steps: tuple[int, int] | None = None,
        max_points: int | None = None,
    ) -> Column:  # fmt: skip
        """The points of a series. Where a step was logged twice, the later point counts.

        Args:
            key: Log key.
            kind: Which of the key's series; by default the network-wise one, if there is one.
            since: A cursor: only points committed after it.
            steps: First and last step wanted.
            max_points: Bound on the number of points. Scalars keep every stretch's extremes and gaps; layers and
                histograms are taken at even strides.

        Returns:
            The points; of arrays the steps and names alone, see :meth:`arrays`.

        Raises:
            KeyError: If there is no such series; names the nearest.
            ValueError: If ``max_points`` is less than 2.
        """
        if max_points is not None and max_points < 2:
            raise ValueError(
                f"a column keeps at least its first and last point: max_points must be 2 or more, not {max_points}"
            )
        with database.reading(self._engine, self.path) as connection:
            row = _find(connection, key, kind)
            if row is not None:
                wanted = [point.c.series == row.id]
                if since:
                    # New points are few and at the end: the sum keeps the database from walking the series' index.
                    wanted = [point.c.series + 0 == row.id, point.c.id > since]
                if steps is not None:
                    wanted.append(point.c.step.between(*steps))
                return _column(connection, key, kind_of(row.layered, row.histogram), wanted, max_points)
        raise KeyError(self._no_such(key, kind))

    def at(self, key: str, step: int, kind: str | None = None) -> Column:
        """The last point at or before ``step``: one row, or none.

        Raises:
            KeyError: As :meth:`column`.
        """
        with database.reading(self._engine, self.path) as connection:
            row = _find(connection, key, kind)
            if row is not None:
                wanted = [point.c.id == _last(connection, row.id, step)]
                return _column(connection, key, kind_of(row.layered, row.histogram), wanted, None)
        raise KeyError(self._no_such(key, kind))

    def arrays(self, key: str, step: int) -> dict[str, Array]:
        """The arrays by name that were logged last at or before ``step``; none where there are none so early.

        Raises:
            KeyError: As :meth:`column`, also where the key holds no arrays.
        """
        with database.reading(self._engine, self.path) as connection:
            row = _find(connection, key, "arrays")
            if row is not None:
                found = connection.execute(_VECTOR_QUERY.where(point.c.id == _last(connection, row.id, step))).first()
                return {} if found is None else _arrays(connection, found)
        raise KeyError(self._no_such(key, "arrays"))

    def events(self, since: int = 0) -> list[Event]:
        """Events committed after the cursor ``since``, in that order."""
        with database.reading(self._engine, self.path) as connection:
            rows = connection.execute(sa.select(event).where(event.c.id > since).order_by(event.c.id)).all()
        return [Event(**row._mapping) for row in rows]

    def document(self, name: str) -> Any | None:
        """The latest JSON document of this name."""
        with database.reading(self._engine, self.path) as connection:
            text = connection.execute(sa.select(document.c.value).where(document.c.name == name)).scalar()
            return None if text is None else json.loads(text)

    def close(self) -> None:
        """Forgets the file. A reader holds no connection between calls, so nothing depends on it."""
        self._engine.dispose()

    def _value(self, query: sa.Select[Any]) -> Any:
        with database.reading(self._engine, self.path) as connection:
            return connection.execute(query).scalar()

    def _no_such(self, key: str, kind: str | None) -> str:
        every = self.series()
        kinds = [entry.kind for entry in every if entry.key == key]
        if kinds:
            return f"{key!r} is logged as {', '.join(kinds)}, not as {kind}"
        keys = sorted({entry.key for entry in every})
        near = difflib.get_close_matches(key, keys, 1)
        hint = f", did you mean {near[0]!r}?" if near else "."
        return f"nothing is logged as {key!r}{hint} There are: {', '.join(keys) or 'no series yet'}"


def _find(connection: sa.Connection, key: str, kind: str | None) -> Any | None:
    """The series' row: of several the instrument's, then the network-wise one, and arrays after the layers."""
    rows = connection.execute(sa.select(series).where(series.c.key == key).order_by(series.c.id)).all()
    wanted = [row for row in rows if kind is None or kind_of(row.layered, row.histogram) == kind]
    return min(wanted, key=lambda row: (row.origin != "instrument", row.layered, row.histogram == ARRAYS), default=None)


def _last(connection: sa.Connection, number: int, step: int) -> int | None:
    """The last point of a series at or before ``step``."""
    before = sa.select(point.c.id).where(point.c.series == number, point.c.step <= step)
    last: int | None = connection.execute(before.order_by(point.c.step.desc(), point.c.id.desc()).limit(1)).scalar()
    return last


def _arrays(connection: sa.Connection, row: Any) -> dict[str, Array]:
    known = connection.execute(sa.select(layout).where(layout.c.id == row.layout)).one()
    return dict(zip(json.loads(known.layers), decode_arrays(row.data, decode_forms(known.edges)), strict=True))


def _column(
    connection: sa.Connection, key: str, kind: Kind, wanted: Sequence[sa.ColumnElement[bool]], max_points: int | None
) -> Column:
    order = (point.c.step, point.c.id)
    if kind == "scalar":
        query = sa.select(*_SCALAR).where(*wanted).order_by(*order)
        return scalar_column(key, database.blocks(connection, query), max_points)
    places = connection.execute(sa.select(point.c.step, point.c.id, point.c.time).where(*wanted).order_by(*order)).all()
    kept = [places[at] for at in _strided(np.array([place.step for place in places], np.int64), max_points)]
    if kind == "arrays":  # too large to be read all at once
        return array_column(key, kept)
    return _vectors(connection, key, kind, [place.id for place in kept])


def _strided(steps: NDArray[np.int64], max_points: int | None) -> list[int]:
    """Positions of the newest point of each step, at even strides where these are too many."""
    kept = latest(steps)
    if max_points is not None and len(kept) > max_points:
        kept = kept[np.linspace(0, len(kept) - 1, max_points).round().astype(np.intp)]
    positions: list[int] = kept.tolist()
    return positions


def _vectors(connection: sa.Connection, key: str, kind: Kind, ids: Sequence[int]) -> Column:
    rows: list[Any] = []
    for start in range(0, len(ids), _VARIABLES):
        query = _VECTOR_QUERY.where(point.c.id.in_(ids[start : start + _VARIABLES]))
        rows += connection.execute(query.order_by(point.c.step)).all()
    rows.sort(key=lambda row: row.step)
    layouts = _layouts(connection, {row.layout for row in rows if row.layout is not None}, axes_of(kind))
    return vector_column(key, kind, rows, layouts)


def _layouts(connection: sa.Connection, ids: Iterable[int], axes: int) -> dict[int, Layout]:
    wanted = sorted(ids)
    layouts = {}
    for start in range(0, len(wanted), _VARIABLES):
        query = sa.select(layout).where(layout.c.id.in_(wanted[start : start + _VARIABLES])).order_by(layout.c.id)
        for row in connection.execute(query):
            layers = tuple(json.loads(row.layers)) if row.layers is not None else ()
            edges = () if row.edges is None else decode_edges(row.edges, len(layers), row.bins, axes)
            layouts[row.id] = Layout(layers, edges)
    return layouts
