"""Sums over materialised individual gradients that one pass over the rows gives together: the entry point, and its
torch twin.

Rows are read from memory, and there are many of them: a pass for each sum would cost as much as forming the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cockpit.kernels import compiled

_LONG = 1 << 16
"""Terms of a sum in the rows' own precision; pieces are added in float64."""


@dataclass(frozen=True)
class Squares:
    """A sum of squares for every column, added to what is there.

    Args:
        coefficients: ``c``, one for each row. Shape ``[n]``.
        sums: Takes ``Σ_n c_n r_nj²``. Contiguous, of the rows' dtype, shape ``[m]``.
    """

    coefficients: Tensor
    sums: Tensor


def row_sums(rows: Tensor, directions: Sequence[Tensor], squares: Sequence[Squares]) -> tuple[Tensor, list[Tensor]]:
    """Squared norms of rows and their inner products with directions; sums of squares by column besides.

    Args:
        rows: Shape ``[n, m]``, contiguous.
        directions: Vectors of the rows' dtype, shape ``[m]``.
        squares: Sums by column that the rows are added to.

    Returns:
        ``‖r_n‖²``, and ``⟨r_n, v⟩`` for each direction; float64, shape ``[n]``.
    """
    if not (compiled.usable(rows) and rows.is_contiguous()):
        return row_sums_torch(rows, directions, squares)
    nothing = rows.new_empty(0)
    found: list[Tensor] = []
    for k in range(max(1, math.ceil(len(directions) / 2), len(squares))):  # a pass takes two directions and one column
        pair = directions[2 * k : 2 * k + 2]
        first, second = [*pair, nothing, nothing][:2]
        column = squares[k] if k < len(squares) else Squares(nothing, nothing)
        sq_norms, *dots = compiled.row_sums(rows, first, second, column.coefficients.to(rows.dtype), column.sums)
        found += dots[: len(pair)]
    return sq_norms, found


def row_sums_torch(
    rows: Tensor, directions: Sequence[Tensor], squares: Sequence[Squares]
) -> tuple[Tensor, list[Tensor]]:
    """The plain version of :func:`row_sums`."""
    for column in squares:
        _add_squares(rows, column)
    return row_sq_norms(rows), [(rows @ direction).double() for direction in directions]


def row_sq_norms(rows: Tensor) -> Tensor:
    """Squared norms of rows, shape ``[n, m] -> [n]``, in float64 from sums that do not lose digits to length."""
    n, m = rows.shape
    # A norm in half precision has three digits, and may be too large for it.
    dtype = torch.float32 if rows.dtype in (torch.float16, torch.bfloat16) else None
    if m <= 2 * _LONG:
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=dtype)
        return norms.double().square()
    # One long running sum in float32 drifts (1e-4 at three million terms): sum pieces, then the pieces in float64.
    pieces = (torch.linalg.vector_norm(p, dim=1, dtype=dtype) for p in rows.split(_LONG, dim=1))
    return sum((piece.double().square() for piece in pieces), rows.new_zeros(n, dtype=torch.float64))


def _add_squares(rows: Tensor, column: Squares) -> None:
    if rows.device.type == "cpu" and rows.shape[1] > 1 << 12:
        # A fresh tensor of the rows' size costs ten times the arithmetic in page faults.
        for row, coefficient in zip(rows, column.coefficients.tolist(), strict=True):
            column.sums.addcmul_(row, row, value=coefficient)
    else:
        column.sums.add_(column.coefficients.to(rows) @ rows.square())
