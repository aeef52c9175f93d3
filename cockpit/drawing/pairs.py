"""A histogram of pairs as it stood at one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import row_at
from cockpit.drawing.words import number, share
from cockpit.reading import Histogram2d
from cockpit.store import Column


@dataclass(frozen=True)
class Pairs:
    """One histogram of pairs, as logged under ``key`` at ``step``."""

    key: str
    step: int
    histogram: Histogram2d


def pairs_at(column: Column | None, step: int | None) -> Pairs | None:
    """The last histogram of ``column`` at or before ``step``; ``None`` where there is none or it is missing."""
    row = None if column is None else row_at(column, step)
    if column is None or row is None or column.missing[row] or column.edges is None or column.y_edges is None:
        return None
    x, y = (_own(edges if edges.ndim == 1 else edges[row]) for edges in (column.edges, column.y_edges))
    counts = column.values[row][: len(x) - 1, : len(y) - 1].astype(np.int64)
    return Pairs(column.key, int(column.steps[row]), Histogram2d(counts, x, y))


def _own(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the bins of no width that only fill up the array."""
    return edges[: int(np.count_nonzero(np.diff(edges) > 0)) + 1]


def words_of_pairs(pairs: Pairs, samples: float | None = None) -> str:
    """Its step, its total, and how much of it lies in the end bins of either axis.

    Args:
        pairs: The histogram.
        samples: From how many samples, where not all were looked at.
    """
    counts = pairs.histogram.counts
    total = int(counts.sum())
    part = "" if samples is None else f" of {samples:,.0f} samples"
    said = f"Step {pairs.step:,}: {total:,} pairs{part}"
    if total == 0:
        return said
    inside = int(counts[1:-1, 1:-1].sum())
    ends = " × ".join(map(_ends, (pairs.histogram.x_edges, pairs.histogram.y_edges)))
    return f"{said}, {share(total - inside, total)} of them in bins at the edge (clipped to {ends})"


def _ends(edges: NDArray[np.float64]) -> str:
    return f"[{number(float(edges[0]))}, {number(float(edges[-1]))}]"
