"""The average that is drawn over a noisy curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPAN = 1 / 40  # of the curve: the points that carry most of the average's weight; fewer would not smooth,
SHORTEST = 3  # more would lag behind the steep beginning that many curves have
FEWEST = 20  # points below which a curve is shown as it is
TURNS = 0.3  # share of turning points from which a curve counts as noisy; white noise has two thirds
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


def moving_average(values: NDArray[np.float64], log: bool = False) -> NDArray[np.float64]:
    """Exponential moving average over points, unbiased from the first point on.

    Args:
        values: NaN where there is no value. Shape ``[n]``.
        log: Average the logarithms, for a logarithmic axis; values that have none count as gaps.

    Returns:
        Shape ``[n]``; NaN exactly where a value is missing (or has no logarithm). A gap does not start anew.

    Example:
        >>> moving_average(np.array([2.0, np.nan, 2.0]))
        array([ 2., nan,  2.])
    """
    keep = 1 - 2 / (max(SHORTEST, SPAN * len(values)) + 1)
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
