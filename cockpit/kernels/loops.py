"""The compiled loops themselves. Each fills one row of counts per thread-sized block of samples.

Compiled at first use and cached on disk; a serial and a parallel build of the same source.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import njit, prange


def _bin(x, inner, low, inverse_width):  # type: ignore[no-untyped-def]
    """Number of boundaries not above ``x``: guessed from the width, settled by comparison."""
    top = len(inner)
    guess = (x - low) * inverse_width
    if guess < 0:
        b = 0
    elif guess > top:
        b = top
    else:
        b = int(guess)
    while b < top and inner[b] <= x:
        b += 1
    while b > 0 and inner[b - 1] > x:
        b -= 1
    return b


def _count_rows(rows, factors, inner):  # type: ignore[no-untyped-def]
    N, m = rows.shape
    top = len(inner)
    counts = np.zeros((N, top + 1), np.int64)
    low, width = inner[0], (inner[top - 1] - inner[0]) / max(1, top - 1)
    inverse_width = 1 / width if width > 0 else 0.0
    real = rows.dtype.type
    # Almost everything lies in the bin of zero or in the one below it: count those without branching, 512 at a time,
    # and look one by one only at the others.
    zero = bin_of(real(0), inner, low - width, inverse_width)
    middle = inner[zero - 1] if zero > 0 else real(-np.inf)
    below = inner[zero - 2] if zero > 1 else real(-np.inf)
    above = inner[zero] if zero < top else real(np.inf)
    for n in prange(N):
        f = factors[n]
        start = 0
        while start < m:
            stop = min(start + 512, m)
            left = np.int32(0)
            right = np.int32(0)
            for j in range(start, stop):
                x = f * rows[n, j]
                left += np.int32((x >= below) & (x < middle))
                right += np.int32((x >= middle) & (x < above))
            counts[n, zero] += right
            if zero > 0:
                counts[n, zero - 1] += left
            if left + right < stop - start:
                for j in range(start, stop):
                    x = f * rows[n, j]
                    if (x < below or x >= above) and x == x:
                        counts[n, bin_of(x, inner, low - width, inverse_width)] += 1
            start = stop
    return counts


def _count_products(inputs, deltas, inner):  # type: ignore[no-untyped-def]
    N, m = inputs.shape
    top = len(inner)
    counts = np.zeros((N, top + 1), np.int64)
    low, width = inner[0], (inner[top - 1] - inner[0]) / max(1, top - 1)
    inverse_width = 1 / width if width > 0 else 0.0
    for n in prange(N):
        for o in range(deltas.shape[1]):
            d = deltas[n, o]
            for j in range(m):
                x = d * inputs[n, j]
                if x == x:
                    counts[n, bin_of(x, inner, low - width, inverse_width)] += 1
    return counts


def _count_sorted(inputs, deltas, inner):  # type: ignore[no-untyped-def]
    """For one ``δ`` the bin is monotone in the input: bisect the boundaries among the sorted inputs."""
    N, m = inputs.shape
    top = len(inner)
    counts = np.zeros((N, top + 1), np.int64)
    low, width = inner[0], (inner[top - 1] - inner[0]) / max(1, top - 1)
    inverse_width = 1 / width if width > 0 else 0.0
    for n in prange(N):
        smallest, largest = inputs[n, 0], inputs[n, m - 1]
        for o in range(deltas.shape[1]):
            d = deltas[n, o]
            if d != d or np.isinf(d):
                for j in range(m):
                    x = d * inputs[n, j]
                    if x == x:
                        counts[n, bin_of(x, inner, low - width, inverse_width)] += 1
                continue
            rising = d >= 0
            first = bin_of(d * (smallest if rising else largest), inner, low - width, inverse_width)
            last = bin_of(d * (largest if rising else smallest), inner, low - width, inverse_width)
            done = 0
            for b in range(first, last):
                # How many products lie below the upper boundary of bin b.
                i, j = done, m
                while i < j:
                    middle = (i + j) // 2
                    x = d * (inputs[n, middle] if rising else inputs[n, m - 1 - middle])
                    if x < inner[b]:
                        i = middle + 1
                    else:
                        j = middle
                counts[n, b] += i - done
                done = i
            counts[n, last] += m - done
    return counts


bin_of = njit(cache=True, inline="always")(_bin)


def _build(function: Callable[..., Any]) -> tuple[Any, Any]:
    return njit(cache=True, nogil=True)(function), njit(cache=True, nogil=True, parallel=True)(function)


count_rows_serial, count_rows_parallel = _build(_count_rows)
count_products_serial, count_products_parallel = _build(_count_products)
count_sorted_serial, count_sorted_parallel = _build(_count_sorted)


def _threads_are_safe() -> bool:
    """Whether numba has a threading layer that may be entered from several threads of the program."""
    for layer in ("tbbpool", "omppool"):
        try:
            importlib.import_module(f"numba.np.ufunc.{layer}")
        except ImportError:  # built without it, or its shared library is missing
            continue
        return True
    return False


THREADS_ARE_SAFE = _threads_are_safe()


def set_threads(threads: int) -> None:
    """As many threads as torch uses, as far as numba started that many."""
    numba.set_num_threads(max(1, min(threads, int(numba.config.NUMBA_NUM_THREADS))))  # type: ignore[attr-defined]
