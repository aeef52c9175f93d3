"""The loops for GPUs, in Triton. Each program forms tiles of products in registers and counts them there.

Programs take turns at the tiles; each adds its own counts to the totals once, at its end. A count in a program has 32
bits, which is enough for 2³¹ elements to a program; totals have 64. What is not to be counted, a NaN or what a tile has
beyond the end, is given the number behind the last bin.

Almost all elements lie in the two bins around zero. These are told by three comparisons.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import triton
import triton.language as tl


@triton.jit
def _tile(first, second, tile, M, m, OUTER: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Products of a tile.

    Args:
        first: ``factors[n]``, or ``deltas[n, o]`` for outer products.
        second: ``rows[n, j]``, or ``inputs[n, i]``.
        tile: Its number: tiles go through columns, then rows, then samples.
        M: Number of rows: of samples, or of outputs.
        m: Number of columns.
        OUTER: Whether rows are outputs of one sample.
        HEIGHT: Rows of a tile.
        WIDTH: Columns of a tile.

    Returns:
        Rows ``[HEIGHT, 1]``, columns ``[1, WIDTH]``, products, and which of them exist.
    """
    across, down = tl.cdiv(m, WIDTH), tl.cdiv(M, HEIGHT)
    row = (((tile // across) % down) * HEIGHT + tl.arange(0, HEIGHT))[:, None].to(tl.int64)
    column = ((tile % across) * WIDTH + tl.arange(0, WIDTH))[None, :].to(tl.int64)
    inside = (row < M) & (column < m)
    if OUTER:
        n = tile // (across * down) + tl.zeros_like(row)
        left = tl.load(first + n * M + row, row < M, 0.0)
        right = tl.load(second + (tile // (across * down) + tl.zeros_like(column)) * m + column, column < m, 0.0)
    else:
        left = tl.load(first + row, row < M, 0.0)
        right = tl.load(second + row * m + column, inside, 0.0)
    return row, column, left * right, inside


@triton.jit
def _grid(edges, bins):
    """Where the first bin begins, and how many bins there are to a unit; the outermost edges are open ends."""
    first = tl.load(edges + 1)
    span = tl.where(bins > 2, tl.load(edges + bins - 1) - first, 1.0)  # two bins have no width of their own
    width = span / tl.maximum(bins - 2, 1)
    return first - width, 1.0 / width


@triton.jit
def _middle(x, inside, edges, left):
    """Which elements lie in the bin ``left``, and which in the one after it."""
    below, middle, above = tl.load(edges + left), tl.load(edges + left + 1), tl.load(edges + left + 2)
    return inside & (x >= below) & (x < middle), inside & (x >= middle) & (x < above)


@triton.jit
def _bin(x, inside, edges, bins, low, inverse_width):
    """Bins: guessed from the width, settled by comparison. Rounding puts the guess off by at most one."""
    counted = inside & (x == x)
    guess = (tl.where(counted, x, low) - low) * inverse_width
    b = tl.minimum(tl.maximum(guess, 0.0), bins - 1.0).to(tl.int32)
    b += (tl.load(edges + b + 1) <= x).to(tl.int32) - (tl.load(edges + b) > x).to(tl.int32)
    return tl.where(counted, b, bins)


@triton.jit
def _exponent_place(x, inside, lowest, bins):
    """Zero for a zero; one, two, … for the bins of exponents, of which there are ``bins``."""
    if x.dtype == tl.float32:
        field = (x.to(tl.int32, bitcast=True) >> 23) & 255
        exponent = field - 127
    else:
        wide = (x.to(tl.int64, bitcast=True) >> 52) & 2047
        exponent = wide.to(tl.int32) - 1023
    # What is subnormal lies below every range, infinity above.
    place = 1 + tl.minimum(tl.maximum(exponent - lowest, 0), bins - 1)
    return tl.where(inside & (x == x), tl.where(x == 0, 0, place), bins + 1)


@triton.jit
def _tally(places, SIZE: tl.constexpr, BINS: tl.constexpr):
    return tl.histogram(tl.reshape(places, [SIZE]), BINS)


@triton.jit
def _add(found, counts, size, BINS: tl.constexpr):
    """Adds a program's counts to the totals."""
    b = tl.arange(0, BINS)
    tl.atomic_add(counts + b, found.to(tl.int64), (b < size) & (found > 0))


@triton.jit(do_not_specialize=["M", "tiles", "bins", "left"])
def bins_of_products(
    first, second, edges, counts, M, m, tiles, bins, left,
    OUTER: tl.constexpr, BINS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Counts between open-ended edges; ``left`` and the bin after it are those around zero."""
    low, inverse_width = _grid(edges, bins)
    found = tl.zeros([BINS], tl.int32)
    lefts, rights = tl.zeros([HEIGHT, WIDTH], tl.int32), tl.zeros([HEIGHT, WIDTH], tl.int32)
    tile = tl.program_id(0)
    while tile < tiles:
        _, _, x, inside = _tile(first, second, tile, M, m, OUTER, HEIGHT, WIDTH)
        is_left, is_right = _middle(x, inside, edges, left)
        lefts += is_left.to(tl.int32)
        rights += is_right.to(tl.int32)
        others = inside & (x == x) & ((is_left | is_right) == 0)
        if tl.max(others.to(tl.int32)) > 0:
            found += _tally(_bin(x, others, edges, bins, low, inverse_width), HEIGHT * WIDTH, BINS)
        tile += tl.num_programs(0)
    b = tl.arange(0, BINS)
    found += tl.where(b == left, tl.sum(lefts), 0) + tl.where(b == left + 1, tl.sum(rights), 0)
    _add(found, counts, bins, BINS)


@triton.jit(do_not_specialize=["M", "tiles", "bins", "lowest"])
def exponents_of_products(
    first, second, counts, M, m, tiles, bins, lowest,
    OUTER: tl.constexpr, BINS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Zeros, and counts by exponent in ``bins`` bins, the first that of ``lowest``."""
    found = tl.zeros([BINS], tl.int32)
    tile = tl.program_id(0)
    while tile < tiles:
        _, _, x, inside = _tile(first, second, tile, M, m, OUTER, HEIGHT, WIDTH)
        found += _tally(_exponent_place(x, inside, lowest, bins), HEIGHT * WIDTH, BINS)
        tile += tl.num_programs(0)
    _add(found, counts, bins + 1, BINS)


@triton.jit(do_not_specialize=["M", "tiles", "bins", "left", "partners"])
def pairs_of_products(
    first, second, owners, edges, places, counts, M, m, tiles, bins, left, partners,
    OUTER: tl.constexpr, BINS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Counts between open-ended edges beside ``places[r, j]``, where ``r`` is the output, or the row's owner.

    The bins around zero are counted here, beside all others' places; elements in other bins one by one in the totals.
    """
    low, inverse_width = _grid(edges, bins)
    found = tl.zeros([BINS], tl.int32)
    tile = tl.program_id(0)
    while tile < tiles:
        row, column, x, inside = _tile(first, second, tile, M, m, OUTER, HEIGHT, WIDTH)
        own = row if OUTER else tl.load(owners + row, row < M, 0)
        place = tl.load(places + own * m + column, inside, 0)
        is_left, is_right = _middle(x, inside, edges, left)
        both = tl.where(is_left, place, tl.where(is_right, place + partners, 2 * partners))
        found += _tally(both, HEIGHT * WIDTH, BINS)
        others = inside & (x == x) & ((is_left | is_right) == 0)
        b = _bin(x, others, edges, bins, low, inverse_width)
        tl.atomic_add(counts + b * partners + place, tl.full([HEIGHT, WIDTH], 1, tl.int64), others)
        tile += tl.num_programs(0)
    _add(found, counts + left * partners, 2 * partners, BINS)


def cached(loop: Any) -> bool:
    """Whether an earlier process has left a compiled loop on disk, or none is needed: in Triton's interpreter."""
    if not isinstance(loop, triton.JITFunction):
        return True
    if hasattr(triton, "knobs"):
        place = Path(triton.knobs.cache.dir)
    else:  # before Triton 3.4
        place = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    return any(place.glob(f"*/{loop.fn.__name__}.json"))
