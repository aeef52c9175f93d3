"""A histogram as it stood at one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpit.drawing.columns import row_at, value_at
from cockpit.drawing.words import number, share
from cockpit.store import Column

SAMPLES = ".samples"  # the scalar that says how many samples a histogram was made from, where not all


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


def samples_at(columns: Mapping[str, Column], key: str, step: int) -> float | None:
    """How many samples the histogram ``key`` was made from at a step; ``None`` where it was made from all."""
    return value_at(columns.get(key + SAMPLES), step)


def words_of(bars: Bars, samples: float | None = None) -> str:
    """Its step, its total, and how much of it lies in the end bins.

    Args:
        bars: The histogram.
        samples: From how many samples, where not all were looked at.
    """
    total = int(bars.counts.sum())
    part = "" if samples is None else f" of {samples:,.0f} samples"
    said = f"Step {bars.step:,}: {total:,} elements{part}"
    if total == 0:
        return said
    clipped = int(bars.counts[0] + bars.counts[-1])
    ends = f"[{number(float(bars.edges[0]))}, {number(float(bars.edges[-1]))}]"
    return f"{said}, {share(clipped, total)} of them in the end bins (clipped to {ends})"
