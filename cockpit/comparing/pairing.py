"""Readings of one quantity in two runs, beside each other at the steps that both have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Readings of one quantity in one run; those that are missing are left out.

    Args:
        steps: Increasing. Shape ``[n]``.
        values: NaN and infinities are readings as well. Shape ``[n]``.
    """

    steps: NDArray[np.int64]
    values: Floats


@dataclass(frozen=True)
class Pairs:
    """Readings of both runs at the same steps; ``broken`` where one of them only is not finite. Shapes ``[n]``.

    They are as they were read, unless some had to be interpolated.
    """

    steps: NDArray[np.int64]
    a: Floats
    b: Floats
    broken: NDArray[np.bool_]
    as_read: bool = True

    def __len__(self) -> int:
        return len(self.steps)


def pair(a: Points, b: Points) -> Pairs:
    """Readings of both runs that are each other's nearest; between differing steps, both are interpolated half way."""
    if len(a.steps) == 0 or len(b.steps) == 0:
        return Pairs(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, bool))
    of_a = np.arange(len(a.steps))
    of_b = _nearest(a.steps, b.steps)
    mutual = _nearest(b.steps, a.steps)[of_b] == of_a
    mutual &= np.abs(a.steps - b.steps[of_b]) <= max(_spacing(a.steps), _spacing(b.steps)) / 2
    of_a, of_b = of_a[mutual], of_b[mutual]
    steps = np.maximum(a.steps[of_a], b.steps[of_b])
    middle = (a.steps[of_a] + b.steps[of_b]) / 2
    values = [_at(points, which, middle) for points, which in ((a, of_a), (b, of_b))]
    sorts = [_sort(found) for found in values]
    kept = (sorts[0] == 0) | (sorts[0] != sorts[1])  # where both are NaN there is nothing to compare
    broken = sorts[0] != sorts[1]
    as_read = bool((a.steps[of_a] == b.steps[of_b]).all())
    return Pairs(steps[kept], values[0][kept], values[1][kept], broken[kept], as_read)


def _nearest(of: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.intp]:
    """For each step the position of the nearest one, the earlier of two that are as near."""
    right = np.clip(np.searchsorted(among, of), 1, max(1, len(among) - 1))
    right = np.minimum(right, len(among) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(of - among[left] <= among[right] - of, left, right)


def _spacing(steps: NDArray[np.int64]) -> float:
    return float(np.median(np.diff(steps))) if len(steps) > 1 else 0.0


def _at(points: Points, which: NDArray[np.intp], middle: Floats) -> Floats:
    """The chosen readings, where they are finite at the steps half way to those of the other run."""
    values = points.values[which]
    finite = np.isfinite(points.values)
    between = np.isfinite(values) & (middle != points.steps[which])
    if between.any():
        values[between] = np.interp(middle[between], points.steps[finite], points.values[finite])
    return values


def _sort(values: Floats) -> NDArray[np.int8]:
    """0 for finite values, else one number for NaN and each infinity."""
    return np.select([np.isnan(values), values == np.inf, values == -np.inf], [1, 2, 3], 0).astype(np.int8)
