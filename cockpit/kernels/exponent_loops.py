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


def _unpack(keys, field_bits, bias, bits, fields):  # type: ignore[no-untyped-def]
    """Splits keys, as :func:`_count_products` is given them, into numbers in [1, 2) and biased exponents.

    Args:
        keys: Ascending; zeros come first.
        field_bits: Width of an exponent.
        bias: Of the exponent.
        bits: Filled with the bits of the numbers. Shape ``[K]``.
        fields: Filled with the exponents. Shape ``[K]``.

    Returns:
        How many are zero, and the smallest and the largest exponent of the others.
    """
    mask, one = (1 << field_bits) - 1, bias << (8 * keys.itemsize - 1 - field_bits)
    zeros = 0
    lowest, highest = mask, 0
    for k in range(len(keys)):
        key = keys[k]
        field = key & mask
        bits[k] = (key >> field_bits) | one
        fields[k] = field
        zeros += key == 0
        lowest = min(lowest, field if key else mask)
        highest = max(highest, field)
    return zeros, lowest, highest


def _count_products(inputs, input_keys, keys, lowest, highest):  # type: ignore[no-untyped-def]
    """Counts of ``δ_no · a_ni``, without forming them.

    A product of mantissas in [1, 2) carries into the next exponent where it reaches 2. With both in the order of their
    mantissas, the inputs that carry are the last ones, and from one ``δ`` to the next their number only grows: each
    input is looked at once for all of them. What a ``δ`` adds to the counts is the histogram of the inputs' exponents,
    moved by its own. Rounding is the same at every exponent short of the smallest and largest, where the products are
    formed.

    Args:
        inputs: ``a``. Shape ``[N, I]``.
        input_keys: Bits of ``|a|`` with the exponent behind the mantissa, ascending. Shape ``[N, I]``.
        keys: The same of ``|δ|``. Shape ``[N, O]``.
        lowest: Exponent of the first bin.
        highest: Exponent behind the last bin.
    """
    N, I = inputs.shape
    O = keys.shape[1]
    counts = np.zeros((N, 1 + highest - lowest), np.int64)
    width, bias, full = number_format(inputs)
    field_bits = 8 * inputs.itemsize - 1 - width
    for n in prange(N):
        bits, delta_bits = np.empty(I, keys.dtype), np.empty(O, keys.dtype)
        fields, delta_fields = np.empty(I, np.int32), np.empty(O, np.int32)
        zeros, smallest, largest = unpack(input_keys[n], field_bits, bias, bits, fields)
        unpack(keys[n], field_bits, bias, delta_bits, delta_fields)
        significands, deltas = bits.view(inputs.dtype), delta_bits.view(inputs.dtype)
        found = np.zeros(full + 1, np.int64)
        scratch, short, product = np.empty(_BLOCK, keys.dtype), np.empty(_BLOCK, np.int32), np.empty(1, keys.dtype)
        moved = np.zeros(max(largest - smallest, 0) + 2, np.int64)  # counts by exponent, from the smallest one on
        for k in range(zeros, I):
            moved[fields[k] - smallest] += 1
        usual = smallest > 0 and largest < full
        first = I  # of the inputs that carry
        for o in range(O):
            field = delta_fields[o]
            if keys[n, o] == 0 and largest < full:
                counts[n, 0] += I
                continue
            if not (usual and 0 < field < full and field + smallest > bias and field + largest < full + bias - 1):
                product[0] = (keys[n, o] >> field_bits) | (np.int64(field) << width)
                counts[n, 0] += count_exponent_line(product.view(inputs.dtype)[0], inputs[n], scratch, short, found)
                continue
            while first > zeros and deltas[o] * significands[first - 1] >= 2:
                first -= 1
                moved[fields[first] - smallest] -= 1
                moved[fields[first] - smallest + 1] += 1
            start = field + smallest - bias
            for k in range(len(moved)):
                found[start + k] += moved[k]
            counts[n, 0] += zeros
        fold_exponents(found, inputs, lowest, counts[n])
    return counts


number_format, tally = compile_loop(_format), compile_loop(_tally)
count_exponent_line, fold_exponents = compile_loop(_count_line), compile_loop(_fold)
unpack = compile_loop(_unpack)
exponents_of_rows_serial, exponents_of_rows_parallel = build(_count_rows)
exponents_of_products_serial, exponents_of_products_parallel = build(_count_products)
