"""Counting elements of individual gradients by their binary exponent: the entry points, and their torch twins.

All variants give identical counts: the exponent is that of the product as it is rounded in the elements' precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cockpit.kernels import compiled, gpu
from cockpit.kernels.histogram import tally

LOWEST, HIGHEST = -64, 16
"""Range of ``log₂|x|``: from far below what float16 holds (2⁻²⁴) up to where it overflows (2¹⁶)."""
EDGES: NDArray[np.float64] = np.arange(LOWEST, HIGHEST + 1, dtype=np.float64)
"""Bin boundaries of ``log₂|x|``, one bin to an exponent; the end bins also hold what lies outside."""
_CHUNK = 1 << 24
"""Elements that the torch twins materialise at a time."""


def count_rows(rows: Tensor, factors: Tensor) -> Tensor:
    """Counts of the elements ``factors[n] · rows[n, j]`` by exponent; a NaN is counted nowhere.

    Args:
        rows: Shape ``[N, m]``.
        factors: Shape ``[N]``.

    Returns:
        How many are zero, then the counts between :data:`EDGES`; on the rows' device. Shape ``[1 + bins]``.
    """
    if compiled.usable(rows):
        return compiled.count_exponents(rows, factors.to(rows.dtype), LOWEST, HIGHEST)
    counts = gpu.count_exponents(rows, factors, LOWEST, HIGHEST)
    return count_rows_torch(rows, factors) if counts is None else counts


def count_outer(inputs: Tensor, deltas: Tensor) -> Tensor:
    """Counts of the elements ``deltas[n, o] · inputs[n, i]`` by exponent, without forming them.

    Args:
        inputs: Shape ``[N, I]``.
        deltas: Shape ``[N, O]``.

    Returns:
        As :func:`count_rows`.
    """
    if compiled.usable(inputs):
        return compiled.count_outer_exponents(inputs, deltas, LOWEST, HIGHEST)
    counts = gpu.count_outer_exponents(inputs, deltas, LOWEST, HIGHEST)
    return count_outer_torch(inputs, deltas) if counts is None else counts


def count_rows_torch(rows: Tensor, factors: Tensor) -> Tensor:
    """The plain version of :func:`count_rows`."""
    factors = factors.to(rows.dtype)
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    pieces = (rows[n : n + step] * factors[n : n + step].unsqueeze(1) for n in range(0, len(rows), step))
    return _counted(pieces, rows)


def count_outer_torch(inputs: Tensor, deltas: Tensor) -> Tensor:
    """The plain version of :func:`count_outer`."""
    step = max(1, _CHUNK // max(1, inputs.shape[1] * deltas.shape[1]))
    pieces = (
        deltas[n : n + step].unsqueeze(2) * inputs[n : n + step].unsqueeze(1) for n in range(0, len(inputs), step)
    )
    return _counted(pieces, inputs)


def _counted(pieces: Iterator[Tensor], like: Tensor) -> Tensor:
    bins = HIGHEST - LOWEST
    total = like.new_zeros(2 + bins, dtype=torch.int64)
    for piece in pieces:
        values = piece.flatten().to(torch.promote_types(piece.dtype, torch.float32))
        exponents = torch.frexp(values).exponent - 1  # its mantissa lies in [1/2, 1)
        places = torch.where(values.isinf(), HIGHEST, exponents).sub_(LOWEST).clamp_(0, bins - 1).add_(1)
        places = torch.where(values == 0, 0, torch.where(values.isnan(), 1 + bins, places))
        total += tally(places, 2 + bins)
    return total[:-1]
