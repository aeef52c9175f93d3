"""Looking up points of a series: the last one at a step, those up to it, some of its layers, what can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cockpit.store import Column


def row_at(column: Column, step: int | None) -> int | None:
    """Index of the last point at or before ``step`` (the last of all for ``None``); ``None`` if there is none."""
    last = len(column.steps) if step is None else int(np.searchsorted(column.steps, step, side="right"))
    return last - 1 if last else None


def value_at(column: Column | None, step: int | None) -> float | None:
    """The scalar at :func:`row_at`; ``None`` where there is no point or the point is missing."""
    if column is None:
        return None
    row = row_at(column, step)
    if row is None or bool(column.missing[row]):
        return None
    return float(column.values[row])


def up_to(column: Column, step: int | None) -> Column:
    """The points of ``column`` at or before ``step``; all of them for ``None``."""
    if step is None or len(column.steps) == 0 or column.steps[-1] <= step:
        return column
    return rows_of(column, slice(int(np.searchsorted(column.steps, step, side="right"))))


def rows_of(column: Column, which: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Column:
    """Some of the points, with their own bin boundaries where these are not the same for all."""
    cut = {name: getattr(column, name)[which] for name in ("steps", "times", "values", "missing")}
    for name in ("edges", "y_edges"):
        edges = getattr(column, name)
        if edges is not None and edges.ndim > 1:
            cut[name] = edges[which]
    return replace(column, **cut)


def of_layers(column: Column, names: Sequence[str]) -> Column:
    """A layer-wise column with these of its layers, in this order."""
    if tuple(names) == column.layers:
        return column
    places = [column.layers.index(name) for name in names]
    edges = column.edges if column.edges is None or column.edges.ndim == 1 else column.edges[:, places]
    values, missing = column.values[:, places], column.missing[:, places]
    return replace(column, layers=tuple(names), values=values, missing=missing, edges=edges)


def drawable(column: Column) -> NDArray[np.float64]:
    """The scalar values as they are drawn: NaN, a gap, wherever there is no finite number."""
    values = column.values.astype(np.float64)
    return np.where(np.isfinite(values) & ~column.missing, values, np.nan)


def broken(column: Column) -> NDArray[np.bool_]:
    """Where NaN or an infinity was really logged. Shape ``[n]``."""
    found: NDArray[np.bool_] = ~np.isfinite(column.values) & ~column.missing
    return found


def lone(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values have a gap, NaN, on both sides, so that a line would not show them. Shape ``[n]``."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    alone: NDArray[np.bool_] = known[1:-1] & ~known[:-2] & ~known[2:]
    return alone
