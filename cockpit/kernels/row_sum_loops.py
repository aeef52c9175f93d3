"""The compiled loop behind :mod:`cockpit.kernels.row_sums`."""

from __future__ import annotations

import numpy as np
from numba import prange

from cockpit.kernels.loops import build, compile_loop

_BLOCK = 2048
"""Columns at a time: those of a row, of two directions and of the sums by column stay in the first cache together."""
_ANY_ORDER = {"reassoc", "contract"}
"""Terms may be added in several running sums, and products with them in one rounding. NaN and infinity stay."""


def _dot(left, right):  # type: ignore[no-untyped-def]
    """Inner product of two short lines, in their own precision."""
    total = left.dtype.type(0)
    for j in range(len(left)):
        total += left[j] * right[j]
    return total


def _two_dots(line, first, second):  # type: ignore[no-untyped-def]
    """Inner products of one short line with two others."""
    one, other = line.dtype.type(0), line.dtype.type(0)
    for j in range(len(line)):
        one += line[j] * first[j]
        other += line[j] * second[j]
    return one, other


def _add_squares(line, coefficient, sums):  # type: ignore[no-untyped-def]
    """Adds ``c x_j²`` to the sums; the sum of the squares without ``c`` is returned."""
    total = line.dtype.type(0)
    for j in range(len(line)):
        square = line[j] * line[j]
        total += square
        sums[j] += coefficient * square
    return total


def _row_sums(rows, first, second, coefficients, squares):  # type: ignore[no-untyped-def]
    """Norms, inner products and sums by column of one block of columns after the other.

    Args:
        rows: Shape ``[n, m]``.
        first: A direction, shape ``[m]``; ``[0]`` if there is none.
        second: Another, likewise; none without the first.
        coefficients: Of the rows in the sums by column. Shape ``[n]``; ``[0]`` if nobody wants these.
        squares: The sums by column. Shape ``[m]``; ``[0]``, likewise.

    Returns:
        Squared norms, and inner products with both directions, by block. Shape ``[blocks, 3, n]``.
    """
    n, m = rows.shape
    blocks = (m + _BLOCK - 1) // _BLOCK
    found = np.zeros((blocks, 3, n))
    for block in prange(blocks):
        begin, end = block * _BLOCK, min(m, (block + 1) * _BLOCK)
        for i in range(n):
            line = rows[i, begin:end]
            if len(coefficients):
                found[block, 0, i] = add_squares(line, coefficients[i], squares[begin:end])
            else:
                found[block, 0, i] = dot(line, line)
            if len(second):
                both = two_dots(line, first[begin:end], second[begin:end])
                found[block, 1, i], found[block, 2, i] = both
            elif len(first):
                found[block, 1, i] = dot(line, first[begin:end])
    return found


dot, two_dots = compile_loop(_dot, fastmath=_ANY_ORDER), compile_loop(_two_dots, fastmath=_ANY_ORDER)
add_squares = compile_loop(_add_squares, fastmath=_ANY_ORDER)
row_sums_serial, row_sums_parallel = build(_row_sums)
