"""One look at a run: what is read within one transaction, and so of one moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import sqlalchemy as sa

from cockpit.store.arrays import Array, decode_arrays, decode_forms
from cockpit.store.attempts import Sight
from cockpit.store.codec import decode_edges
from cockpit.store.columns import Column, Layout, array_column, scalar_column, strided, vector_column
from cockpit.store.history import History, portions
from cockpit.store.plain import loads
from cockpit.store.points import Points
from cockpit.store.portion import points_of_all
from cockpit.store.schema import ARRAYS, MINUS_INF, MISSING, NAN, PLUS_INF, axes_of, kind_of, layout, series

_ODD = {NAN: np.nan, PLUS_INF: np.inf, MINUS_INF: -np.inf, MISSING: None}


class Look:
    """A run as one transaction sees it.

    Args:
        connection: Where to look.
        number: The run's.
        sight: Which points are seen.
    """

    def __init__(self, connection: sa.Connection, number: int, sight: Sight) -> None:
        self.connection, self.sight, self.number = connection, sight, number

    def find(self, key: str, kind: str | None) -> Any | None:
        """A series' row: of several the instrument's, then the network-wise one, and arrays after the layers."""
        of_key = sa.select(series).where(series.c.run == self.number, series.c.key == key, series.c.points > 0)
        rows = self.connection.execute(of_key.order_by(series.c.id)).all()
        wanted = [row for row in rows if kind is None or kind_of(row.layered, row.histogram) == kind]
        ranks = [(row.origin != "instrument", row.layered, row.histogram == ARRAYS) for row in wanted]
        return wanted[ranks.index(min(ranks))] if wanted else None

    def column(self, row: Any, steps: tuple[int, int] | None, max_points: int | None) -> Column:
        """The points of a series, at most ``max_points``, within ``steps``."""
        history = self._history(row)
        if kind_of(row.layered, row.histogram) != "scalar":
            return self._column(row, strided(history.points(steps), max_points))
        points = history.points(steps) if max_points is None else history.thinned(steps, max_points)
        return scalar_column(row.key, points)

    def columns(self, *, scalars: bool = False) -> list[Column]:
        """The points of all series, or of those of scalars, of those that have some in sight."""
        changed = [series.c.run == self.number, series.c.revision > self.sight.after]
        if scalars:
            changed += [sa.not_(series.c.layered), sa.func.coalesce(series.c.histogram, 0) == 0]
        rows = self.connection.execute(sa.select(series).where(*changed).order_by(series.c.id)).all()
        found = points_of_all(self.connection, self.number, self.sight, [row.id for row in rows])
        return [self._column(row, found[row.id]) for row in rows if row.id in found]

    def stretches(self, row: Any, most: int) -> list[tuple[int, int]]:
        """First and last steps of stretches with about ``most`` points of a series each, which leave no step out."""
        return self._history(row).stretches(most)

    def at(self, row: Any, step: int) -> Column:
        """The last point of a series at or before ``step``."""
        return self._column(row, self._history(row).last(step))

    def arrays(self, row: Any, step: int) -> dict[str, Array]:
        """The arrays of a series that were logged last at or before ``step``."""
        history = self._history(row)
        for found in history.vectors(history.last(step)):
            of_point = sa.select(layout).where(layout.c.run == self.number, layout.c.id == found.layout)
            known = self.connection.execute(of_point).one()
            arrays = decode_arrays(found.data or b"", decode_forms(known.edges))
            return dict(zip(loads(known.layers), arrays, strict=True))
        return {}

    def _history(self, row: Any) -> History:
        return History(self.connection, self.number, row.id, self.sight)

    def _column(self, row: Any, points: Points) -> Column:
        kind = kind_of(row.layered, row.histogram)
        if kind == "scalar":
            return scalar_column(row.key, points)
        if kind == "arrays":  # too large to be read all at once
            return array_column(row.key, points)
        layouts = self._layouts(set(points.layouts.tolist()) - {0}, axes_of(kind))
        return vector_column(row.key, kind, self._history(row).vectors(points), layouts)

    def _layouts(self, ids: Iterable[int], axes: int) -> dict[int, Layout]:
        layouts = {}
        for some in portions(sorted(ids)):
            query = sa.select(layout).where(layout.c.run == self.number, layout.c.id.in_(some)).order_by(layout.c.id)
            for row in self.connection.execute(query):
                layers = tuple(loads(row.layers)) if row.layers is not None else ()
                edges = () if row.edges is None else decode_edges(row.edges, len(layers), row.bins, axes)
                layouts[row.id] = Layout(layers, edges)
        return layouts


def latest_values(connection: sa.Connection, number: int) -> dict[str, float | None]:
    """The last value of each scalar of a run; of a key that an instrument and the user logged, the instrument's."""
    query = (
        sa.select(series.c.key, series.c.last_value, series.c.last_flag)
        .where(series.c.run == number, series.c.points > 0, sa.not_(series.c.layered))
        .where(sa.func.coalesce(series.c.histogram, 0) == 0)
        .order_by(series.c.origin.desc(), series.c.id)  # "user" before "instrument", which comes out on top
    )
    rows = connection.execute(query).all()
    return {row.key: _ODD[row.last_flag] if row.last_flag in _ODD else float(row.last_value) for row in rows}
