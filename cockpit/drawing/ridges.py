"""Histograms of many layers at one step, each a ridge above the next, and what they were at the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import row_at
from cockpit.drawing.quantiles import quantiles
from cockpit.drawing.standing_out import STANDS_OUT, scores
from cockpit.store import Column

FIRST = ".first"  # of a scene's columns: the histograms of the first step
ZEROS = ".layer_zeros"  # companion of the key: the share of zeros, which have no logarithm
OVERLAP = 1.5  # height of a ridge, in distances between layers
MOST_LAYERS = 20  # ridges that a panel has room for
QUANTILES = (0.1, 0.5, 0.9)  # by which a layer stands out


@dataclass(frozen=True)
class Ridge:
    """One layer.

    Args:
        layer: Its name.
        heights: Share of its elements in each bin; zeros do not count. Shape ``[bins]``; ``None`` where it is missing
            or holds nothing but zeros.
        ghost: The same at the first step.
        zeros: Share of its elements that are zero; ``None`` where that is not known.
    """

    layer: str
    heights: NDArray[np.float64] | None
    ghost: NDArray[np.float64] | None
    zeros: float | None

    @property
    def highest(self) -> float:
        """The highest share of both; 1 where there is none."""
        return max([float(shape.max()) for shape in (self.heights, self.ghost) if shape is not None], default=1.0)


@dataclass(frozen=True)
class Ridges:
    """Layers from the first to the last.

    Args:
        step: The step they were read at.
        first: The step of the ghosts; ``None`` where these would be the same.
        centres: Of the bins. Shape ``[bins]``.
        layers: At least one.
        left_out: How many layers have no place.
    """

    step: int
    first: int | None
    centres: NDArray[np.float64]
    layers: tuple[Ridge, ...]
    left_out: int


def ridges_of(columns: Mapping[str, Column], key: str, step: int | None) -> Ridges | None:
    """The ridges of ``key`` at or before ``step``; ``None`` where there are none.

    Args:
        columns: The histograms of that step as ``key``, those of the first step as ``key + FIRST``, and the shares of
            zeros as ``key + ZEROS``.
        key: Log key.
        step: The step; ``None`` for the last.
    """
    column = columns.get(key)
    row = None if column is None else row_at(column, step)
    if column is None or row is None or column.edges is None or not column.layers:
        return None
    edges = _edges(column, row)
    centres = (edges[:-1] + edges[1:]) / 2
    first = columns.get(key + FIRST)
    before = first if first is not None and len(first) and int(first.steps[0]) < int(column.steps[row]) else None
    names = _chosen(column, row)
    layers = tuple(
        Ridge(
            name,
            _shares(column, row, name),
            _on(before, name, len(centres)),
            _zeros(columns.get(key + ZEROS), name, step),
        )
        for name in names
    )
    ghost = None if before is None else int(before.steps[0])
    return Ridges(int(column.steps[row]), ghost, centres, layers, len(column.layers) - len(names))


def _chosen(column: Column, row: int) -> list[str]:
    """All layers, or weights alone, or so many as there is room for: of neighbours the one in their midst, or that
    which stands out.
    """
    places = np.arange(len(column.layers))
    if len(places) > MOST_LAYERS:
        weights = [place for place, name in enumerate(column.layers) if not name.endswith("bias")]
        places = np.array(weights or places)
    if len(places) > MOST_LAYERS:
        distances = _distances(column, row, places)
        even = np.linspace(0, len(places) - 1, MOST_LAYERS).round().astype(int)
        bounds = np.append((even[:-1] + even[1:] + 1) // 2, len(places))
        groups = [np.arange(first, end) for first, end in zip(np.append(0, bounds[:-1]), bounds, strict=True)]
        furthest = [int(group[distances[group].argmax()]) for group in groups]
        chosen = [far if distances[far] >= STANDS_OUT else usual for far, usual in zip(furthest, even, strict=True)]
        places = places[chosen]
    return [column.layers[place] for place in places]


def _distances(column: Column, row: int, places: NDArray[np.intp]) -> NDArray[np.float64]:
    """How many usual distances layers are away from their neighbours, by the quantile that is furthest.

    Shape ``[len(places)]``; 0 where that is not known.
    """
    found = quantiles(column.values[row, places].astype(np.int64), _edges(column, row), QUANTILES)
    kinds, nothing = [""] * len(places), np.zeros((0, len(places)))
    apart = [scores(values, nothing, np.isnan(values), kinds, log=False).neighbours for values in found.T]
    furthest: NDArray[np.float64] = np.fmax.reduce(apart)
    return np.nan_to_num(furthest, nan=0.0, posinf=np.inf)


def _edges(column: Column, row: int) -> NDArray[np.float64]:
    """Bin boundaries of a row: its layers share them."""
    assert column.edges is not None
    edges = column.edges
    if edges.ndim == 3:
        there = np.flatnonzero(~column.missing[row])
        edges = edges[row, there[0] if len(there) else 0]
    return edges if edges.ndim == 1 else edges[row]


def _shares(column: Column, row: int, layer: str) -> NDArray[np.float64] | None:
    if layer not in column.layers:
        return None
    place = column.layers.index(layer)
    counts = column.values[row, place]
    total = int(counts.sum())
    return None if column.missing[row, place] or total == 0 else counts / total


def _on(column: Column | None, layer: str, bins: int) -> NDArray[np.float64] | None:
    """The first step's ridge, where it has the same bins."""
    shares = None if column is None else _shares(column, 0, layer)
    return shares if shares is not None and len(shares) == bins else None


def _zeros(column: Column | None, layer: str, step: int | None) -> float | None:
    row = None if column is None else row_at(column, step)
    if column is None or row is None or layer not in column.layers:
        return None
    place = column.layers.index(layer)
    return None if column.missing[row, place] else float(column.values[row, place])
