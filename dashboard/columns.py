"""Columns of one run that are kept: read once, then carried on with what the run has gained."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import rows_of
from cockpit.store import Column, Reader, Series

MOST_COLUMNS = 200  # kept of one run
MOST_ROWS = 100  # single points, each of which may hold a histogram for every layer
SHARED = 20_000  # points and events since a look, up to which all series' news are read at once
_FIELDS = ("steps", "times", "values", "missing")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio


def _as_it_is(column: Column) -> Column:
    return column


class Columns:
    """What is kept of one run; whoever asks sees to it that only one thread does.

    Args:
        reader: The run's log.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._kept: OrderedDict[tuple[object, ...], tuple[int, Column]] = OrderedDict()
        self._rows: OrderedDict[tuple[str, str, int], tuple[int, Column]] = OrderedDict()
        self._glimpses: dict[tuple[str, str], tuple[int, Column]] = {}
        self._news: tuple[int, int, dict[str, Column]] | None = None

    def get(
        self, key: str, kind: str, cursor: int, *, most: int | None = None, steps: tuple[int, int] | None = None,
        name: str = "", reduce: Callable[[Column], Column] = _as_it_is,
    ) -> Column:  # fmt: skip
        """The points of a series as of ``cursor``; only those are read that were added since the last time.

        Args:
            key: Log key.
            kind: Which of the key's series.
            cursor: As of when.
            most: How many points it is thinned to; between two thinnings it grows to twice as many.
            steps: First and last step wanted.
            name: Of what is made of the points: it is kept under it.
            reduce: Makes it, point by point; it may be given few of them, but never none that were added.
        """
        place = key, kind, name, steps
        before, column = self._kept.pop(place, (-1, None))
        if column is not None and before != cursor:
            new = self._added(key, kind, before, cursor)
            new = None if new is None else within(new, steps)
            column = joined(column, reduce(new)) if new else column
        if column is not None and most is not None and len(column) > 2 * most:
            column = thinned(column, most) if kind == "scalar" else None
        if column is None:
            column = reduce(self._reader.column(key, kind, steps=steps, max_points=most))
        self._kept[place] = cursor, column
        while len(self._kept) > MOST_COLUMNS:
            self._kept.popitem(last=False)
        return column

    def _added(self, key: str, kind: str, before: int, cursor: int) -> Column | None:
        """What a series has gained since ``before``. Scalars are asked for together: nearly all were seen last then."""
        if kind != "scalar" or cursor - before > SHARED:
            return self._reader.column(key, kind, since=before)
        if self._news is None or self._news[:2] != (before, cursor):
            self._news = before, cursor, self._reader.news(before)
        return self._news[2].get(key)

    def at(self, series: Series, step: int) -> Column:
        """The last point of a series at or before ``step``: one row, or none. It is read anew once the series grows."""
        place = series.key, series.kind, step
        points, column = self._rows.pop(place, (-1, None))
        if column is None or points != series.points:
            column = self._reader.at(series.key, step, series.kind)
        self._rows[place] = series.points, column
        while len(self._rows) > MOST_ROWS:
            self._rows.popitem(last=False)
        return column

    def glimpse(self, series: Series) -> Column:
        """A point of a series, which is read anew whenever the series has grown to twice as many."""
        points, column = self._glimpses.get((series.key, series.kind), (0, None))
        if column is None or series.points >= 2 * points:
            column = self._reader.at(series.key, series.last_step, series.kind)
            self._glimpses[series.key, series.kind] = series.points, column
        return column


def within(column: Column, steps: tuple[int, int] | None) -> Column:
    """The points from the first to the last of these steps; all for ``None``."""
    if steps is None:
        return column
    return rows_of(column, (column.steps >= steps[0]) & (column.steps <= steps[1]))


def joined(old: Column, new: Column) -> Column | None:
    """Both columns' points in step order; where both have a step, the newer point. ``None`` where they do not match."""
    if len(new) == 0:
        return old
    if old.layers != new.layers or not _same(old.edges, new.edges):
        return None
    merged: dict[str, Any] = {name: np.concatenate([getattr(old, name), getattr(new, name)]) for name in _FIELDS}
    both = replace(old, **merged)
    if len(old) == 0 or new.steps[0] > old.steps[-1]:
        return both
    order = np.argsort(both.steps, kind="stable")
    steps = both.steps[order]
    return rows_of(both, order[np.append(steps[1:] != steps[:-1], True)])  # the last of equal steps is the newest


def _same(old: NDArray[np.float64] | None, new: NDArray[np.float64] | None) -> bool:
    """Whether bins are the same for all points of both columns."""
    if old is None or new is None:
        return old is new
    return old.ndim == new.ndim == 1 and np.array_equal(old, new)


def thinned(column: Column, most: int) -> Column:
    """At most so many points of a column of scalars, first and last among them, evenly over its steps.

    Of each of as many stretches of steps as there is room for the least and the largest finite value stay, and the
    first of each sort of gap (missing, NaN, inf, −inf). What was thinned before may be thinned again, together with
    points that stand closer: the extremes are still those of all points.
    """
    steps, values, n = column.steps.astype(np.float64), column.values.astype(np.float64), len(column)
    gaps = [column.missing, np.isnan(values) & ~column.missing, values == np.inf, values == -np.inf]
    gaps = [np.flatnonzero(gap) for gap in gaps if gap.any()]
    stretches = (most - 2) // (len(gaps) + 2)  # finite values get two: minima and maxima
    stretch = (stretches * ((steps - steps[0]) / (steps[-1] - steps[0] + 1))).astype(np.int64)
    kept = [np.array([0, n - 1])]
    for places in gaps:
        kept.append(places[np.unique(stretch[places], return_index=True)[1]])
    finite = np.flatnonzero(np.isfinite(values))
    rising = finite[np.lexsort((values[finite], stretch[finite]))]  # within each stretch
    borders = np.flatnonzero(np.diff(stretch[rising], prepend=-1, append=-1))
    kept += [rising[borders[:-1]], rising[borders[1:] - 1]]
    return rows_of(column, np.unique(np.concatenate(kept)))


def sample(column: Column, bits: int, *, last: bool = False) -> Column:
    """The points at one step in ``2**bits``, whatever others there are; and the ``last`` one, where that is wanted."""
    if not bits:
        return column
    # Multiples of the golden ratio are spread evenly, whatever their stride: those in the lowest part are kept.
    kept = (column.steps.astype(np.uint64) * _GOLDEN) >> np.uint64(64 - bits) == 0
    kept[-1:] |= last
    return rows_of(column, kept)
