"""A step size over time: what share of the steps ended where in each stretch of the run, and their middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.store import Column

REACH = 1.5  # the axis shows -REACH to REACH
ROWS = 30
EDGES = np.linspace(-REACH, REACH, ROWS + 1)
MOST_STRETCHES = 60
FEWEST = 12  # steps with a minimum in a stretch, if there are so many: fewer say nothing of quartiles


@dataclass(frozen=True)
class Strip:
    """Stretches of a run, in order.

    Args:
        places: Where they lie on the axis of time, the middle. Shape ``[n]``.
        edges: Their boundaries. Shape ``[n + 1]``.
        shares: Of the steps in a stretch that have a minimum ahead, how many ended in each row; what lies beyond the
            axis is in no row. NaN in a stretch without such a step. Shape ``[ROWS, n]``.
        quartiles: Lower quartile, median and upper quartile of these steps. Shape ``[3, n]``.
        steps: Their number. Shape ``[n]``.
    """

    places: NDArray[np.float64]
    edges: NDArray[np.float64]
    shares: NDArray[np.float64]
    quartiles: NDArray[np.float64]
    steps: NDArray[np.int64]


def strip_of(column: Column, fates: NDArray[np.str_], places: NDArray[Any], log_places: bool = False) -> Strip:
    """The strip of a column of normalised step sizes.

    Args:
        column: At least one point.
        fates: What became of each, see :func:`cockpit.drawing.positions.fates_of`; only those called ``minimum`` count.
        places: Where the points stand on the axis of time, increasing. Shape ``[n]``.
        log_places: Whether the axis of time is logarithmic; then they are positive.
    """
    at = np.log(places) if log_places else np.asarray(places, np.float64)
    counted = fates == "minimum"
    number = max(1, min(MOST_STRETCHES, int(counted.sum()) // FEWEST))
    edges = _boundaries(at, number)
    stretch = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, number - 1)
    values, stretch = column.values[counted].astype(np.float64), stretch[counted]
    steps = np.bincount(stretch, minlength=number)
    middles = (edges[1:] + edges[:-1]) / 2
    if log_places:
        middles, edges = np.exp(middles), np.exp(edges)
    return Strip(middles, edges, _shares(values, stretch, steps), _quartiles(values, stretch, steps), steps)


def _shares(values: NDArray[np.float64], stretch: NDArray[np.intp], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the values in each stretch, how many lie in each row. Shape ``[ROWS, n]``."""
    inside = (values >= EDGES[0]) & (values <= EDGES[-1])
    row = np.minimum(np.searchsorted(EDGES, values[inside], side="right") - 1, ROWS - 1)
    counts = np.bincount(row * len(steps) + stretch[inside], minlength=ROWS * len(steps)).reshape(ROWS, -1)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, steps, out=shares, where=steps > 0)
    return shares


def _quartiles(values: NDArray[np.float64], stretch: NDArray[np.intp], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the values in each stretch, between neighbours linearly. Shape ``[3, n]``."""
    quartiles, known = np.full((3, len(steps)), np.nan), steps > 0
    values = values[np.lexsort((values, stretch))]
    place = (np.cumsum(steps) - steps)[known] + np.array([[0.25], [0.5], [0.75]]) * (steps[known] - 1)
    below, above = values[np.floor(place).astype(np.intp)], values[np.ceil(place).astype(np.intp)]
    quartiles[:, known] = below + (above - below) * (place % 1)
    return quartiles


def _boundaries(at: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Of so many stretches of equal length; a single point gets some room."""
    first, last = float(at[0]), float(at[-1])
    if last <= first:
        first, last = first - 0.5, last + 0.5
    return np.linspace(first, last, number + 1)
