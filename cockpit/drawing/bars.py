"""A histogram as it stood at one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import row_at
from cockpit.drawing.words import number, share
from cockpit.store import Column


@dataclass(frozen=True)
class Bars:
    """One histogram, as logged under ``key`` at ``step``. Counts: shape ``[bins]``; edges: ``[bins + 1]``."""

    key: str
    step: int
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


def bars_at(column: Column | None, step: int | None) -> Bars | None:
    """The last histogram of ``column`` at or before ``step``; ``None`` where there is none or it is missing."""
    row = None if column is None else row_at(column, step)
    if column is None or row is None or column.missing[row] or column.edges is None:
        return None
    edges = column.edges if column.edges.ndim == 1 else column.edges[row]
    bins = len(edges) - 1 - int(np.count_nonzero(np.diff(edges) == 0))  # bins of no width only fill up the array
    return Bars(column.key, int(column.steps[row]), column.values[row][:bins], edges[: bins + 1])


def words_of(bars: Bars) -> str:
    """Its step, its total, and how much of it lies in the end bins."""
    total = int(bars.counts.sum())
    said = f"Step {bars.step:,}: {total:,} elements"
    if total == 0:
        return said
    clipped = int(bars.counts[0] + bars.counts[-1])
    ends = f"[{number(float(bars.edges[0]))}, {number(float(bars.edges[-1]))}]"
    return f"{said}, {share(clipped, total)} of them in the end bins (clipped to {ends})"
