"""The compiled loop over a module's output: sums, zeros, and which units are alive, in one pass."""

from __future__ import annotations

import numpy as np

from cockpit.kernels.loops import compile_loop

_BLOCK = 1024


def _activity(lines, by_line, alive):  # type: ignore[no-untyped-def]
    """Sum, sum of squares, zeros and what is not finite, in a row of one.

    Args:
        lines: Shape ``[N, C, K]``.
        by_line: Whether units lie along ``C``; else along ``K``.
        alive: Marked where a unit is other than zero. Shape ``[C]`` or ``[K]``.
    """
    sums = np.zeros((1, 4), np.float64)
    N, C, K = lines.shape
    for n in range(N):
        for c in range(C):
            for start in range(0, K, _BLOCK):
                block = lines[n, c, start : start + _BLOCK]
                total, squares, zeros = block_sums(block)
                if not np.isfinite(squares):  # also where only the squares are too large
                    total, squares, broken = careful_sums(block)
                    sums[0, 3] += broken
                sums[0, 0] += total
                sums[0, 1] += squares
                sums[0, 2] += zeros
                if zeros == len(block):
                    continue
                if by_line:
                    alive[c] = True
                else:
                    for k in range(len(block)):
                        alive[start + k] |= block[k] != 0
    return sums


def _block_sums(block):  # type: ignore[no-untyped-def]
    """In the numbers' own precision, in any order: a block is too short to lose digits."""
    total = block.dtype.type(0)
    squares = block.dtype.type(0)
    zeros = np.int32(0)
    for k in range(len(block)):
        x = block[k]
        total += x
        squares += x * x
        zeros += np.int32(x == 0)
    return np.float64(total), np.float64(squares), zeros


def _careful_sums(block):  # type: ignore[no-untyped-def]
    """Sum, sum of squares, and how many elements are not finite."""
    total = 0.0
    squares = 0.0
    broken = 0
    for k in range(len(block)):
        x = np.float64(block[k])
        total += x
        squares += x * x
        broken += not np.isfinite(x)
    return total, squares, broken


block_sums = compile_loop(_block_sums, fastmath={"reassoc", "contract"})  # vector registers; NaN stays NaN
careful_sums = compile_loop(_careful_sums)
activity_serial = activity_parallel = compile_loop(_activity)  # as fast as memory is on one core
