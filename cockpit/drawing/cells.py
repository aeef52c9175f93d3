"""A layer-wise number over a run: cells, layers above each other, stretches of steps beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.stretches import Stretched
from cockpit.drawing.timeline import Timeline
from cockpit.store import Column

AT = ".at"  # of a scene's columns: the reading at the selected step alone
MOST_COLUMNS = 300
MOST_CELLS = 15_000  # what a page may be sent every second


@dataclass(frozen=True)
class Cells:
    """What is drawn.

    Args:
        layers: Names of the rows, in the model's order.
        edges: Boundaries of the columns on the axis of time. Shape ``[n + 1]``.
        begins: Where the first reading of each column stands. Shape ``[n]``.
        values: NaN where nothing has a colour. Shape ``[L, n]``.
        broken: Where NaN or an infinity was logged. Shape ``[L, n]``.
        hidden: How many cells hold readings that have no logarithm; 0 where none is drawn.
    """

    layers: tuple[str, ...]
    edges: NDArray[np.float64]
    begins: NDArray[np.float64] | NDArray[np.int64]
    values: NDArray[np.float64]
    broken: NDArray[np.bool_]
    hidden: int


def columns_for(layers: int) -> int:
    """How many columns so many layers leave room for."""
    return max(40, min(MOST_COLUMNS, MOST_CELLS // max(1, layers)))


def cells_of(column: Column, timeline: Timeline, log: bool) -> Cells:
    """The cells of a layer-wise column.

    Args:
        column: At least one point, each a reading or a stretch of readings.
        timeline: The axis of time.
        log: Whether the values are drawn by their logarithm, which those have none that are not positive.
    """
    values = column.values.astype(np.float64).T
    known = ~column.missing.T
    broken = known & ~np.isfinite(values)
    below = known & (values <= 0)
    ends = timeline.of(column)
    begins = ends
    if isinstance(column, Stretched):
        begins, below = timeline.placed(column.begins, column.begin_times), column.hidden.T
    drawn = known & ~broken & ((values > 0) | (not log))
    edges = edges_around(begins, ends, timeline.logarithmic)
    hidden = int(np.count_nonzero(below)) if log else 0
    return Cells(column.layers, edges, begins, np.where(drawn, values, np.nan), broken, hidden)


def edges_around(begins: NDArray[Any], ends: NDArray[Any], log: bool = False) -> NDArray[np.float64]:
    """Boundaries halfway between neighbouring stretches; the outer ones as far out as the next ones are in.

    Args:
        begins: Where stretches begin. Shape ``[n]``, at least one.
        ends: Where they end, before the next one begins. Shape ``[n]``.
        log: Whether they stand on a logarithmic axis; then they are positive.

    Returns:
        Shape ``[n + 1]``, increasing.

    Example:
        >>> places = np.array([0.0, 2.0, 6.0])
        >>> edges_around(places, places)
        array([-1.,  1.,  4.,  8.])
        >>> edges_around(np.array([0.0, 3.0]), np.array([2.0, 5.0]))
        array([-0.5,  2.5,  5.5])
    """
    begin, end = (np.log(places) if log else np.asarray(places, np.float64) for places in (begins, ends))
    if len(end) == 1:
        edges = np.array([begin[0] - 0.5, end[0] + 0.5])
    else:
        between = (end[:-1] + begin[1:]) / 2
        edges = np.concatenate([[begin[0] + end[0] - between[0]], between, [begin[-1] + end[-1] - between[-1]]])
    return np.exp(edges) if log else edges


def short_names(layers: Sequence[str], length: int) -> list[str]:
    """Layer names for an axis: what is too long is cut in the middle, or where it looks like fewer others.

    Args:
        layers: The names.
        length: Characters that have room; at least 1.

    Example:
        >>> short_names(["fc.bias", "encoder.0.weight"], 9)
        ['fc.bias', 'enco…ight']
        >>> short_names(["blocks.0.narrow.weight", "blocks.1.narrow.weight"], 11)
        ['blocks.0…ht', 'blocks.1…ht']
    """
    long = [name for name in dict.fromkeys(layers) if len(name) > length]
    heads = sorted(range(length), key=lambda head: abs(2 * head - (length - 1)))
    alike = Counter(_cut(name, head, length) for name in long for head in heads)  # the ellipsis tells the head
    short = {name: min((_cut(name, head, length) for head in heads), key=alike.__getitem__) for name in long}
    return [short.get(name, name) for name in layers]


def _cut(name: str, head: int, length: int) -> str:
    """``length`` characters of a name that has more, the first ``head`` among them."""
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"
