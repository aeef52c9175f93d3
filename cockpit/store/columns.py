"""A series as arrays: decoding, union of layer names, thinning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tsdownsample import MinMaxDownsampler

from cockpit.store.codec import Edges, decode_counts, decode_floats
from cockpit.store.points import Points
from cockpit.store.schema import FINITE, MINUS_INF, MISSING, NAN, PLUS_INF, Kind, axes_of, is_layered

_MIN_MAX: Any = MinMaxDownsampler()  # type: ignore[no-untyped-call]

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """Points of one series, in step order.

    Args:
        key: Log key.
        kind: ``scalar``, ``histogram`` or ``histogram2d``; ``layers``, ``layer_histograms`` or ``layer_histograms2d``;
            ``arrays``.
        steps: Shape ``[n]``, increasing.
        times: Seconds since the run began. Shape ``[n]``.
        values: ``scalar``: float64 ``[n]``; ``layers``: float64 ``[n, L]``; ``histogram``: int64 ``[n, bins]``;
            ``layer_histograms``: int64 ``[n, L, bins]``. Of pairs, in place of ``bins``: ``x bins, y bins``.
            ``arrays``: none, ``[n, 0]``; :meth:`Reader.arrays` reads those of one step.
        missing: True where the value is undefined; ``values`` holds NaN or zero counts there. A NaN or infinity that
            was really logged is not missing. Shape ``[n]``, or ``[n, L]`` for layers.
        layers: Names along ``L``, in model order. Where a layer came or went during the run, all of them, with gaps.
        edges: Bin boundaries. Shape ``[bins + 1]`` where all points (and layers) share them, else one row for each:
            ``[n, bins + 1]`` or ``[n, L, bins + 1]``; histograms with fewer bins end in empty bins of no width. Of
            pairs, those of the first axis.
        y_edges: The same of the second axis of pairs.
    """

    key: str
    kind: Kind
    steps: NDArray[np.int64]
    times: Floats
    values: Floats | Counts
    missing: Mask
    layers: tuple[str, ...] = ()
    edges: Floats | None = None
    y_edges: Floats | None = None

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Layout:
    """Layer names and edges that points share. ``edges``, for each axis: ``[bins + 1]`` or ``[L, bins + 1]``."""

    layers: tuple[str, ...] = ()
    edges: Edges = ()


_NO_LAYOUT = Layout()


def scalar_column(key: str, points: Points) -> Column:
    """From points in step order, one for each step."""
    return Column(key, "scalar", points.steps, points.times, points.values, points.flags == MISSING)


def strided(points: Points, max_points: int | None) -> Points:
    """At most so many of the points, at even strides; first and last among them."""
    if max_points is None or len(points) <= max_points:
        return points
    return points[np.linspace(0, len(points) - 1, max_points).round().astype(np.intp)]


def thin(values: Floats, flags: NDArray[np.int8], max_points: int) -> NDArray[np.intp]:
    """Positions of at most ``max_points`` of the points, first and last among them.

    The axis is cut into stretches of equally many points. Of each the smallest and largest finite value stays, and the
    first of each sort of gap (missing, NaN, inf, −inf): from eight points on, neither a spike nor a gap can vanish.
    """
    n = len(values)
    kept = [np.array([0, n - 1])]
    gaps = [np.flatnonzero(flags == flag) for flag in (MISSING, NAN, PLUS_INF, MINUS_INF)]
    gaps = [positions for positions in gaps if len(positions)]
    finite = np.flatnonzero(flags == FINITE)
    share = (max_points - 2) // (len(gaps) + 2)  # finite values get two: minima and maxima
    if share:
        for positions in gaps:
            _, first = np.unique(positions * share // n, return_index=True)
            kept.append(positions[first])
        kept.append(_extremes(finite, values[finite], 2 * share))
    return np.unique(np.concatenate(kept)).astype(np.intp)


def _extremes(positions: NDArray[np.intp], values: Floats, count: int) -> NDArray[np.intp]:
    if len(values) <= count:
        return positions
    extremes: NDArray[np.intp] = positions[_MIN_MAX.downsample(values, n_out=count)]
    return extremes


def array_column(key: str, points: Points) -> Column:
    """When arrays were logged, from points in step order, one for each step."""
    n = len(points)
    return Column(key, "arrays", points.steps, points.times, np.zeros((n, 0)), np.zeros((n, 0), bool))


def vector_column(key: str, kind: Kind, rows: Sequence[Any], layouts: Mapping[int, Layout]) -> Column:
    """From rows with ``step``, ``time``, ``layout`` and ``data``, one for each step, in step order."""
    steps = np.array([row.step for row in rows], np.int64)
    times = np.array([row.time for row in rows], np.float64)
    names = tuple(dict.fromkeys(name for layout in layouts.values() for name in layout.layers))
    lead = (len(rows), len(names)) if is_layered(kind) else (len(rows),)
    missing = np.ones(lead, bool)
    if kind == "layers":
        values = np.full(lead, np.nan)
        for at, row in enumerate(rows):
            layout = layouts[row.layout]
            there = at, _places(names, layout)
            values[there], missing[there] = decode_floats(row.data, len(layout.layers))
        return Column(key, kind, steps, times, values, missing, names)
    shapes = [_bins(layout.edges) for layout in layouts.values() if layout.edges]
    bins = [max(sizes) for sizes in zip(*shapes, strict=True)] or [0] * axes_of(kind)
    counts = np.zeros((*lead, *bins), np.int64)
    edges = [np.full((*lead, size + 1), np.nan) for size in bins]
    for at, row in enumerate(rows):
        layout = layouts.get(row.layout, _NO_LAYOUT)  # a histogram that is missing has none
        if not layout.edges:
            continue
        own = _bins(layout.edges)
        where: tuple[Any, ...] = (at, _places(names, layout)) if layout.layers else (slice(at, at + 1),)
        counts[(*where, *map(slice, own))], missing[where] = decode_counts(row.data, len(layout.layers) or 1, own)
        for axis, boundaries, size in zip(edges, layout.edges, own, strict=True):
            axis[(*where, slice(size + 1))] = boundaries
            axis[(*where, slice(size + 1, None))] = boundaries[..., -1:]
    return Column(key, kind, steps, times, counts, missing, names, *(_shared(axis, missing) for axis in edges))


def _bins(edges: Edges) -> list[int]:
    return [axis.shape[-1] - 1 for axis in edges]


def _places(names: tuple[str, ...], layout: Layout) -> slice | list[int]:
    """Where the layout's layers stand among all names."""
    if layout.layers == names:
        return slice(None)
    position = {name: at for at, name in enumerate(names)}
    return [position[name] for name in layout.layers]


def _shared(edges: Floats, missing: Mask) -> Floats:
    """``[bins + 1]`` if all rows that are not missing have the same edges, else as they are."""
    defined = edges[~missing]
    if len(defined) and (defined == defined[0]).all():
        shared: Floats = defined[0]
        return shared
    return edges
