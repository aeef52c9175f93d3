"""Counting elements of individual gradients into bins: the entry points, and their torch twins.

All variants give identical counts: a value's bin is decided by comparing it with the edges, in the value's own
precision, never by arithmetic on a bin width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpit.kernels import compiled, gpu

_CHUNK = 1 << 24
"""Elements that the torch twins materialise at a time."""


@dataclass(frozen=True)
class Edges:
    """Boundaries of equal bins. Bin ``b`` holds ``edges[b] <= x < edges[b+1]``; the end bins also what lies outside.

    Args:
        values: Increasing and equally spaced, shape ``[bins + 1]``.
    """

    values: NDArray[np.float64]
    _tensors: dict[tuple[int, torch.dtype, torch.device], Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def uniform(cls, low: float, high: float, bins: int) -> Edges:
        """Equal bins from ``low`` to ``high``.

        Raises:
            ValueError: For an empty range, or fewer than two bins.
        """
        if not low < high or bins < 2:
            raise ValueError(f"a histogram needs low < high and at least 2 bins, got [{low}, {high}] in {bins}")
        return cls(np.linspace(low, high, bins + 1))

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.values) - 1

    def inner(self, like: Tensor) -> Tensor:
        """The boundaries between bins, in a tensor's precision and place. Shape ``[bins - 1]``."""
        return self._beside(self.values[1:-1], like)

    def open_ended(self, like: Tensor) -> Tensor:
        """The same, after an edge that nothing lies below and before one that nothing reaches. Shape ``[bins + 1]``."""
        # No comparison with NaN holds, not even that of infinity.
        return self._beside(np.concatenate([[-np.inf], self.values[1:-1], [np.nan]]), like)

    def _beside(self, values: NDArray[np.float64], like: Tensor) -> Tensor:
        """Numbers in a tensor's precision and place, brought there once and without waiting for the device."""
        key = len(values), like.dtype, like.device
        if key not in self._tensors:
            self._tensors[key] = torch.as_tensor(values).to(like.dtype).to(like.device, non_blocking=True)
        return self._tensors[key]

    def told_apart(self, dtype: torch.dtype) -> bool:
        """Whether bins are wide enough for a bin to be worked out from the width, in a precision."""
        info = torch.finfo(dtype)
        width = (self.values[-1] - self.values[0]) / self.bins
        return bool(width > 32 * max(info.eps * np.abs(self.values).max(), info.tiny))

    def places(self, values: Tensor) -> Tensor:
        """The bin of every value; that after the last for a NaN, which is in no bin."""
        bins = torch.bucketize(values, self.inner(values), right=True, out_int32=True)
        return bins.masked_fill_(values.isnan(), self.bins)

    def bin_of(self, value: float) -> int:
        """The bin of one value."""
        return int(np.searchsorted(self.values[1:-1], value, side="right"))

    @property
    def around_zero(self) -> int:
        """The first of the two bins around zero, in which almost all elements lie: zero's own, and that below it."""
        return min(max(self.bin_of(0.0) - 1, 0), self.bins - 2)


def count_rows(rows: Tensor, factors: Tensor, edges: Edges) -> Tensor:
    """Counts of the elements ``factors[n] · rows[n, j]``; a NaN is counted nowhere.

    Args:
        rows: Shape ``[N, m]``.
        factors: Shape ``[N]``.
        edges: Bins.

    Returns:
        Counts, int64, shape ``[bins]``, where the elements are: nothing is copied to the host.
    """
    if compiled.usable(rows) and edges.told_apart(rows.dtype):
        return compiled.count_rows(rows, factors.to(rows.dtype), edges.open_ended(rows))
    counts = gpu.count_rows(rows, factors, edges)
    return count_rows_torch(rows, factors, edges) if counts is None else counts


def count_outer(inputs: Tensor, deltas: Tensor, edges: Edges) -> Tensor:
    """Counts of the elements ``deltas[n, o] · inputs[n, i]``, without forming them; a NaN is counted nowhere.

    Args:
        inputs: Shape ``[N, I]``.
        deltas: Shape ``[N, O]``.
        edges: Bins.

    Returns:
        Counts, int64, shape ``[bins]``, where the elements are: nothing is copied to the host.
    """
    if compiled.usable(inputs) and edges.told_apart(inputs.dtype):
        return compiled.count_outer(inputs, deltas, edges.open_ended(inputs))
    counts = gpu.count_outer(inputs, deltas, edges)
    return count_outer_torch(inputs, deltas, edges) if counts is None else counts


def count_rows_torch(rows: Tensor, factors: Tensor, edges: Edges) -> Tensor:
    """The plain version of :func:`count_rows`."""
    return _counted((piece for _, piece in row_pieces(rows, factors)), edges, rows)


def count_outer_torch(inputs: Tensor, deltas: Tensor, edges: Edges) -> Tensor:
    """The plain version of :func:`count_outer`."""
    return _counted(outer_pieces(inputs, deltas), edges, inputs)


def row_pieces(rows: Tensor, factors: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Scaled rows, a few at a time: the first one's index, and the elements, shape ``[n, m]``."""
    factors = factors.to(rows.dtype)
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    for n in range(0, len(rows), step):
        yield n, rows[n : n + step] * factors[n : n + step].unsqueeze(1)


def outer_pieces(inputs: Tensor, deltas: Tensor) -> Iterator[Tensor]:
    """Outer products, a few samples at a time, shape ``[n, O, I]``."""
    step = max(1, _CHUNK // max(1, inputs.shape[1] * deltas.shape[1]))
    for n in range(0, len(inputs), step):
        yield deltas[n : n + step].unsqueeze(2) * inputs[n : n + step].unsqueeze(1)


def tally(bins: Tensor, size: int) -> Tensor:
    """How often each number below ``size`` occurs. Shape ``[size]``."""
    if bins.device.type == "cpu":
        return torch.bincount(bins, minlength=size)
    # Elsewhere bincount waits for the device, to see which number is the largest.
    bins = bins.long()
    return bins.new_zeros(size).scatter_add_(0, bins, torch.ones_like(bins))


def _counted(pieces: Iterable[Tensor], edges: Edges, like: Tensor) -> Tensor:
    total = like.new_zeros(edges.bins + 1, dtype=torch.int64)
    for piece in pieces:
        total += tally(edges.places(piece.flatten()), edges.bins + 1)
    return total[:-1]
