"""What single layers went through in a long run: their numbers as curves, and their histograms.

Both are taken up as they come and thinned whenever they are too many; what stands out is never what is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import of_layers, rows_of
from cockpit.drawing.quantiles import quantiles
from cockpit.drawing.stretches import Stretching, levels
from cockpit.store import Column
from cockpit.store.columns import thin
from cockpit.store.schema import FINITE, MINUS_INF, MISSING, NAN, PLUS_INF

FEATURES = (0.0, 0.1, 0.5, 0.9, 1.0)  # shares of the elements: how a histogram stands out is told by its quantiles


class LayerCurves:
    """The numbers of some layers, as scalars of each. Of many, every stretch's extremes and gaps stay.

    Args:
        wanted: Which layers, by their names.
        most: Points of a curve; it may have twice as many for a while.
    """

    def __init__(self, wanted: Callable[[str], bool], most: int) -> None:
        self._wanted, self._most = wanted, most
        self.curves: dict[str, Column] = {}

    def add(self, column: Column) -> None:
        """Take up readings that come after those before."""
        for place, name in enumerate(column.layers):
            if not self._wanted(name):
                continue
            own = replace(
                column, kind="scalar", layers=(), values=column.values[:, place], missing=column.missing[:, place]
            )
            whole = _joined(self.curves[name], own) if name in self.curves else own
            self.curves[name] = _thinned(whole, self._most) if len(whole) > 2 * self._most else whole


class Histories:
    """Histograms of some layers, one reading for each stretch of the run: the one that stands out most.

    Each is compared with the level of the stretches around, by the quantiles :data:`FEATURES`; how far it is from there
    in the quantile and layer that are furthest counts.

    Args:
        wanted: Which layers, by their names.
        most: How many readings are kept, at least 2.
    """

    def __init__(self, wanted: Callable[[str], bool], most: int) -> None:
        self._wanted, self._stretching = wanted, Stretching(most)
        self.column: Column | None = None

    def add(self, column: Column) -> None:
        """Take up readings that come after those before."""
        own = of_layers(column, [name for name in column.layers if self._wanted(name)])
        if not len(own) or not own.layers:
            return
        if self.column is None:
            before, whole = 0, own
        else:
            names = tuple(dict.fromkeys((*self.column.layers, *own.layers)))
            before, whole = len(self.column), _joined(_with(self.column, names), _with(own, names))
        stretch = self._stretching.numbers(before, len(own))
        self.column = rows_of(whole, _standing_out(_features(whole), stretch))


def _thinned(scalars: Column, most: int) -> Column:
    sorts = [scalars.missing, np.isnan(scalars.values), scalars.values == np.inf, scalars.values == -np.inf]
    flags = np.select(sorts, [MISSING, NAN, PLUS_INF, MINUS_INF], FINITE).astype(np.int8)
    return rows_of(scalars, thin(scalars.values.astype(np.float64), flags, most))


def _joined(first: Column, second: Column) -> Column:
    """The points of two columns of the same layers, one after the other."""
    both: dict[str, Any] = {
        name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("steps", "times", "missing")
    }
    if first.edges is None or second.edges is None:
        return replace(first, **both, values=np.concatenate([first.values, second.values]))
    same = first.edges.ndim == second.edges.ndim == 1 and np.array_equal(first.edges, second.edges)
    bins = max(first.values.shape[-1], second.values.shape[-1])
    counts = [_padded(column.values, bins, "constant") for column in (first, second)]
    edges = [_padded(_every_edge(column), bins + 1, "edge") for column in (first, second)]
    return replace(first, **both, values=np.concatenate(counts), edges=first.edges if same else np.concatenate(edges))


def _padded(values: NDArray[np.float64] | NDArray[np.int64], length: int, mode: str) -> NDArray[np.float64]:
    """With empty bins of no width at the end, as the store has them."""
    wide = [(0, 0)] * (values.ndim - 1) + [(0, length - values.shape[-1])]
    return np.pad(values, wide, mode=mode)  # type: ignore[call-overload,no-any-return]


def _every_edge(column: Column) -> NDArray[np.float64]:
    """Bin boundaries of each reading and layer. Shape ``[n, L, bins + 1]``."""
    assert column.edges is not None
    return np.broadcast_to(column.edges, (*column.missing.shape, column.edges.shape[-1]))


def _with(column: Column, names: tuple[str, ...]) -> Column:
    """The column with these layers, some of which it may lack."""
    if column.layers == names:
        return column
    places = [names.index(name) for name in column.layers]
    shape = len(column), len(names)
    values, missing = np.zeros((*shape, column.values.shape[-1]), np.int64), np.ones(shape, bool)
    values[:, places], missing[:, places] = column.values, column.missing
    edges = column.edges
    if edges is not None and edges.ndim > 1:
        own, edges = edges, np.full((*shape, edges.shape[-1]), np.nan)
        edges[:, places] = own
    return replace(column, layers=names, values=values, missing=missing, edges=edges)


def _features(column: Column) -> NDArray[np.float64]:
    """Quantiles of all layers of each reading. Shape ``[n, L · 5]``; NaN where there is no element."""
    found = quantiles(column.values.astype(np.int64), _every_edge(column), FEATURES)
    return found.reshape(len(column), -1)


def _standing_out(features: NDArray[np.float64], stretch: NDArray[np.intp]) -> NDArray[np.intp]:
    """The row of each stretch that is furthest from the level around; the first of several."""
    firsts = np.flatnonzero(np.diff(stretch, prepend=-1))
    level = levels(features[firsts])[np.searchsorted(stretch[firsts], stretch)]
    distances = np.abs(features - level)
    scores = np.where(np.isnan(distances), -1.0, distances).max(1)
    order = np.lexsort((-scores, stretch))
    return np.sort(order[np.flatnonzero(np.diff(stretch[order], prepend=-1))])
