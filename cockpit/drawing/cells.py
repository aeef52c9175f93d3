"""A layer-wise number over a run: cells, layers above each other, steps beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.store import Column

MOST_COLUMNS = 300
MOST_CELLS = 15_000  # what a page may be sent every second


@dataclass(frozen=True)
class Cells:
    """What is drawn.

    Args:
        layers: Names of the rows, in the model's order.
        edges: Boundaries of the columns on the axis of time. Shape ``[n + 1]``.
        steps: The step of each column. Shape ``[n]``.
        values: NaN where there is none. Shape ``[L, n]``.
    """

    layers: tuple[str, ...]
    edges: NDArray[np.float64]
    steps: NDArray[np.int64]
    values: NDArray[np.float64]


def columns_for(layers: int) -> int:
    """How many columns so many layers leave room for."""
    return max(40, min(MOST_COLUMNS, MOST_CELLS // max(1, layers)))


def cells_of(column: Column, places: NDArray[Any], log: bool, log_places: bool = False) -> Cells:
    """The cells of a layer-wise column.

    Args:
        column: At least one point.
        places: Where its points stand on the axis of time, increasing. Shape ``[n]``.
        log: Whether the values are drawn by their logarithm, which those have none that are not positive.
        log_places: Whether the axis of time is logarithmic.
    """
    values = column.values.astype(np.float64).T
    drawn = np.isfinite(values) & ~column.missing.T & ((values > 0) | (not log))
    edges = edges_between(places, log_places)
    return Cells(column.layers, edges, column.steps, np.where(drawn, values, np.nan))


def edges_between(places: NDArray[Any], log: bool = False) -> NDArray[np.float64]:
    """Boundaries halfway between neighbours; the outer ones as far out as the next ones are in.

    Args:
        places: Increasing. Shape ``[n]``, at least one.
        log: Whether they stand on a logarithmic axis; then they are positive.

    Returns:
        Shape ``[n + 1]``, increasing.

    Example:
        >>> edges_between(np.array([0.0, 2.0, 6.0]))
        array([-1.,  1.,  4.,  8.])
    """
    at = np.log(places) if log else np.asarray(places, np.float64)
    between = (at[1:] + at[:-1]) / 2 if len(at) > 1 else at + 0.5
    edges = np.concatenate([[2 * at[0] - between[0]], between, [2 * at[-1] - between[-1]] if len(at) > 1 else []])
    return np.exp(edges) if log else edges


def short_names(layers: Sequence[str], length: int) -> list[str]:
    """Layer names for an axis: what is too long keeps its end, where layers differ.

    Example:
        >>> short_names(["fc.bias", "encoder.0.weight"], 9)
        ['fc.bias', '…0.weight']
    """
    return [name if len(name) <= length else f"…{name[1 - length :]}" for name in layers]
