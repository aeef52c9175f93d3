"""Medians; histograms over time: their quantiles, and one axis for bins that changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of the numbers in each column, quickly.

    Args:
        values: NaN where there is none. Shape ``[n, columns]``.

    Returns:
        Shape ``[columns]``; NaN for a column without numbers.

    Example:
        >>> medians(np.array([[1.0, np.nan], [5.0, np.nan], [2.0, np.nan]])).tolist()
        [2.0, nan]
    """
    counts = (~np.isnan(values)).sum(0)
    found = np.full(values.shape[1], np.nan)
    some = np.flatnonzero(counts)
    ordered, counts = np.sort(values[:, some], axis=0), counts[some]  # NaN comes last
    places = np.arange(len(some))
    with np.errstate(invalid="ignore"):  # minus infinity and infinity have no middle
        found[some] = (ordered[(counts - 1) // 2, places] + ordered[counts // 2, places]) / 2
    return found


def quantiles(counts: NDArray[np.int64], edges: NDArray[np.float64], shares: Sequence[float]) -> NDArray[np.float64]:
    """Values below which the given shares of the elements lie, as if those of a bin were spread evenly over it.

    Args:
        counts: Shape ``[..., bins]``.
        edges: Bin boundaries. Shape ``[bins + 1]``, or ``[..., bins + 1]``.
        shares: Between 0 and 1.

    Returns:
        Shape ``[..., len(shares)]``; NaN where there are no elements.

    Example:
        >>> quantiles(np.array([2, 2]), np.array([0.0, 1.0, 2.0]), (0.25, 0.5)).tolist()
        [0.5, 1.0]
    """
    lead, bins = counts.shape[:-1], counts.shape[-1]
    rows = counts.reshape(-1, bins).astype(np.float64)
    bounds = np.broadcast_to(edges, (*lead, bins + 1)).reshape(-1, bins + 1)
    up_to = rows.cumsum(1)
    found = np.full((len(rows), len(shares)), np.nan)
    filled = np.flatnonzero(up_to[:, -1] > 0) if bins else np.zeros(0, np.intp)
    for place, share in enumerate(shares):
        wanted = share * up_to[filled, -1]
        own = np.minimum((up_to[filled] < wanted[:, None]).sum(1), bins - 1)
        own = np.where(rows[filled, own] > 0, own, (rows[filled] > 0).argmax(1))  # share 0: the first bin
        within = (wanted - (up_to[filled, own] - rows[filled, own])) / rows[filled, own]
        low, high = bounds[filled, own], bounds[filled, own + 1]
        found[filled, place] = low + np.clip(within, 0, 1) * (high - low)
    return found.reshape(*lead, len(shares))


def on_one_axis(
    counts: NDArray[np.int64], edges: NDArray[np.float64], least: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Histograms of the same bins at every step, each over its fullest bin.

    Args:
        counts: Shape ``[n, bins]``.
        edges: Shape ``[bins + 1]``; or ``[n, bins + 1]`` where they changed: each bin's elements are then shared out
            evenly over as many bins between the lowest and the highest boundary. Rows of NaN have no bins.
        least: Bins at either end that never hold more than this share of the fullest one are left out.

    Returns:
        Shares of the fullest bin, NaN where a bin is empty, shape ``[n, some bins]``; and the bins' boundaries.
    """
    if edges.ndim == 1:
        shared, grid = counts.astype(np.float64), edges
    else:
        shared, grid = _shared_out(counts, edges)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(shared > 0, shared / shared.max(1, keepdims=True), np.nan)
    used = np.flatnonzero((np.nan_to_num(shares) > least).any(0))
    if not len(used):
        return shares, grid
    first, last = int(used[0]), int(used[-1])
    return shares[:, first : last + 1], grid[first : last + 2]


def _shared_out(
    counts: NDArray[np.int64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts of bins that changed, in bins that do not."""
    known = np.isfinite(edges).all(1)
    shared = np.zeros(counts.shape)
    if not known.any():
        return shared, np.linspace(0, 1, counts.shape[1] + 1)
    grid = np.linspace(edges[known].min(), edges[known].max(), counts.shape[1] + 1)
    for row in np.flatnonzero(known):
        below = np.concatenate([[0], counts[row].cumsum()])
        shared[row] = np.diff(np.interp(grid, edges[row], below))
    return shared, grid
