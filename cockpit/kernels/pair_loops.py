"""The compiled loops that count pairs: an element's bin, and the bin of the number it belongs to, which is given.

Almost all elements of a parameter's gradients lie in one or two bins. These are counted wholesale, and only the other
elements are looked at one by one.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from cockpit.kernels.loops import bin_of, build, compile_loop, grid

_BLOCK = 256
"""Elements of one sample that are looked at together: where all lie in the two middle bins, none is looked up."""
_GROUPS = 64
"""Pieces of work, each with counts of its own."""


def _places(values, edges, places):  # type: ignore[no-untyped-def]
    """The bin of every value; that after the last for a NaN."""
    low, inverse_width = grid(edges)
    for j in prange(len(values)):
        x = values[j]
        places[j] = bin_of(x, edges, low, inverse_width) if x == x else len(edges) - 1
    return places


def _pair_line(factor, line, edges, places, counts, bins):  # type: ignore[no-untyped-def]
    """Counts ``factor · line[j]`` beside ``places[j]``, one by one; ``bins`` is scratch for as many."""
    low, inverse_width = grid(edges)
    last, real = line.dtype.type(len(edges) - 2), line.dtype.type
    for j in range(len(line)):
        bins[j] = np.int32(min(max((factor * line[j] - low) * inverse_width, real(0)), last))
    for j in range(len(line)):
        x = factor * line[j]
        b = bins[j]
        if x == x:  # a NaN is in no bin
            counts[b + np.int32(edges[b + 1] <= x) - np.int32(edges[b] > x), places[j]] += 1


def _pair_rows(rows, factors, edges, places, partners):  # type: ignore[no-untyped-def]
    """Elements ``factors[n] · rows[n, j]`` beside ``places[j]``.

    The two bins around zero are counted for each ``j`` over all samples, which needs no bin to be looked up.
    """
    N, m = rows.shape
    blocks = (m + _BLOCK - 1) // _BLOCK
    groups = min(blocks, _GROUPS)
    counts = np.zeros((groups, len(edges) - 1, partners), np.int64)
    low, inverse_width = grid(edges)
    zero = bin_of(rows.dtype.type(0), edges, low, inverse_width)
    other = max(zero - 1, 0)
    below, middle, above = edges[other], edges[zero], edges[zero + 1]
    for group in prange(groups):
        lefts, rights, bins = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
        mine = counts[group]
        for block in range(group * blocks // groups, (group + 1) * blocks // groups):
            start = block * _BLOCK
            size = min(_BLOCK, m - start)
            lefts[:] = 0
            rights[:] = 0
            for n in range(N):
                factor, line = factors[n], rows[n, start : start + size]
                inside = np.int32(0)
                for j in range(size):
                    x = factor * line[j]
                    inside += np.int32((x >= below) & (x < above))
                if inside < size - size // 16:
                    pair_line(factor, line, edges, places[start : start + size], mine, bins)
                    continue
                for j in range(size):
                    x = factor * line[j]
                    lefts[j] += np.int32((x >= below) & (x < middle))
                    rights[j] += np.int32((x >= middle) & (x < above))
                if inside == size:
                    continue
                for j in range(size):
                    x = factor * line[j]
                    if not (x >= below and x < above) and x == x:  # a NaN is in no bin
                        mine[bin_of(x, edges, low, inverse_width), places[start + j]] += 1
            for j in range(size):
                mine[other, places[start + j]] += lefts[j]
                mine[zero, places[start + j]] += rights[j]
    return counts


def _pair_lookups(rows, factors, owners, edges, places, partners):  # type: ignore[no-untyped-def]
    """Elements ``factors[r] · rows[r, j]`` beside ``places[owners[r], j]``."""
    R, m = rows.shape
    groups = min(R, _GROUPS)
    counts = np.zeros((groups, len(edges) - 1, partners), np.int64)
    low, inverse_width = grid(edges)
    for group in prange(groups):
        for r in range(group, R, groups):
            factor, line, own = factors[r], rows[r], places[owners[r]]
            for j in range(m):
                x = factor * line[j]
                if x == x:
                    counts[group, bin_of(x, edges, low, inverse_width), own[j]] += 1
    return counts


def _intervals(d, line, edges, low, inverse_width, ends):  # type: ignore[no-untyped-def]
    """Where the bins of ``d · line`` end in an ascending line (read backwards for a negative ``d``).

    Returns:
        The first bin, the last, and the one that holds most; ``ends`` holds where each of them ends.
    """
    m = len(line)
    rising = d >= 0
    first = bin_of(d * (line[0] if rising else line[m - 1]), edges, low, inverse_width)
    last = bin_of(d * (line[m - 1] if rising else line[0]), edges, low, inverse_width)
    longest, length, done = first, -1, 0
    for b in range(first, last + 1):
        i = m
        if b < last:  # how many products lie below the upper boundary of bin b
            i, j = done, m
            while i < j:
                half = (i + j) // 2
                if d * (line[half] if rising else line[m - 1 - half]) < edges[b + 1]:
                    i = half + 1
                else:
                    j = half
        ends[b] = i
        if i - done > length:
            longest, length = b, i - done
        done = i
    return first, last, longest


def _pair_sorted(lines, order, deltas, edges, places, partners):  # type: ignore[no-untyped-def]
    """Elements ``deltas[n, o] · lines[n, i]`` beside ``places[o, order[n, i]]``, for lines in ascending order.

    For one ``δ`` the bins are intervals of the line. The longest is given the counts of the whole row of ``places``;
    the elements outside it are moved to where they belong.
    """
    N, m = lines.shape
    O = deltas.shape[1]
    groups = min(O, _GROUPS)
    bins = len(edges) - 1
    counts = np.zeros((groups, bins, partners), np.int64)
    low, inverse_width = grid(edges)
    for group in prange(groups):
        mine = counts[group]
        ends, whole, times = np.empty(bins, np.int64), np.empty(partners, np.int64), np.empty(bins, np.int64)
        for o in range(group, O, groups):
            own = places[o]
            times[:] = 0
            for n in range(N):
                d, line, at = deltas[n, o], lines[n], order[n]
                if not (np.isfinite(d) and np.isfinite(line[0]) and np.isfinite(line[m - 1])):  # NaNs are at the end
                    for i in range(m):
                        x = d * line[i]
                        if x == x:
                            mine[bin_of(x, edges, low, inverse_width), own[at[i]]] += 1
                    continue
                first, last, longest = intervals(d, line, edges, low, inverse_width, ends)
                times[longest] += 1
                start = 0
                for b in range(first, last + 1):
                    if b != longest:
                        for i in range(start, ends[b]):
                            place = own[at[i if d >= 0 else m - 1 - i]]
                            mine[b, place] += 1
                            mine[longest, place] -= 1
                    start = ends[b]
            whole[:] = 0
            for i in range(m):
                whole[own[i]] += 1
            for b in range(bins):
                if times[b]:
                    mine[b] += times[b] * whole
    return counts


intervals = compile_loop(_intervals)
pair_line = compile_loop(_pair_line)
places_serial, places_parallel = build(_places)
pair_rows_serial, pair_rows_parallel = build(_pair_rows)
pair_lookups_serial, pair_lookups_parallel = build(_pair_lookups)
pair_sorted_serial, pair_sorted_parallel = build(_pair_sorted)
