"""Points of a series as arrays, wherever in the log they stood."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.store.schema import FINITE, MINUS_INF, PLUS_INF

_TYPES = {
    "ids": np.int64, "steps": np.int64, "times": np.float64, "values": np.float64, "flags": np.int8,
    "layouts": np.int64, "chunks": np.int64,
}  # fmt: skip


@dataclass(frozen=True)
class Points:
    """Points of one series, histograms and vectors without their payloads. All arrays have shape ``[n]``.

    Args:
        ids: Their numbers.
        steps: Their steps.
        times: Seconds since the run began.
        values: Numbers, infinities among them; NaN where the flag says so, where missing, and of vectors.
        flags: What the values are, see :mod:`cockpit.store.schema`.
        layouts: Numbers of their layouts, 0 for none.
        chunks: Numbers of the chunks that they stand in, 0 for rows.
    """

    ids: NDArray[np.int64]
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    flags: NDArray[np.int8]
    layouts: NDArray[np.int64]
    chunks: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, kept: Any) -> Points:
        """Those at the positions, or within the mask, ``kept``."""
        return Points(*(getattr(self, name)[kept] for name in _TYPES))

    def in_order(self) -> Points:
        """By step; where a step was logged twice, the later point alone."""
        if len(self) < 2 or bool((self.steps[1:] > self.steps[:-1]).all()):
            return self
        ordered = self[np.lexsort((self.ids, self.steps))]
        return ordered[np.append(ordered.steps[1:] != ordered.steps[:-1], True)]


def from_rows(blocks: Iterable[Sequence[Sequence[Any]]]) -> Points:
    """From blocks of rows ``(id, step, time, value, flag, layout)``."""
    parts = [_arrays(rows) for rows in blocks] or [_arrays([])]
    ids, steps, times, values, flags, layouts = (np.concatenate(part) for part in zip(*parts, strict=True))
    values[flags == PLUS_INF] = np.inf
    values[flags == MINUS_INF] = -np.inf
    values[(flags != FINITE) & np.isfinite(values)] = np.nan
    return Points(ids, steps, times, values, flags, layouts, np.zeros(len(ids), np.int64))


def _arrays(rows: Sequence[Sequence[Any]]) -> list[NDArray[Any]]:
    kinds = list(_TYPES.values())[:6]
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    columns[5] = [layout or 0 for layout in columns[5]]
    return [np.array(entries, kind) for entries, kind in zip(columns, kinds, strict=True)]  # NULL becomes NaN


def joined(parts: Sequence[Points]) -> Points:
    """One after the other; at least one."""
    if len(parts) == 1:
        return parts[0]
    return Points(*(np.concatenate([getattr(part, name) for part in parts]) for name in _TYPES))
