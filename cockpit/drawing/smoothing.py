"""The average that is drawn over a noisy curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPAN = 1 / 40  # of the curve: the points that carry most of the average's weight; fewer would not smooth,
SHORTEST = 3  # more would lag behind the steep beginning that many curves have
FEWEST = 20  # points below which a curve is shown as it is
TURNS = 0.3  # share of turning points from which a curve counts as noisy; white noise has two thirds
STILL = 0.1  # share of points at which a curve may change that stands still
WAY = 2.5  # and how many times its height it goes up and down on the whole


def is_noisy(values: NDArray[np.float64], log: bool = False) -> bool:
    """Whether a curve goes up and down so much that its average says more than its points.

    Args:
        values: NaN where there is no value. Shape ``[n]``.
        log: Whether it is drawn on a logarithmic axis.
    """
    if log:
        values = np.log(np.where(values > 0, values, np.nan))
    finite = values[np.isfinite(values)]
    if len(finite) < FEWEST:
        return False
    changes = np.diff(finite)
    turns = np.count_nonzero(changes[:-1] * changes[1:] < 0)
    return bool(turns > TURNS * (len(changes) - 1) and np.abs(changes).sum() > WAY * np.ptp(finite))


def stands_still(values: NDArray[np.float64]) -> bool:
    """Whether a curve changes at few of its points, as the steps of a schedule do: an average would blur them."""
    finite = values[np.isfinite(values)]
    return len(finite) < 2 or bool(np.count_nonzero(np.diff(finite)) < STILL * len(finite))


def moving_average(values: NDArray[np.float64], log: bool = False, past: float | None = None) -> NDArray[np.float64]:
    """Exponential moving average over points, unbiased from the first point on.

    Args:
        values: NaN where there is no value. Shape ``[n]``.
        log: Average the logarithms, for a logarithmic axis; values that have none count as gaps.
        past: Weight of the past, at least 0 and less than 1; by default what suits the curve's length.

    Returns:
        Shape ``[n]``; NaN exactly where a value is missing (or has no logarithm). A gap does not start anew.

    Example:
        >>> moving_average(np.array([2.0, np.nan, 2.0]))
        array([ 2., nan,  2.])
    """
    keep = 1 - 2 / (max(SHORTEST, SPAN * len(values)) + 1) if past is None else past
    if log:
        values = np.log(np.where(values > 0, values, np.nan))
    averages = np.full(len(values), np.nan)
    total = weight = 0.0
    for index, value in enumerate(values.tolist()):
        if value == value:  # NaN is a gap
            total = keep * total + (1 - keep) * value
            weight = keep * weight + (1 - keep)
            averages[index] = total / weight
    return np.exp(averages) if log else averages


def envelope(values: NDArray[np.float64], stretches: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Least and largest of a curve's values in each of so many stretches of equally many points.

    Args:
        values: NaN where there is no value. Shape ``[n]``, at least ``stretches``.
        stretches: How many.

    Returns:
        The middle point of each stretch, shape ``[stretches]``, and the extremes, shape ``[2, stretches]``; NaN in a
        stretch without a value.

    Example:
        >>> envelope(np.array([1.0, 3.0, 2.0, np.nan]), 2)[1]
        array([[1., 2.],
               [3., 2.]])
    """
    bounds = np.linspace(0, len(values), stretches + 1).astype(np.intp)
    known = np.isfinite(values)
    least = np.minimum.reduceat(np.where(known, values, np.inf), bounds[:-1])
    most = np.maximum.reduceat(np.where(known, values, -np.inf), bounds[:-1])
    extremes = np.stack([least, most])
    return (bounds[:-1] + bounds[1:] - 1) // 2, np.where(np.isfinite(extremes), extremes, np.nan)
