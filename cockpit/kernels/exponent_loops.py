"""The compiled loops that count by exponent. Each fills one row of counts per sample: zeros first, then the bins.

A number's exponent stands in its bits: biased, above the mantissa and below the sign.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from cockpit.kernels.loops import build, compile_loop

_BLOCK = 240
"""Elements whose exponents are tallied in the bytes of one word: no byte may overflow."""
_TALLIED = 7
"""Exponents to a word; its last byte counts all others."""


def _format(numbers):  # type: ignore[no-untyped-def]
    """Width of the mantissa, bias of the exponent, and the exponent of infinity with its bias."""
    if numbers.itemsize == 4:
        return 23, 127, 255
    return 52, 1023, 2047


def _tally(fields, n, top):  # type: ignore[no-untyped-def]
    """How often ``top``, ``top − 1``, … occur among the first ``n`` exponents, a byte each; the last: all below."""
    word = np.uint64(0)
    for j in range(n):
        below = top - fields[j]
        place = min(max(below, np.int32(0)), np.int32(_TALLIED))
        word += np.uint64(below >= 0) << np.uint64(place << 3)
    return word


def _count_line(factor, line, bits, fields, found):  # type: ignore[no-untyped-def]
    """Adds how often each biased exponent occurs among ``factor · line[j]``, zeros and NaNs left out.

    A table with a counter for each exponent would have to be visited once for each element; the tally of a block is
    arithmetic on whole registers, and most exponents of a block lie close together.

    Args:
        factor: A number.
        line: Numbers.
        bits: Scratch for the bits of a block of products, integers of the numbers' size.
        fields: Scratch for a block of exponents.
        found: Counts by exponent. Shape ``[exponents]``.

    Returns:
        How many products are zero.
    """
    width, _, full = number_format(line)
    products = bits.view(line.dtype)
    all_zeros = np.int64(0)
    for start in range(0, len(line), _BLOCK):
        block = line[start : start + _BLOCK]
        n = len(block)
        zeros = np.int32(0)
        unordered = np.int32(0)
        for j in range(n):
            x = factor * block[j]
            products[j] = x
            zeros += np.int32(x == 0)
            unordered += np.int32(x != x)
        top = np.int32(0)
        for j in range(n):
            field = np.int32((bits[j] >> width) & full)
            fields[j] = field
            top = max(top, field)
        all_zeros += zeros
        found[0] -= zeros
        found[full] -= unordered
        left = np.int64(n)
        while left > 0:
            word = tally(fields, n, top)
            for place in range(min(_TALLIED, int(top) + 1)):
                count = np.int64((word >> np.uint64(8 * place)) & np.uint64(255))
                found[top - place] += count
                left -= count
            top -= np.int32(_TALLIED)
            if left == zeros and top >= 0:  # far below all others, as they would take many rounds to come to
                found[0] += zeros
                break
    return all_zeros


def _fold(found, numbers, lowest, counts):  # type: ignore[no-untyped-def]
    """Adds counts by biased exponent to the bins; what is subnormal lies below every range."""
    bias = number_format(numbers)[1]
    last = len(counts) - 2
    for field in range(len(found)):
        counts[1 + min(max(field - bias - lowest, 0), last)] += found[field]


def _count_rows(rows, factors, integers, lowest, highest):  # type: ignore[no-untyped-def]
    """Counts of ``factors[n] · rows[n, j]``; ``integers`` tells the type of as many bits as a number has."""
    counts = np.zeros((len(rows), 1 + highest - lowest), np.int64)
    full = number_format(rows)[2]
    for n in prange(len(rows)):
        found = np.zeros(full + 1, np.int64)
        bits, fields = np.empty(_BLOCK, integers.dtype), np.empty(_BLOCK, np.int32)
        counts[n, 0] += count_exponent_line(factors[n], rows[n], bits, fields, found)
        fold_exponents(found, rows, lowest, counts[n])
    return counts


def _groups(bits, numbers, ones, starts, fields):  # type: ignore[no-untyped-def]
    """Runs of equal exponents among the bits of ascending positive numbers, which are brought into [1, 2) in ``ones``.

    Returns:
        How many runs there are: run ``g`` has the biased exponent ``fields[g]`` and begins at ``starts[g]``.
    """
    width, bias, _ = number_format(numbers)
    mantissa = (1 << width) - 1
    one = bias << width
    for k in range(len(bits)):
        ones[k] = (bits[k] & mantissa) | one
    groups = 0
    k = 0
    while k < len(bits):
        field = bits[k] >> width
        starts[groups], fields[groups] = k, field
        groups += 1
        k += np.searchsorted(bits[k:], (field << width) | mantissa, side="right")
    starts[groups] = len(bits)
    return groups


def _count_products(inputs, keys, lowest, highest):  # type: ignore[no-untyped-def]
    """Counts of ``δ_no · a_ni`` from the sorted ``|a_n|`` and the ``|δ_n|`` in the order of their mantissas.

    A product of mantissas in [1, 2) carries into the next exponent where it reaches 2. Among inputs of one exponent,
    sorted, those are the last ones, and from one ``δ`` to the next their number only grows: each input is looked at
    once for all of them, and each ``δ`` once for each exponent of the inputs. Rounding is the same at every exponent
    short of the smallest and largest, where the products are formed.

    Args:
        inputs: ``|a|``, ascending. Shape ``[N, I]``.
        keys: Bits of ``|δ|`` with the exponent behind the mantissa, ascending. Shape ``[N, O]``.
        lowest: Exponent of the first bin.
        highest: Exponent behind the last bin.
    """
    N, I = inputs.shape
    counts = np.zeros((N, 1 + highest - lowest), np.int64)
    width, bias, full = number_format(inputs)
    behind = 8 * inputs.itemsize - 1 - width
    for n in prange(N):
        line = inputs[n]
        zeros = np.searchsorted(line, line.dtype.type(0), side="right")
        ones, starts, fields = (
            np.empty(I - zeros, keys.dtype),
            np.empty(full + 2, np.int64),
            np.empty(full + 2, np.int64),
        )
        groups = exponent_groups(line.view(keys.dtype)[zeros:], line, ones, starts, fields)
        significands = ones.view(line.dtype)
        carrying = starts[1 : groups + 1].copy()  # where in each run the inputs begin that carry
        found = np.zeros(full + 1, np.int64)
        scratch, short = np.empty(_BLOCK, keys.dtype), np.empty(_BLOCK, np.int32)
        bits = np.empty(1, keys.dtype)
        delta = bits.view(line.dtype)
        usual = groups > 0 and fields[0] > 0 and fields[groups - 1] < full
        for o in range(keys.shape[1]):
            field, mantissa = keys[n, o] & full, keys[n, o] >> behind
            inside = field + fields[0] > bias and field + fields[groups - 1] < full + bias - 1
            if not (usual and 0 < field < full and inside):
                bits[0] = (field << width) | mantissa
                counts[n, 0] += count_exponent_line(delta[0], line, scratch, short, found)
                continue
            bits[0] = (bias << width) | mantissa
            significand = delta[0]
            for g in range(groups):
                p = carrying[g]
                while p > starts[g] and significand * significands[p - 1] >= 2:
                    p -= 1
                carrying[g] = p
                place = field + fields[g] - bias
                found[place] += p - starts[g]
                found[place + 1] += starts[g + 1] - p
            counts[n, 0] += zeros
        fold_exponents(found, inputs, lowest, counts[n])
    return counts


number_format, tally = compile_loop(_format), compile_loop(_tally)
count_exponent_line, fold_exponents = compile_loop(_count_line), compile_loop(_fold)
exponent_groups = compile_loop(_groups)
exponents_of_rows_serial, exponents_of_rows_parallel = build(_count_rows)
exponents_of_products_serial, exponents_of_products_parallel = build(_count_products)
